"""Makes the live pages of gallery.md, each the report of a run, in build/gallery/; about a
minute and a half on one core. MkDocs puts those that are there into the site.

    python docs/gallery.py
"""

import csv
from pathlib import Path

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.models.photo_reader import QUESTION, photo_reader, photographs
from rgb_circuit.models.small import save

OUT = Path(__file__).parents[1] / "build" / "gallery"
# The model and the table of photographs: they stay, so that the run can be gone on with.
GIVEN = OUT.parent / "photographs"
# Name of a page → options of its run.
DRAWN = {
    "planted": ["--model", "planted"],
    "toy": ["--model", "toy"],
    "counting": ["--task", "counting"],
}


def reader_of_photographs(folder: Path) -> list[str]:
    """Options of a run of a model that reads busy pictures of any size, on a table of them."""
    made, processor, _ = photo_reader(noise=0.02)
    save(made, processor, folder / "photo reader")
    trials = photographs(rgb.wrap(made, processor, name="photo reader").prompt(QUESTION), 32)
    rows = [["name", "question", "clean", "image:changed", "answer:right", "answer:other",
             "expected:clean", "expected:changed"]]  # fmt: skip
    for number, trial in enumerate(trials):
        paths = [f"{number}-{condition}.png" for condition in trial.images]
        for path, image in zip(paths, trial.images.values()):
            image.save(folder / path)
        rows.append([trial.name, QUESTION, *paths, *trial.answers.values(), "right", "other"])
    with open(folder / "trials.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return [
        "--model", str(folder / "photo reader"), "--trials-file", str(folder / "trials.csv"),
        "--name", "a reader of photographs",
    ]  # fmt: skip


def make(name: str, options: list[str]) -> None:
    """Run, and keep the folder: a page that is there is made anew in no time."""
    if main(["run", *options, "--out", str(OUT / name)]):
        raise SystemExit(f"the page of {name} could not be made")


if __name__ == "__main__":
    for name, options in DRAWN.items():
        make(name, options)
    GIVEN.mkdir(parents=True, exist_ok=True)
    make("photographs", reader_of_photographs(GIVEN))
