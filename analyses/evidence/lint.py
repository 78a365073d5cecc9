"""Check hypotheses before anything is measured: what they claim in words, whether they can fail and
can be told apart, what they need and cost, and how large an effect must be to be shown.

A role is a hypothesis only if it can fail, by at least one claim of an effect, and if it can be
told from the other roles.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, groupby

from rgb_circuit.edits import POSITIONS
from rgb_circuit.errors import InputError
from rgb_circuit.hypothesis import (
    ABOVE_EVEN,
    BELOW_MEDIAN,
    Hypothesis,
    Look,
    Prediction,
    Sweep,
    about_attention,
    about_words,
    what_is_done,
)
from rgb_circuit.statistics import fewest_trials
from rgb_circuit.task import Task
from rgb_circuit.task import pictures as shown

from . import power, rivals
from .asked import sweeps_of

_EXPECTED = {
    "up": "rises",
    "down": "falls",
    "mostly": "moves mostly",
    "below half": "rises less than half as much as with that attention",
    "above others": "rises above every other word",
    "biased": "rises for one right answer and falls for another",
    "not up": "does not rise",
    "not down": "does not fall",
    "none": "does not move",
}
_LOOKS = {
    ABOVE_EVEN: "more of its attention is on {} than if it attended to all tokens equally",
    BELOW_MEDIAN: "it looks at fewer places of the picture than half of the heads do",
}
_COMPONENTS = {
    "z": "its output",
    "pattern": "where it looks",
    "value": "what it reads",
    "query": "what it looks for",
    "key": "what it is found by",
}
_SILENCED = {"zero": "set to zero", "mean": "set to its mean over the trials"}
LEVEL = 0.05


def in_words(prediction: Prediction) -> str:
    """A prediction's claims about a head, in words.

    Examples:
        >>> from analyses.evidence.lint import in_words
        >>> from rgb_circuit.hypothesis import Prediction
        >>> text = "odd up: pattern over image clean -> erased"
        >>> in_words(Prediction.parse("A", text))
        'in erased, with where it looks over image from clean: the odd word rises'
    """
    blocks = groupby(prediction.claims, what_is_done)
    return "; ".join(f"{_done(what)}: {', '.join(map(_moves, claims))}" for what, claims in blocks)


def _done(sweep: Sweep | str):
    if isinstance(sweep, str):
        return f"in {sweep}, from [end]"
    what = _COMPONENTS[sweep.component] + (f" over {sweep.over}" if sweep.over else "")
    without = f" without its attention to {sweep.without}" if sweep.without else ""
    taken = _SILENCED.get(sweep.source, f"from {sweep.source}{without}")
    return f"in {sweep.target}, with {what} {taken}"


def _moves(claim):
    if isinstance(claim, Look):
        return _LOOKS[claim.expected].format(claim.at)
    route = f" {claim.sweep.part} the {claim.sweep.of}" if claim.sweep.of else ""
    return f"the {claim.role} word {_EXPECTED[claim.expected]}{route}"


def vague(hypothesis: Hypothesis) -> bool:
    """Whether heads that do nothing and look nowhere in particular can meet a hypothesis."""
    return any(not any(claim.is_effect for claim in claims) for claims in rivals.ways(hypothesis))


def pictures(hypothesis: Hypothesis) -> list[str]:
    """The conditions that a hypothesis needs, "clean" first."""
    return list(dict.fromkeys(["clean", *shown(hypothesis.tested)]))


def answers(hypothesis: Hypothesis) -> list[str]:
    """The roles of answers whose words a hypothesis needs."""
    claims = about_words(hypothesis.tested)
    varied = [prediction.varied for prediction in hypothesis.tested if prediction.varied]
    return list(dict.fromkeys([*(claim.role for claim in claims), *varied]))


def lacking(hypothesis: Hypothesis, hypotheses: Iterable[Hypothesis], task: Task) -> list[str]:
    """The needs of a hypothesis that a task lacks, in words.

    Args:
        hypotheses: those of the file, whose heads the claims may go through.
    """
    groups = {one.short for one in (*hypotheses, *task.hypotheses)}
    has = {"picture": list(task.conditions), "answer": list(task.roles)}
    needed = {"picture": pictures(hypothesis), "answer": answers(hypothesis)}
    return [
        *(
            f"the {kind} {name} (it has {', '.join(has[kind])})"
            for kind, names in needed.items()
            for name in names
            if name not in has[kind]
        ),
        *(f"heads called {name}" for name in hypothesis.groups if name not in groups),
    ]


def cost(hypotheses: Sequence[Hypothesis]) -> tuple[int, int]:
    """The number of sweeps of every head that hypotheses take with nothing frozen, and with frozen
    heads."""
    claims = about_words(
        prediction for hypothesis in hypotheses for prediction in hypothesis.tested
    )
    frozen = {(claim.sweep.whole, claim.sweep.of) for claim in claims if claim.sweep.of}
    return len({sweep for claim in claims for sweep in sweeps_of(claim)}), len(frozen)


def lines(hypotheses: Sequence[Hypothesis], task: Task, trials: int, heads: int) -> list[str]:
    """All findings as lines of text.

    Args:
        trials: the planned number.
        heads: the model's number of heads.

    Raises:
        InputError: no trials or heads.
    """
    for name, number in (("trials", trials), ("heads", heads)):
        if number < 1:
            raise InputError(f"{name} is {number}; give 1 or more")
    each = [[*_of_one(hypothesis, hypotheses, task), ""] for hypothesis in hypotheses]
    lacks = [lack for hypothesis in hypotheses for lack in lacking(hypothesis, hypotheses, task)]
    lines = [*chain(*each), *_together(hypotheses), *_cost(hypotheses, task, lacks)]
    lines += _many(hypotheses, task)
    # Attention has no gap that a head could restore.
    effects = about_words(prediction for one in hypotheses for prediction in one.tested)
    return [*lines, _power(trials, heads)] if effects else lines


def _of_one(hypothesis, hypotheses, task):
    lines = [f"{hypothesis.name}: {hypothesis.says}" if hypothesis.says else hypothesis.name]
    for prediction in hypothesis.predictions:
        instead = " or ".join(prediction.stands_in_for)
        more = f" (may replace {instead})" if instead else ""
        more += " – must be refuted" if prediction.name in hypothesis.refutes else ""
        lines.append(f"  {prediction.name:<9} {in_words(prediction)}{more}")
    lines += [line for rival in hypothesis.rivals for line in _rival(rival, hypothesis)]
    lacks = lacking(hypothesis, hypotheses, task)
    has = f"lacks {' and '.join(lacks)}" if lacks else "has them"
    boxes = _boxes(hypothesis)
    boxed = f"; and trials with a box {' and a box '.join(boxes)}" if boxes else ""
    return [
        *lines,
        f"  can fail  {_can_fail(hypothesis)}",
        f"  needs     {_needs(hypothesis)}: the task {task.name} {has}{boxed}",
    ]


def _needs(hypothesis):
    """The pictures and answers that a hypothesis needs."""
    named = {"pictures": pictures(hypothesis), "answers": answers(hypothesis)}
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in named.items() if names)


def _boxes(hypothesis):
    """The names of boxes that a hypothesis needs; no task says which of its trials have them."""
    sweeps = [claim.sweep for claim in about_words(hypothesis.tested)]
    limits = [limit for sweep in sweeps for limit in (sweep.over, sweep.without)]
    at = [look.at for look in about_attention(hypothesis.tested)]
    known = (*POSITIONS, "entropy", "")
    return [name for name in dict.fromkeys([*at, *limits]) if name not in known]


def _rival(rival, hypothesis):
    """A rival's claims, and a warning if it cannot be told from the hypothesis."""
    yield (
        f"  rival     {rival.name}: "
        f"{', '.join(prediction.name for prediction in rival.predictions)}"
    )
    for prediction in rival.predictions:
        if prediction not in hypothesis.predictions:
            yield f"  {prediction.name:<9} {in_words(prediction)}"
    if (hypothesis.name, rival.name) in rivals.covered([hypothesis, rival]):
        yield (
            "            every such head also meets the rival; let the rival claim something else"
        )


