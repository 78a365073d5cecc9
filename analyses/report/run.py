"""A run's folder as the report reads it."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
from PIL import Image

from rgb_circuit.calls.panels import mean_floor
from rgb_circuit.errors import InputError
from rgb_circuit.files.results import read_frame
from rgb_circuit.keeping.manifest import read_manifest
from rgb_circuit.keeping.saved_run import recorded_task
from rgb_circuit.plots.canvas import model_title
from rgb_circuit.stimuli.replicates import averaged, recorded_clusters, said
from rgb_circuit.task import Task

# What stands for a picture that may not be passed on.
BLANK = (200, 200, 200)
MANIFEST = ("options", "trials", "versions", "layers", "heads", "task")


@dataclass(frozen=True)
class Needs:
    """What a part of the page is made of.

    Attributes:
        frames: frame → the columns that it must have, separated by spaces. A folder without one of
            these frames is refused.
        optional: frames that may be missing, in groups that say nothing without each other: where
            one of a group is missing, none of them is read.
        added: frames that not every run has, and without which there is nothing to show; else as
            frames.
        task: what it needs of the task: names of `rgb_circuit.task.Task`, such as "hypotheses".
            Where one of these is empty there is nothing to show.
    """

    frames: Mapping[str, str] = field(default_factory=dict)
    optional: Sequence[Mapping[str, str]] = ()
    added: Mapping[str, str] = field(default_factory=dict)
    task: tuple[str, ...] = ()

    @property
    def may_lack(self) -> list[Mapping[str, str]]:
        """The groups of frames that a folder may lack."""
        return [*self.optional, self.added]

    @property
    def groups(self) -> list[Mapping[str, str]]:
        """All frames, in their groups."""
        return [self.frames, *self.may_lack]


# What a `Run` itself is made of.
NEEDS = Needs({"patch_heads": "trial", "panels": "effect gap", "left_out": "frame reason"})
# A share of the gap that is nothing anybody would act on.
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    Attributes:
        folder: where it is.
        manifest: as `rgb_circuit.keeping.manifest.manifest` has it.
        frames: name → frame, of those that are there. In ``panels``, what rounding alone may be is
            0, and a column ``rounding`` says where.
        reasons: frame → why it is not there.
    """

    folder: Path
    manifest: Mapping
    frames: Mapping[str, pd.DataFrame]
    reasons: Mapping[str, str]

    @cached_property
    def task(self) -> Task:
        """The task of the run, as its manifest has it."""
        return recorded_task(self.manifest)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest["model"]

    @property
    def model_title(self) -> str:
        """The model's name without the folders that it lies in, which are nobody else's
        business."""
        return model_title(self.model)

    @property
    def name(self) -> str:
        """What the run is called: as it was named, or as its model, of whose path the last part
        will do."""
        return self.manifest["options"].get("name") or self.model_title.rpartition("/")[2]

    @property
    def views(self) -> int:
        """How often the model is shown a picture."""
        return self.manifest.get("views", 1)

    @property
    def drawn(self) -> str:
        """What attention is drawn over: the picture, or the first view of one that is shown in
        several."""
        return "the first view of the picture" if self.views > 1 else "the picture"

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures may be passed on with the page."""
        return not self.manifest["options"].get("no_pictures", False)

    @property
    def trials(self) -> int:
        """How many trials everything but the game is measured on."""
        return self.frames["patch_heads"]["trial"].nunique()

    @cached_property
    def tiles(self) -> dict[str, list[int] | None]:
        """Trial → row and column of its marked tile, or None where it has none."""
        return {trial["name"]: trial.get("tile") for trial in self.manifest["trials"]}

    @cached_property
    def clusters(self) -> dict[str, str]:
        """Name of a trial → its cluster (`rgb_circuit.stimuli.replicates`)."""
        return recorded_clusters(self.manifest["trials"], self.task)

    @property
    def n(self) -> str:
        """What everything but the game is measured on, such as "32 trials in 8 clusters"."""
        measured = self.frames["patch_heads"]["trial"].astype(str).unique()
        return said(len(measured), len({self.clusters.get(name, name) for name in measured}))

    @property
    def observations(self) -> str:
        """What the n of a frame counts."""
        return "trials" if " in " not in self.n else "clusters of trials"

    def observed(self, name: str) -> pd.DataFrame:
        """A frame that has a row per trial, with a row per cluster."""
        return averaged(self.frames[name], self.clusters)

    @property
    def floor(self) -> float:
        """Below what a mean effect may be rounding alone, in logits."""
        return mean_floor(self.frames["patch_heads"].attrs.get("noise_floor", 0.0), self.trials)

    @property
    def least(self) -> float:
        """Up to what a mean effect is written as about nothing, in logits: rounding, or a
        ten-thousandth of the gap."""
        gap = self.frames["panels"]["gap"].abs().max()
        return max(self.floor, 0.0 if pd.isna(gap) else LEAST_SHARE * float(gap))

    @property
    def found(self) -> bool:
        """Whether a head has a role."""
        return "roles" in self.frames and bool((self.frames["roles"]["role"] != "none").any())

    def role_of(self, frame: pd.DataFrame) -> str:
        """The role that is shown of a frame that has several: of the right answer, or the first."""
        right = self.task.conditions["clean"].right
        return (
            right
            if right is not None and right in set(frame["role"])
            else str(frame["role"].iloc[0])
        )

    def has(self, needs: Needs) -> bool:
        """Whether the run has to do with what a section shows: its task says what that is about,
        and all frames are there without which there is nothing to show."""
        return set(needs.added) <= set(self.frames) and all(
            getattr(self.task, name) for name in needs.task
        )

    def why_not(self, name: str) -> str:
        """Why a frame is missing."""
        return self.reasons.get(
            name, f"this folder holds no {name}.parquet; run rgb-circuit run again with this --out"
        )


def read(folder: Path, needs: Iterable[Needs]) -> Run:
    """Read what the parts of the page need of a run's folder.

    Raises:
        InputError: a folder without a run's manifest and frames, a frame that lacks a column, or
            what cannot be read.
    """
    manifest = read_manifest(folder)
    if missing := [name for name in MANIFEST if name not in manifest]:
        raise InputError(
            f"the manifest in {folder} lacks {', '.join(missing)}; run rgb-circuit run again with "
            "this --out"
        )
    needs = [NEEDS, *needs]
    columns: dict[str, dict[str, None]] = {}
    for one in needs:
        for name, names in [pair for some in one.groups for pair in some.items()]:
            columns.setdefault(name, {}).update(dict.fromkeys(names.split()))
    always = {name for one in needs for name in one.frames}
    there = {name for name in columns if (folder / f"{name}.parquet").is_file()}
    halves = {
        name
        for one in needs
        for group in one.may_lack
        if not there.issuperset(group)
        for name in group
    }
    wanted = [name for name in columns if name in always or name in there - halves]
    frames = {name: read_frame(folder, name, list(columns[name])) for name in wanted}
    reasons = frames.pop("left_out")[["frame", "reason"]].itertuples(index=False, name=None)
    run = Run(folder, manifest, frames, dict(reasons))
    if not run.shows_pictures and "stimuli" in frames:
        frames["stimuli"] = frames["stimuli"].assign(png=frames["stimuli"]["png"].map(_blank))
    effect = frames["panels"]["effect"]
    frames["panels"] = frames["panels"].assign(
        effect=effect.mask(effect.abs() <= run.floor, 0.0), rounding=effect.abs() <= run.floor
    )
    return run


def _blank(png):
    """A grey picture of the same size, as a PNG."""
    blank, file = Image.new("RGB", Image.open(io.BytesIO(png)).size, BLANK), io.BytesIO()
    blank.save(file, format="PNG")
    return file.getvalue()
