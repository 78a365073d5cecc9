"""Photograph the pages that these pages show: python docs/pictures/photograph.py

Three minutes on one core, with the system's chromium. `draw.py` draws all other pictures.
"""

import csv
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

import rgb_circuit as rgb
from analyses import study
from analyses.command import main
from rgb_circuit.models.photo_reader import QUESTION, photo_reader, photographs
from rgb_circuit.models.small import save

HERE = Path(__file__).parent


def planted_run(folder: Path) -> Path:
    """The page of a run of the planted model."""
    return _page(folder, "--model", "planted")


def pairs_run(folder: Path) -> Path:
    """The page of a run on one's own pairs of photographs."""
    model, processor, _ = photo_reader(noise=0.02)
    save(model, processor, folder / "reader")
    rows = []
    for trial in photographs(f"<image> {QUESTION}", 32):
        files = {"clean": f"{trial.name}.png", "image:changed": f"{trial.name}, changed.png"}
        for file, image in zip(files.values(), trial.images.values()):
            image.save(folder / file)
        words = {f"answer:{role}": word for role, word in trial.answers.items()}
        right = {f"expected:{name}": role for name, role in trial.expected.items()}
        rows.append({"name": trial.name, "question": QUESTION, **files, **words, **right})
    with open(folder / "pairs.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    reader, pairs = str(folder / "reader"), str(folder / "pairs.csv")
    return _page(folder, "--model", reader, "--trials-file", pairs)


def two_runs(folder: Path) -> Path:
    """The page over two runs of one model, which is asked the same in two ways."""
    for way in ("plain", "short"):
        given = ["--model", "talker", "--task", "counting", "--fix", f"template={way}"]
        named = ["--name", f"talker ({way})", "--out", str(folder / way)]
        assert main(["run", *given, *named, "--quiet"]) == 0
    both = folder / "both.html"
    assert main(["compare", *(str(folder / way) for way in ("plain", "short")),
                 "--page", str(both)]) == 0  # fmt: skip
    return both


def _page(folder, *options):
    assert main(["run", *options, "--out", str(folder / "results"), "--quiet"]) == 0
    return folder / "results" / "report.html"


def first_screen(page: Page) -> dict:
    page.set_viewport_size({"width": 1240, "height": 1010})
    return {}


# File → what makes its page, and how it is photographed.
PHOTOGRAPHS: dict[str, tuple[Callable[[Path], Path], Callable[[Page], dict]]] = {
    "report": (planted_run, first_screen),
}

if __name__ == "__main__":
    pass