def _can_fail(hypothesis):
    if not rivals.ways(hypothesis):
        return "always fails: its claims contradict each other, so no head can meet them all"
    if vague(hypothesis):
        return (
            "no: it is vague, since heads that do nothing at all can meet it; add a claim of an "
            "effect, such as 'up'"
        )
    wanted = [claim for claims in rivals.ways(hypothesis) for claim in claims]
    if not any(claim.is_effect for claim in wanted if not isinstance(claim, Look)):
        return "yes, but only by where a head looks: it claims no effect of the head on the answer"
    return "yes: no head meets it without an effect"


def _together(hypotheses):
    """Pairs of hypotheses that no claim tells apart, and pairs that exclude each other."""
    covered, lines = rivals.covered(hypotheses), []
    for narrow, wide in covered:
        if (wide, narrow) not in covered:
            lines.append(
                f"Every {narrow} is a {wide} too: {wide} claims nothing that {narrow} does not."
            )
        elif (wide, narrow) not in covered[: covered.index((narrow, wide))]:
            lines.append(f"No claim distinguishes {narrow} from {wide}: they require the same.")
    possible = [hypothesis for hypothesis in hypotheses if rivals.ways(hypothesis)]
    for one, pairs in groupby(rivals.exclusive(possible), lambda pair: pair[0]):
        lines.append(f"No head can be both {one} and {' or '.join(other for _, other in pairs)}.")
    if len(hypotheses) > 1 and not covered:
        lines.append("A claim distinguishes each hypothesis from every other.")
    return lines


def _cost(hypotheses, task, lacks):
    tested = hypotheses if lacks else task.with_hypotheses(hypotheses).hypotheses
    joined = [one.name for one in tested if one not in hypotheses]
    whole, frozen = cost(tested)
    more = f", and {frozen} with heads frozen" if frozen else ""
    line = f"Costs {whole or 'no'} sweep{'s' * (whole != 1)} of every head over all trials{more}."
    if about_attention(prediction for one in tested for prediction in one.tested):
        line += " Attention is read from forwards that run anyway."
    if not joined:
        return [line]
    return [
        f"{line} The task's {' and '.join(joined)} is tested as well, since its heads are frozen."
    ]


def _many(hypotheses, task):
    new = [hypothesis for hypothesis in hypotheses if hypothesis not in task.hypotheses]
    if len(new) < 2:
        return []
    return [f"Tests of heads are corrected for all {len(new)} hypotheses."]


def _power(trials, heads):
    if trials < (fewest := fewest_trials(LEVEL)):
        are = "trials are" if trials > 1 else "trial is"
        return f"{trials} {are} too few: no test can reach {LEVEL} with fewer than {fewest}."
    shares = [
        power.smallest_share(trials, heads, variation, level=LEVEL)
        for variation in (power.EVEN, power.UNEVEN)
    ]
    return power.in_words(f"{trials} trials", *shares)
