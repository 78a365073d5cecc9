"""Photograph the pages that these pages show: python docs/pictures/photograph.py

Three minutes on one core, with the system's chromium. `draw.py` draws all other pictures.
"""

import csv
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

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


# File → its page, the section that is photographed (empty: the first screen), and what is chosen.
PHOTOGRAPHS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "report": (planted_run, "", ""),
    "items": (pairs_run, "#items", "#head=2.1"),
    "two_runs": (two_runs, "#heads", "#head=0.3"),
}

if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for file, (page_of, section, chosen) in PHOTOGRAPHS.items():
            with tempfile.TemporaryDirectory() as folder:
                page = chromium.new_page(viewport={"width": 1240, "height": 1010})
                page.goto(page_of(Path(folder)).as_uri() + chosen)
                page.wait_for_timeout(2000)
                taken = (page.locator(section) if section else page).screenshot()
                # In as many colours as a page needs: half the bytes.
                small = Image.open(io.BytesIO(taken)).convert("RGB").quantize(128)
                small.save(HERE / f"{file}.png", optimize=True)
        chromium.close()
