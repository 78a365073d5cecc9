"""The first pictures, and what the model is asked about them."""

from ..embedded import shown_picture
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    shown = run.frames["stimuli"]
    grid = run.manifest["grid"] if run.task.place else None
    trials = [
        dict(name=trial, pictures=[shown_picture(row, grid) for row in rows.to_dict("records")])
        for trial, rows in shown.groupby("trial", sort=False)
    ]
    unseen = list(shown["unseen"].dropna().unique())
    return dict(
        prompts=list(shown["prompt"].unique()),
        trials=trials if run.shows_pictures else [],
        of=run.trials,
        unseen=unseen,
        gist=f"{len(trials)} of {run.trials} trials" if run.shows_pictures else "left out",
    )


SECTION = Section(
    order=10,
    link="Pictures",
    title="What the model is shown",
    needs=Needs({"stimuli": "trial condition prompt expected png unseen", "patch_heads": "trial"}),
    values=_values,
    fragment=beside(__file__),
)
