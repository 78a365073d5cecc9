"""What can be said of hypotheses before anything is measured: what they claim in words, whether
they can fail and are told apart, what they need and cost, and how large an effect must be to be
shown.

A role is a hypothesis only if it can fail, by at least one claim of an effect, and if it can be
told from the other roles.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, groupby

from rgb_circuit.edits import ARTIFICIAL
from rgb_circuit.errors import InputError
from rgb_circuit.hypothesis import Hypothesis, Prediction, Sweep
from rgb_circuit.statistics import fewest_trials
from rgb_circuit.task import Task, pictures_of

from . import power, rivals, sweeps_of

_EXPECTED = {
    "up": "rises",
    "down": "falls",
    "mostly": "moves mostly",
    "below half": "rises less than half as much as with that attention",
    "above others": "rises above every other word",
    "not up": "does not rise",
    "not down": "does not fall",
    "none": "stays",
}
_COMPONENTS = {
    "z": "its output",
    "pattern": "where it looks",
    "value": "what it reads",
    "query": "what it looks for",
    "key": "what it is found by",
}
LEVEL = 0.05


def in_words(prediction: Prediction) -> str:
    """What a prediction claims of a head, in words.

    Examples:
        >>> from analyses.evidence.lint import in_words
        >>> from rgb_circuit.hypothesis import Prediction
        >>> in_words(Prediction.parse("A", "odd up, other down: pattern over image clean -> erased"))
        'in erased, with where it looks over image from clean: the odd word rises, the other word falls'
    """
    blocks = groupby(prediction.claims, lambda claim: claim.sweep.whole)
    return "; ".join(
        f"{_done(sweep)}: {', '.join(map(_moves, claims))}" for sweep, claims in blocks
    )


def _done(sweep: Sweep):
    what = _COMPONENTS[sweep.component] + (f" over {sweep.over}" if sweep.over else "")
    without = f" without its attention to {sweep.without}" if sweep.without else ""
    taken = "set to zero" if sweep.source in ARTIFICIAL else f"from {sweep.source}{without}"
    return f"in {sweep.target}, with {what} {taken}"


def _moves(claim):
    route = f" {claim.sweep.part} the {claim.sweep.of}" if claim.sweep.of else ""
    return f"the {claim.role} word {_EXPECTED[claim.expected]}{route}"


def vague(hypothesis: Hypothesis) -> bool:
    """Whether a hypothesis can be met without any effect, as heads that do nothing do."""
    return any(not any(claim.is_effect for claim in claims) for claims in rivals.ways(hypothesis))


def pictures(hypothesis: Hypothesis) -> list[str]:
    """The conditions that a hypothesis needs, "clean" first."""
    claims = [claim for prediction in hypothesis.predictions for claim in prediction.claims]
    return list(
        dict.fromkeys(["clean", *(name for claim in claims for name in pictures_of(claim.sweep))])
    )


def answers(hypothesis: Hypothesis) -> list[str]:
    """The roles of answers that a hypothesis needs words of."""
    claims = [claim for prediction in hypothesis.predictions for claim in prediction.claims]
    varied = [prediction.varied for prediction in hypothesis.predictions if prediction.varied]
    return list(dict.fromkeys([*(claim.role for claim in claims), *varied]))


def lacking(hypothesis: Hypothesis, hypotheses: Iterable[Hypothesis], task: Task) -> list[str]:
    """What a hypothesis needs and a task lacks, in words.

    Args:
        hypotheses: those of the file, whose heads it may go through.
    """
    groups = {one.short for one in (*hypotheses, *task.hypotheses)}
    return [
        *(f"the picture {name}" for name in pictures(hypothesis) if name not in task.conditions),
        *(f"the answer {name}" for name in answers(hypothesis) if name not in task.roles),
        *(f"heads called {name}" for name in hypothesis.groups if name not in groups),
    ]


def cost(hypotheses: Sequence[Hypothesis]) -> tuple[int, int]:
    """How many sweeps of every head hypotheses take with nothing frozen, and how many with frozen
    heads."""
    claims = [
        claim
        for hypothesis in hypotheses
        for prediction in hypothesis.predictions
        for claim in prediction.claims
    ]
    frozen = {(claim.sweep.whole, claim.sweep.of) for claim in claims if claim.sweep.of}
    return len({sweep for claim in claims for sweep in sweeps_of(claim)}), len(frozen)


def lines(hypotheses: Sequence[Hypothesis], task: Task, trials: int, heads: int) -> list[str]:
    """All of it as lines of text.

    Args:
        trials: how many there will be.
        heads: of the model.

    Raises:
        InputError: no trials or heads.
    """
    for name, number in (("trials", trials), ("heads", heads)):
        if number < 1:
            raise InputError(f"{name} is {number}; give 1 or more")
    each = [[*_of_one(hypothesis, hypotheses, task), ""] for hypothesis in hypotheses]
    lacks = [lack for hypothesis in hypotheses for lack in lacking(hypothesis, hypotheses, task)]
    return [
        *chain(*each),
        *_together(hypotheses),
        *_cost(hypotheses, task, lacks),
        _power(trials, heads),
    ]


def _of_one(hypothesis, hypotheses, task):
    lines = [f"{hypothesis.name}: {hypothesis.says}" if hypothesis.says else hypothesis.name]
    for prediction in hypothesis.predictions:
        instead = " or ".join(prediction.stands_in_for)
        lines.append(
            f"  {prediction.name:<9} {in_words(prediction)}{instead and f' (instead of {instead})'}"
        )
    lacks = lacking(hypothesis, hypotheses, task)
    has = f"lacks {' and '.join(lacks)}" if lacks else "has them"
    return [
        *lines,
        f"  can fail  {_can_fail(hypothesis)}",
        f"  needs     pictures {', '.join(pictures(hypothesis))}; answers "
        f"{', '.join(answers(hypothesis))}: the task {task.name} {has}",
    ]


def _can_fail(hypothesis):
    if not rivals.ways(hypothesis):
        return "always fails: its claims contradict each other, so no head can meet them all"
    if vague(hypothesis):
        return (
            "no: it is vague, since heads that do nothing at all can meet it; add a claim of an "
            "effect, such as 'up'"
        )
    return "yes: no head meets it without an effect"


def _together(hypotheses):
    """Pairs that nothing tells apart, and pairs that no head can be."""
    covered, lines = rivals.covered(hypotheses), []
    for narrow, wide in covered:
        if (wide, narrow) not in covered:
            lines.append(
                f"Every {narrow} is a {wide} too: {wide} claims nothing that {narrow} does not."
            )
        elif (wide, narrow) not in covered[: covered.index((narrow, wide))]:
            lines.append(f"No claim tells {narrow} from {wide}: they ask for the same.")
    possible = [hypothesis for hypothesis in hypotheses if rivals.ways(hypothesis)]
    for one, pairs in groupby(rivals.exclusive(possible), lambda pair: pair[0]):
        lines.append(f"No head can be both {one} and {' or '.join(other for _, other in pairs)}.")
    if len(hypotheses) > 1 and not covered:
        lines.append("Each is told from every other by a claim.")
    return lines


def _cost(hypotheses, task, lacks):
    tested = hypotheses if lacks else task.with_hypotheses(hypotheses).hypotheses
    joined = [one.name for one in tested if one not in hypotheses]
    whole, frozen = cost(tested)
    more = f", and {frozen} with heads frozen" if frozen else ""
    line = f"Costs {whole} sweep{'s' * (whole > 1)} of every head over all trials{more}."
    if not joined:
        return [line]
    return [
        f"{line} The task's {' and '.join(joined)} is tested as well, since its heads are frozen."
    ]


def _power(trials, heads):
    if trials < (fewest := fewest_trials(LEVEL)):
        are = "trials are" if trials > 1 else "trial is"
        return f"{trials} {are} too few: no test can reach {LEVEL} with fewer than {fewest}."
    shares = [
        power.smallest_share(trials, heads, variation, level=LEVEL) for variation in (0.25, 1.0)
    ]
    return power.in_words(trials, *shares)
