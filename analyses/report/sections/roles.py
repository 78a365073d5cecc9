"""Which head has which role, prediction by prediction; for a role without heads, which come
closest."""

import pandas as pd

from rgb_circuit.heads import Head, rows_of
from rgb_circuit.hypothesis import what_is_done
from rgb_circuit.plots import effect_forest
from rgb_circuit.task import pictures

from ... import roles
from ...roles import standing
from ..embedded import shown_pictures, svg
from ..parts import moving
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import STRONGEST, name, percent, sentence

# State of a prediction → its sign, and the style of its mark.
MARKS = {
    "holds": ("✓", "yes"),
    "refuted": ("✗", "no"),
    "undecided": ("?", "quiet"),
    "void": ("–", "quiet"),
}


def _values(run: Run):
    if "roles" not in run.frames:
        return dict(why_not=run.why_not("roles"))
    evidence, table, task = run.frames["evidence"], run.frames["roles"], run.task
    named = table[table["role"] != "none"] if run.found else roles.closest(evidence, task=task)
    if named.empty:
        # No head has a score, for lack of a gap or of trials.
        why = roles.no_gap(evidence, task) or roles.refused(evidence, task)
        return dict(why_not=f"{why}. The effects of restoring each head are in evidence.parquet")
    named = named.loc[named["score"].abs().sort_values(ascending=False, kind="stable").index]
    colors = table.set_index(["layer", "head"])["colors"]
    heads, drawn = [], []
    for _, head in named.iterrows():
        rows, held = _asked(task, evidence, head)
        drawn.append(rows.assign(role=head["role"] if run.found else f"closest to {head['role']}"))
        heads.append(
            dict(
                name=name(head),
                role=head["role"],
                colors=colors[int(head["layer"]), int(head["head"])],
                rows=[
                    row | dict(restored=_restored(task, row["prediction"]))
                    for row in rows.to_dict("records")
                ],
                held=held,
            )
        )
    drawn = pd.concat(drawn)
    # Leave out shares of attention, which are not logits.
    drawn = drawn[~drawn["prediction"].map(lambda name: task.prediction(name).about_attention)]
    says = task.says_of_predictions
    ax = effect_forest(drawn, run.model, group="role", most=STRONGEST, says=says)
    return dict(
        right=task.right,
        found=run.found,
        heads=heads,
        forest=svg(ax.figure, "Effect and interval of each prediction for the heads in the table"),
        legend={name: says.get(name, "") for name in dict.fromkeys(evidence["prediction"])},
        n=evidence["n"].iloc[0],
        wrong=evidence["wrong"].iloc[0],
        counts=table["role"].replace("none", "no role").value_counts().to_dict(),
        every=len(table),
        where=_where(run.manifest["options"].get("positions", "end")),
        standings=[
            dict(
                role=role,
                state=stands.state,
                about=_about(stands.hypothesis),
                says=_says(stands),
                chips=_chips(task, evidence, stands),
            )
            for role, stands in standing.standings(evidence, task).items()
        ],
        strays=_strays(run, named),
        no_gap=roles.no_gap(evidence, task),
        refused=roles.refused(evidence, task),
        power={
            # --only-correct has already left out trials that could stray.
            variation: roles.power(
                evidence,
                variation,
                stray=0 if run.manifest["options"].get("only_correct") else None,
            )
            for variation in (0.25, 1.0)
        },
    )


