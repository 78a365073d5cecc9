"""Which heads carry the question, and which of its words they look at."""

from rgb_circuit.heads import rows_of

from ..run import Needs, Run
from ..section import Section, beside
from ..writing import LEAST_SHARE, STRONGEST, name, percent, receiver


def _values(run: Run):
    if "task_reading" not in run.frames:
        return dict(why_not=f"not measured: {run.why_not('task_reading')}")
    frame, (_, other) = run.frames["task_reading"], run.task.second_question or ("", run.task.right)
    held = frame[frame["holds"]].sort_values("effect", ascending=False, kind="stable")
    shown = held.head(STRONGEST)
    rows = [
        row
        | dict(
            name=name(row),
            where=row["prediction"].removeprefix("restored ").removesuffix(", switches"),
        )
        | dict(looks=_most_looked_at(run, row["layer"], row["head"]))
        for row in shown.to_dict("records")
    ]
    return dict(
        right=run.task.right,
        reader=receiver(run.task),
        other=other,
        says={
            name: run.task.roles[role].says or role
            for name, role in (("right", run.task.right), ("other", other))
        },
        rows=rows,
        found=len(held.drop_duplicates(["layer", "head"])),
        every=len(frame.drop_duplicates(["layer", "head"])),
        n=frame["n"].iloc[0],
    )


def _most_looked_at(run, layer, head):
    """The two words after the picture that a head attends to most from [end], if it does; None if
    its attention is unknown."""
    if "question_attention" not in run.frames:
        return None
    frame = run.frames["question_attention"]
    words = rows_of(frame, (layer, head)).nlargest(2, "attention")
    seen = words[words["attention"] >= LEAST_SHARE]
    return (
        ", ".join(f"“{row.to_word}” {percent(row.attention)}" for row in seen.itertuples())
        or "none"
    )


SECTION = Section(
    order=90,
    link="Question",
    title="Which heads carry the question",
    needs=Needs(
        optional=[
            {
                "task_reading": "layer head prediction effect ci_low ci_high restored_fraction "
                "q_value n holds"
            },
            {"question_attention": "layer head to_word attention"},
        ],
        task=("second_question",),
    ),
    values=_values,
    fragment=beside(__file__),
)
