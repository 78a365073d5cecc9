"""A user's own hypotheses: what each claims, which heads are shown to meet it, and what is open."""

import base64
import re

from rgb_circuit.hypothesis import Hypothesis
from rgb_circuit.measuring.registered import claims_hash, registered_of
from rgb_circuit.stimuli.tasks import to_toml

from ... import roles
from ...evidence import lint
from ...roles import standing
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import name, sentence

# How many heads are listed for a hypothesis that no head is shown to meet.
CLOSEST = 3


def _values(run: Run):
    claims = registered_of(run.manifest)
    if claims is None:
        return None
    plain = run.task.plain()
    text = claims.file or to_toml(
        {key: plain[key] for key in ("predictions", "hypotheses") if key in plain}
    )
    encoded = base64.b64encode(text.encode()).decode()
    registered = dict(
        says=claims.says,
        exploratory=claims.exploratory,
        hash=claims.hash,
        file=f"data:application/toml;base64,{encoded}",
    )
    if "evidence" not in run.frames:
        return dict(why_not=run.why_not("roles"))
    stands = standing.standings(run.frames["evidence"], run.task)
    rates = run.frames.get("hypotheses_calibration")
    if rates is not None:
        rates = rates[rates["claims"] == claims_hash(run.task)]
    return dict(
        **registered,
        hypotheses=[
            _one(run, hypothesis, stands[hypothesis.name])
            | dict(rates=[] if rates is None else _rates(rates, hypothesis))
            for hypothesis in run.task.hypotheses
        ],
        several=len(run.task.hypotheses) > 1,
    )


def _one(run, hypothesis, stands):
    """The values of one hypothesis."""
    evidence = run.frames["evidence"]
    heads = stands.heads or [
        (row.layer, row.head) for row in stands.open.head(CLOSEST).itertuples()
    ]
    if not heads:
        scores = roles.scores_by_role(evidence, run.task)[hypothesis.name].dropna()
        heads = list(scores.sort_values(ascending=False, kind="stable").head(CLOSEST).index)
    return dict(
        name=hypothesis.name,
        says=hypothesis.says,
        cites=_link(hypothesis.cites),
        verdict=_verdict(stands),
        shown=bool(stands.heads),
        claims=[_claim(prediction, hypothesis) for prediction in hypothesis.predictions],
        heads=[_head(evidence, hypothesis, head, run) for head in heads],
        decide=sentence(standing.nearly(stands)) if len(stands.open) else "",
        rivals=[
            dict(
                name=rival.name,
                claims=[
                    _claim(prediction, rival)
                    for prediction in rival.predictions
                    if prediction not in hypothesis.predictions
                ],
            )
            for rival in hypothesis.rivals
        ],
    )


def _verdict(stands):
    if stands.heads:
        several = len(stands.heads) > 1
        names = ", ".join(name(dict(layer=layer, head=head)) for layer, head in stands.heads)
        return f"Shown for {'these heads' if several else 'this head'}: {names}."
    return sentence(standing.none_is(stands))


def _claim(prediction, hypothesis: Hypothesis):
    instead = " or ".join(prediction.stands_in_for)
    return dict(
        name=prediction.name,
        text=prediction.text,
        words=lint.in_words(prediction),
        says=prediction.says,
        instead=instead,
        refuted=prediction.name in hypothesis.refutes,
    )


def _head(evidence, hypothesis, head, run):
    """A head's rows, and its open rival explanations."""
    rows = evidence[(evidence["layer"] == head[0]) & (evidence["head"] == head[1])]
    wanted = [prediction.name for prediction in hypothesis.tested]
    rows = rows.set_index("prediction", drop=False).loc[wanted]
    left = standing.open_rivals(evidence, hypothesis, head)
    return dict(
        name=name(dict(layer=head[0], head=head[1])),
        rows=[
            row | dict(unit=_unit(run.task.prediction(row["prediction"])))
            for row in rows.to_dict("records")
        ],
        open=left,
        out=[rival.name for rival in hypothesis.rivals if rival.name not in left],
    )


def _unit(prediction):
    if not prediction.about_attention:
        return "logits"
    return "nats" if prediction.claims[0].at == "entropy" else "of all attention"


def _link(cites):
    """The link and the text of a citation."""
    arxiv = re.fullmatch(r"(?:arXiv:)?(\d{4}\.\d{4,5})(?:v\d+)?", cites.strip())
    return dict(text=cites, url=f"https://arxiv.org/abs/{arxiv[1]}" if arxiv else "")


def _rates(rates, hypothesis):
    return rates[rates["hypothesis"] == hypothesis.name].to_dict("records")


SECTION = Section(
    order=38,
    link="Hypotheses",
    title="Claims about heads, and which heads meet them",
    needs=Needs(
        optional=[
            {
                "evidence": "layer head prediction expected effect ci_low ci_high "
                "restored_fraction q_value n holds state trials_to_decide void weakest wrong "
                "outside stray"
            },
            {
                "hypotheses_calibration": "claims hypothesis check size heads testable given rate "
                "rate_low rate_high informative p_value trials"
            },
        ],
    ),
    values=_values,
    fragment=beside(__file__),
    open=True,
)
