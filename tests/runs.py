"""Finished runs of the command that several test files read: each is made once per session, for all
workers."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from filelock import FileLock
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from analyses import report, study
from analyses.command import main
from analyses.report import page
from analyses.study import closer_look
from rgb_circuit.errors import NotApplicable
from rgb_circuit.files.results import write_bytes
from rgb_circuit.models.planted import Placement, planted
from rgb_circuit.models.small import save

# Options of ``rgb-circuit run``. Heads of the planted model get their roles, those of the toy none,
# and two trials are too few to test any.
PLANTED = ("--model", "planted", "--trials", "12")
TOY = ("--trials", "10", "--seed", "3", "--name", "A <i>small</i> one")
TWO_TRIALS = ("--trials", "2")
# For whole runs that are compared, bit by bit: so many trials show that of `small_model`'s heads
# some are color extractors, which are frozen, and others background writers.
SMALL = ("--trials", "9")
SMALLER = Placement(
    mean=(0, 0),
    poi=(1, 0),
    extractor=(2, 1),
    redundant_pair=((2, 0), (3, 0)),
    early_background_writer=(1, 1),
    late_background_writer=(3, 1),
)


def small_model() -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A small planted model and its processor: seven of its eight heads have a part."""
    decoys = ("redundant_pair", "early_background_writer", "late_background_writer")
    return planted(grid=3, layers=4, heads=2, placement=SMALLER, decoys=decoys)[:2]


def small(folder: Path) -> Path:
    """The folder with `small_model`; other callers wait for the first to make it."""
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            save(*small_model(), folder)
    return folder


def finished(options: Sequence[str], folder: Path, drawn: bool = True) -> Path:
    """The folder with the finished run; other callers wait for the first to make it.

    Args:
        drawn: with figures and page; otherwise they are empty (`undrawn`).
    """
    with FileLock(folder.with_suffix(".lock")):
        if not _said(folder).exists():
            said = io.StringIO()
            with redirect_stdout(said), pytest.MonkeyPatch.context() as patched:
                if not drawn:
                    undrawn(patched)
                assert main(["run", *options, "--out", str(folder)]) == 0
            _said(folder).write_text(said.getvalue())
    return folder


def printed(folder: Path) -> str:
    """The output that a finished run printed."""
    return _said(folder).read_text()


def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs draw empty figures beside their page; they are still written like any other
    file."""
    monkeypatch.setattr(
        study, "panel_heatmaps", lambda *given, **options: plt.figure(figsize=(1, 1))
    )
    monkeypatch.setattr(
        study, "effect_forest", lambda *given, **options: plt.figure(figsize=(1, 1)).add_subplot()
    )


def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs draw empty figures and an empty page, since real ones take a third as long as all
    the rest; both are still written like any other file."""
    without_figures(monkeypatch)
    monkeypatch.setattr(report, "write", lambda folder: write_bytes(folder / "report.html", b""))


def without_closer_look(monkeypatch: pytest.MonkeyPatch, *but: str) -> None:
    """Make runs measure no more than how the model plays, every head and the roles, which is what
    they print, keep the pictures, and make of other frames only these."""

    def nothing(*given):
        raise NotApplicable("not asked for")
        yield

    def shown(*given):
        return {
            name: steps if name in ("stimuli", *but) else nothing()
            for name, steps in every(*given).items()
        }

    every = closer_look.steps
    monkeypatch.setattr(closer_look, "of_trials", lambda *given: {})
    monkeypatch.setattr(closer_look, "steps", shown)
    if "curve" not in but:
        monkeypatch.setattr(closer_look, "curve", nothing)


def sections(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make pages with only these sections below the head; all sections take several times as
    long."""
    known = page.known_sections()
    monkeypatch.setattr(
        page, "known_sections", lambda: {name: known[name] for name in known if name in names}
    )


def _said(folder: Path) -> Path:
    return folder.with_suffix(".txt")
