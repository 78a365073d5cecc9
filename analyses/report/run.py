"""A run's folder, as the report reads it."""

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

# The colour that replaces a picture that may not be shared.
BLANK = (200, 200, 200)
MANIFEST = ("options", "trials", "versions", "layers", "heads", "task")


@dataclass(frozen=True)
class Needs:
    """The data that a part of the page needs.

    Attributes:
        frames: frame → its required columns, separated by spaces. A folder without one of these
            frames is refused.
        optional: frames that may be missing, in groups: if one frame of a group is missing, none of
            the group is read.
        added: frames that not every run has; without them there is nothing to show. As ``frames``.
        task: required attributes of `rgb_circuit.task.Task`, such as "hypotheses". If one of these
            is empty there is nothing to show.
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


# The data that `Run` itself needs.
NEEDS = Needs({"patch_heads": "trial", "panels": "effect gap", "left_out": "frame reason"})
# A share of the gap below which an effect is negligible.
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Run:
    """The contents of a run's folder.

    Attributes:
        folder: its path.
        manifest: as `rgb_circuit.keeping.manifest.manifest` has it.
        frames: name → frame, if present. In ``panels``, effects that may be rounding alone are 0,
            marked by a column ``rounding``.
        reasons: missing frame → reason.
    """

    folder: Path
    manifest: Mapping
    frames: Mapping[str, pd.DataFrame]
    reasons: Mapping[str, str]

    @cached_property
    def task(self) -> Task:
        """The task of the run, from its manifest."""
        return recorded_task(self.manifest)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest["model"]

    @property
    def model_title(self) -> str:
        """The model's name without its parent folders, which are private."""
        return model_title(self.model)

    @property
    def name(self) -> str:
        """The run's title: its name, else the last part of the model's path."""
        return self.manifest["options"].get("name") or self.model_title.rpartition("/")[2]

    @property
    def views(self) -> int:
        """How many views of a picture the model is shown."""
        return self.manifest.get("views", 1)

    @property
    def drawn(self) -> str:
        """What attention is drawn over, in words: the picture, or the first of several views."""
        return "the first view of the picture" if self.views > 1 else "the picture"

    @property
    def shows_pictures(self) -> bool:
        """Whether the page may contain pictures."""
        return not self.manifest["options"].get("no_pictures", False)

    @property
    def trials(self) -> int:
        """The number of trials of everything but the game."""
        return self.frames["patch_heads"]["trial"].nunique()

    @cached_property
    def tiles(self) -> dict[str, list[int] | None]:
        """Trial → row and column of its marked tile, or None."""
        return {trial["name"]: trial.get("tile") for trial in self.manifest["trials"]}

    @cached_property
    def clusters(self) -> dict[str, str]:
        """Name of a trial → its cluster (`rgb_circuit.stimuli.replicates`)."""
        return recorded_clusters(self.manifest["trials"], self.task)

    @property
    def n(self) -> str:
        """The n of everything but the game, in words, such as "32 trials in 8 clusters"."""
        measured = self.frames["patch_heads"]["trial"].astype(str).unique()
        return said(len(measured), len({self.clusters.get(name, name) for name in measured}))

    @property
    def observations(self) -> str:
        """What n counts in a frame."""
        return "trials" if " in " not in self.n else "clusters of trials"

    def observed(self, name: str) -> pd.DataFrame:
        """A frame with a row per trial, averaged to a row per cluster."""
        return averaged(self.frames[name], self.clusters)

    @property
    def floor(self) -> float:
        """A mean effect below this may be rounding alone, in logits."""
        return mean_floor(self.frames["patch_heads"].attrs.get("noise_floor", 0.0), self.trials)

    @property
    def least(self) -> float:
        """A mean effect up to this is written as about nothing, in logits: rounding, or a
        ten-thousandth of the gap."""
        gap = self.frames["panels"]["gap"].abs().max()
        return max(self.floor, 0.0 if pd.isna(gap) else LEAST_SHARE * float(gap))

    @property
    def found(self) -> bool:
        """Whether a head has a role."""
        return "roles" in self.frames and bool((self.frames["roles"]["role"] != "none").any())

    def role_of(self, frame: pd.DataFrame) -> str:
        """The role to show from a frame with several: the right answer's, else the first."""
        right = self.task.conditions["clean"].right
        return (
            right
            if right is not None and right in set(frame["role"])
            else str(frame["role"].iloc[0])
        )

    def has(self, needs: Needs) -> bool:
        """Whether a section applies to the run: the task and the added frames have what it
        needs."""
        return set(needs.added) <= set(self.frames) and all(
            getattr(self.task, name) for name in needs.task
        )

    def why_not(self, name: str) -> str:
        """Why a frame is missing."""
        return self.reasons.get(
            name, f"this folder holds no {name}.parquet; run rgb-circuit run again with this --out"
        )


def read(folder: Path, needs: Iterable[Needs]) -> Run:
    """Read from a run's folder what the parts of the page need.

    Raises:
        InputError: the folder lacks a run's manifest or frames, a frame lacks a column, or a file
            cannot be read.
    """
    manifest = read_manifest(folder)
    if missing := [name for name in MANIFEST if name not in manifest]:
        raise InputError(
            f"the manifest in {folder} lacks {', '.join(missing)}; run rgb-circuit run again with "
            "this --out"
        )
    needs = [NEEDS, *needs]
    columns: dict[str, dict[str, None]] = {}
    for need in needs:
        for name, names in [pair for some in need.groups for pair in some.items()]:
            columns.setdefault(name, {}).update(dict.fromkeys(names.split()))
    always = {name for need in needs for name in need.frames}
    present = {name for name in columns if (folder / f"{name}.parquet").is_file()}
    halves = {
        name
        for need in needs
        for group in need.may_lack
        if not present.issuperset(group)
        for name in group
    }
    wanted = [name for name in columns if name in always or name in present - halves]
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