def _chips(task, evidence, stands):
    """A row per head with the role, or per nearest open head: ``name``, ``score`` of open ones and
    ``marks``, one per prediction that counts: ``name, sign, kind, says``."""
    scores = (
        {}
        if stands.heads
        else dict(
            ((row["layer"], row["head"]), percent(row["score"]))
            for row in moving(stands.open).head(STRONGEST).to_dict("records")
        )
    )
    says, rows = task.says_of_predictions, []
    for head in stands.heads or scores:
        where = dict(layer=head[0], head=head[1], role=stands.hypothesis.name)
        rows_of_head, _ = _asked(task, evidence, where)
        left = set(rows_of_head.loc[rows_of_head["state"] != "refuted", "prediction"])
        # If one prediction may replace another, the other may be refuted.
        spared = {
            spare
            for slot in stands.hypothesis.slots
            if left & set(slot)
            for spare in set(slot) - left
        }
        rows_of_head = rows_of_head[~rows_of_head["prediction"].isin(spared)]
        marks = [
            dict(name=row["prediction"], says=says.get(row["prediction"], ""))
            | dict(zip(("sign", "kind"), MARKS["void" if row["void"] else row["state"]]))
            for row in rows_of_head.to_dict("records")
        ]
        rows.append(dict(name=name(where), score=scores.get(head, ""), marks=marks))
    return rows


def _strays(run, named):
    """Strays with kept pictures: the head, the prediction, the number of trials, and the pictures
    of the trial that strays most."""
    if "strays" not in run.frames:
        return []
    shown, evidence, strays = run.frames["strays"], run.frames["evidence"], []
    for _, head in named.iterrows():
        for role in head["role"].split(" + "):
            where, hypothesis = (head["layer"], head["head"]), run.task.hypothesis(role)
            for row in standing.strays(evidence, where, hypothesis).to_dict("records"):
                pictures = shown[shown["trial"] == row["stray"]]
                pictures = pictures[
                    pictures["condition"].isin(_shown_in(run.task, row["prediction"]))
                ]
                if len(pictures):
                    seen = shown_pictures(pictures, run)
                    strays.append(row | dict(head=name(head), pictures=seen))
    return strays


def _shown_in(task, wanted):
    """The conditions that a prediction uses."""
    return {"clean", *pictures([task.prediction(wanted)])}


def _about(hypothesis):
    """A sentence on what heads of a role do."""
    if not hypothesis.says:
        return ""
    return f"{sentence(standing.one_of([hypothesis]))[:-1]} {hypothesis.says}."


def _says(stands):
    """The heads with a role, or what the open ones lack."""
    return ", ".join(str(Head(*head)) for head in stands.heads) or standing.nearly(stands) or "–"


def _asked(task, evidence, head):
    """A head's rows for the predictions of its roles, without alternatives to one that holds; and
    how many of the required predictions hold, in words."""
    rows = rows_of(evidence, (head["layer"], head["head"]))
    rows = rows.set_index("prediction")
    wanted = [slot for role in head["role"].split(" + ") for slot in task.hypothesis(role).slots]
    holding = [[name for name in slot if rows.loc[name, "holds"]] for slot in wanted]
    names = [name for slot, held in zip(wanted, holding) for name in held or slot]
    refutes = [name for role in head["role"].split(" + ") for name in task.hypothesis(role).refutes]
    names += refutes
    shown = rows.loc[list(dict.fromkeys(names))].reset_index()
    met = sum(map(bool, holding)) + sum(rows.loc[name, "state"] == "refuted" for name in refutes)
    return shown, f"{met} of {len(wanted) + len(refutes)}"


def _where(positions):
    return "[end]" if positions == "end" else f"positions “{positions}”"


def _restored(task, wanted):
    """What a prediction restores, from which picture into which."""
    sweep = what_is_done(task.prediction(wanted).claims[0])
    if isinstance(sweep, str):
        return f"attention from [end], {sweep}"
    return f"{sweep.restores}, {sweep.source} → {sweep.target}"


SECTION = Section(
    order=40,
    link="Roles",
    title="Which head has which role",
    needs=Needs(
        optional=[
            {
                "evidence": "layer head prediction expected effect ci_low ci_high "
                "restored_fraction q_value n holds state trials_to_decide void weakest wrong "
                "outside stray",
                "roles": "layer head role score colors",
            },
            {"strays": "trial condition expected png"},
        ],
        task=("hypotheses",),
    ),
    values=_values,
    fragment=beside(__file__),
    open=True,
)
