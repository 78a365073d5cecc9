"""The first pictures, and the questions about them."""

from ..embedded import shown_pictures
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    shown = run.frames["stimuli"]
    trials = [
        dict(name=trial, pictures=shown_pictures(rows, run))
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
