"""Stand-ins for data sets of the field, in their published formats: small pictures in a single
colour, invented rows."""

import io
import json
from pathlib import Path

import pandas as pd
from PIL import Image

from rgb_circuit.models.photo_reader import QUESTION

# A columns file for pairs of `rgb_circuit.models.photo_reader`, with a column for each entry.
PHOTOGRAPHS = f"""
name = "name"
question = "{QUESTION}"
images = {{ clean = "clean", changed = "changed" }}
answers = {{ right = "right", other = "other" }}
expected = {{ clean = "right", changed = "other" }}
"""
COLORS = ("red", "green", "blue", "yellow")
CHATML = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def encoded(color, size=(24, 24), kind="PNG", **saved):
    """The bytes of a picture of one colour."""
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, kind, **saved)
    return data.getvalue()


def technion(folder: Path, n: int = 8) -> Path:
    """A CSV with a picture per row, and prompts that are whole conversations for another model."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(n):
        color = COLORS[number % 4]
        (folder / "images" / f"{number}.png").write_bytes(encoded(color))
        prompt = CHATML.format("Which color is the background? Respond in one word")
        rows.append(
            dict(
                relative_image_path=f"images/{number}.png",
                prompt=prompt,
                gt_answer=color,
                pred_answer=color,
            )
        )
    pd.DataFrame(rows).to_csv(path := folder / "visual_data.csv", index=False)
    return path


def visual_counterfact(folder: Path, n: int = 8) -> Path:
    """Parquet with pairs of pictures as ``{bytes, path}``, and several right words as the text of a
    list."""
    rows = []
    for number in range(n):
        right, wrong = COLORS[number % 4], COLORS[(number + 1) % 4]
        cells = {
            name: dict(bytes=encoded(color), path=f"{name}.png")
            for name, color in (("original_image", right), ("counterfact_image", wrong))
        }
        several = [f"dark {right}", right] if number % 2 else [right]
        rows.append(
            dict(
                object=f"thing {number}",
                correct_answer=str(several),
                incorrect_answer=wrong,
                **cells,
            )
        )
    (folder / "data").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(path := folder / "data" / "color-00000-of-00001.parquet")
    return path


def vismin(folder: Path, n: int = 8) -> Path:
    """Parquet with pairs of pictures and a text for each."""
    rows = []
    for number in range(n):
        one, two = COLORS[number % 4], COLORS[(number + 2) % 4]
        rows.append(
            dict(
                id=number,
                image_0=dict(bytes=encoded(one), path=None),
                image_1=dict(bytes=encoded(two), path=None),
                text_0=f"A {one} wall.",
                text_1=f"A {two} wall.",
                category=("attribute", "relation")[number // 4 % 2],
                image_question_0=f'Which image better aligns with "A {one} wall."? The first or '
                "the second?",
            )
        )
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(path := folder / "test.parquet")
    return path


def whats_up(folder: Path) -> Path:
    """JSON with captions, the first of which is right, and the relation in the picture's name."""
    (folder / "data").mkdir(parents=True)
    rows, where = (
        [],
        {"left_of": "to the left of", "right_of": "to the right of", "on": "on", "under": "under"},
    )
    for number, thing in enumerate(("mug", "cup")):
        captions = {relation: f"A {thing} {words} a table" for relation, words in where.items()}
        for color, (relation, caption) in zip(COLORS, captions.items()):
            path = f"data/{thing}_{relation}_table.jpeg"
            (folder / path).write_bytes(encoded(color, (24, 24 + 8 * number), "JPEG"))
            others = [text for text in captions.values() if text != caption]
            rows.append(dict(image_path=path, caption_options=[caption, *others]))
    (path := folder / "controlled_images_dataset.json").write_text(json.dumps(rows))
    return path


def pope(folder: Path, n: int = 8) -> Path:
    """A JSON object per line, in a file called .json; single pictures, answers yes and no."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(n):
        (folder / "images" / f"{number}.jpg").write_bytes(encoded(COLORS[number % 4], kind="JPEG"))
        text = "Is there a snowboard in the image?"
        lines.append(
            dict(
                question_id=number,
                image=f"{number}.jpg",
                text=text,
                label=("yes", "no")[number % 2],
            )
        )
    (path := folder / "coco_pope_random.json").write_text("\n".join(map(json.dumps, lines)))
    return path


def vsr(folder: Path, n: int = 8) -> Path:
    """JSONL with true and false captions."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(n):
        (folder / "images" / f"v{number}.jpg").write_bytes(encoded(COLORS[number % 4], kind="JPEG"))
        lines.append(
            dict(
                image=f"v{number}.jpg",
                caption="The dog is in front of the sofa.",
                label=number % 2,
                relation="in front of",
            )
        )
    (path := folder / "vsr_dev.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path


def gqa(folder: Path, n: int = 8) -> Path:
    """A JSON object of objects, whose keys are the questions' ids."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = {}
    for number in range(n):
        color = COLORS[number % 4]
        (folder / "images" / f"g{number}.jpg").write_bytes(encoded(color, kind="JPEG"))
        rows[f"{number:08d}"] = dict(
            question="Which color is the background?", imageId=f"g{number}", answer=color
        )
    (path := folder / "val_balanced_questions.json").write_text(json.dumps(rows))
    return path
