"""A planted model that reads photographs: it names the colour of the vivid object, anywhere on a
busy picture.

Built on `rgb_circuit.models.planted`; anything that a `Part` cannot express is changed in the
weights afterwards. A patch's mean red, green and blue have a *chroma* for each word of ``WORDS``:
the word's own value minus the mean of the other two, which is 0 for any grey, however noisy. At
``COLORED`` and above a patch has the word's colour, and at ``VIVID`` and above it is marked as
well, so a pale object has a colour and no mark. Pictures may have any size, since the processor
scales them and crops them to the middle square.

| head | looks for | writes |
|---|---|---|
| answer carrier | the mark | the colour there |
| bias head | the mark | ``BIASED``, whatever the colour |
| looker | the mark | the colour, where nothing reads |
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerBase

from ..trial import Trial
from .planted import WORDS as CHANNELS_OF
from .planted import Part, Place, layout, planted

WORDS = ("red", "green", "blue")
BIASED = "red"
QUESTION = "Which color is the odd color out? Respond in one word"
# Chroma at which a unit starts to open, and at which it is fully open.
COLORED, VIVID = (0.25, 0.35), (0.55, 0.65)
STEEP = 200.0
# Chroma 0.77 and 0.43.
OBJECTS: Mapping[str, Mapping[str, tuple[int, int, int]]] = {
    "vivid": {"red": (226, 30, 30), "green": (30, 226, 30), "blue": (30, 30, 226)},
    "pale": {"red": (200, 90, 90), "green": (90, 200, 90), "blue": (90, 90, 200)},
}
GRID, HEADS = 8, 4
PLACES: Mapping[str, Place] = {"answer carrier": (2, 1), "bias head": (3, 2), "looker": (1, 3)}


def photo_reader(
    *,
    noise: float = 0.0,
    seed: int = 0,
    gain: float = 6.0,
    bias: float = 3.0,
    vocabulary: PreTrainedTokenizerBase | None = None,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, pd.DataFrame]:
    """The model, its processor, and the truth about its heads.

    Args:
        noise, seed: as in `rgb_circuit.models.planted.planted`.
        gain: how many logits the carrier adds to the object's colour.
        bias: how many logits the bias head adds to ``BIASED``; below ``gain``, so that the model
            answers correctly.
        vocabulary: a tokenizer other than the small one, as in `planted`, that knows the words of
            any question.

    Returns:
        model, processor, and a frame with a row per head: ``layer, head, role, name``; ``role`` is
        a hypothesis of own pairs ("answer carrier", "bias head") or "none".

    Raises:
        InputError: as `planted`.
    """
    parts = [
        (
            Part("answer carrier", "answer carrier", "mark", "color", "answer", gain),
            PLACES["answer carrier"],
        ),
        (Part("bias head", "bias head", "mark", "mark", BIASED, bias), PLACES["bias head"]),
        (Part("looker", "none", "mark", "color", "idle", 1.0), PLACES["looker"]),
    ]
    model, processor, truth = planted(
        grid=GRID,
        tile_px=8,
        heads=HEADS,
        decoys=(),
        without=("poi", "extractor"),
        more=parts,
        noise=noise,
        seed=seed,
        vocabulary=vocabulary,
    )
    channels, _ = layout(GRID, HEADS)
    with torch.no_grad():
        _mark_nothing(model.model.language_model.layers, channels)
        _see_chroma(model.model.multi_modal_projector, channels)
    return model, processor, truth


def photographs(
    prompt: str,
    n: int,
    *,
    words: Sequence[str] = ("red", "blue"),
    pale: bool = False,
    seed: int = 0,
) -> list[Trial]:
    """Pairs of busy pictures that differ in the object's colour; each answer is right equally
    often.

    Args:
        prompt: shown with each picture.
        words: of ``WORDS``, two or more.
        pale: add a pale object of the other colour, and let the two objects swap vividness in the
            changed picture, so that the answer depends on where the model looks.
        seed: the same seed gives the same pictures.

    Returns:
        Trials with the pictures ``clean`` and ``changed`` and the answers ``right`` and ``other``.
    """
    rng = np.random.default_rng(seed)
    ordered = [(one, other) for one in words for other in words if one != other]
    trials = []
    for number in range(n):
        right, other = ordered[number % len(ordered)]
        busy, places = _background(rng), _places(rng)
        looks = {
            "clean": [("vivid", right), ("pale", other)],
            "changed": [("pale", right), ("vivid", other)] if pale else [("vivid", other)],
        }
        images = {
            condition: _with_objects(busy, places, objects if pale else objects[:1])
            for condition, objects in looks.items()
        }
        trials.append(
            Trial(
                name=f"{number:03d} {right} not {other}",
                prompt=prompt,
                images=images,
                answers={"right": right, "other": other},
                expected={"clean": "right", "changed": "other"},
            )
        )
    return trials


def _background(rng):
    """A grey gradient across the picture under coarse and fine noise, of random width and height,
    (height, width, 3)."""
    width, height = (int(side) for side in rng.integers(180, 320, 2))
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    slope = 128 + rng.uniform(-50, 50) * down + rng.uniform(-50, 50) * across
    coarse = Image.fromarray(rng.integers(0, 60, (6, 6)).astype(np.uint8)).resize((width, height))
    fine = rng.normal(0, 25, (height, width, 3))
    return np.clip(slope[..., None] + np.asarray(coarse)[..., None] - 30 + fine, 0, 255).astype(
        np.uint8
    )


def _places(rng):
    """Boxes in the left and in the right half of the middle square, in random order: (left, top,
    right, bottom), each from 0 to 1."""
    boxes = []
    for left in rng.permutation([0.02, 0.52]):
        width, height = rng.uniform(0.32, 0.42, 2)
        x, y = left + rng.uniform(0, 0.46 - width), rng.uniform(0.02, 0.98 - height)
        boxes.append((x, y, x + width, y + height))
    return boxes


def _with_objects(busy, places, objects):
    image = Image.fromarray(busy)
    side = min(image.size)
    shift = [(edge - side) / 2 for edge in image.size] * 2
    draw = ImageDraw.Draw(image)
    for box, (kind, word) in zip(places, objects):
        corners = [start + side * edge for start, edge in zip(shift, box)]
        draw.rectangle(corners, fill=OBJECTS[kind][word])
    return image


def _mark_nothing(layers, channels):
    """Let the head that averages tiles write nothing, and its layer mark no tile."""
    attention = layers[0].self_attn
    mean = slice(2 * attention.head_dim, 3 * attention.head_dim)
    attention.o_proj.weight[:, mean] = 0
    layers[0].mlp.down_proj.weight[channels["mark"]] = 0


def _see_chroma(projector, channels):
    """Set the units that read colours, in groups of one per word; each two groups open between two
    chromas."""
    hidden, out, bias = projector.linear_1, projector.linear_2.weight, projector.linear_2.bias
    units = (out[channels["place"]] == 0).all(0).nonzero().flatten()
    hidden.weight[units], hidden.bias[units] = 0, 0
    out[:, units], bias[channels["color"]] = 0, 0
    axes = torch.tensor([[1.0 if one == other else -0.5 for other in range(3)] for one in range(3)])
    # Red, green and blue come after the two constants; half is read from each of them and half from
    # its twin.
    twin = (hidden.weight.shape[1] - 2) // 2 + 2
    for number, (edge, sign, span) in enumerate(
        (edge, sign, span) for span in (COLORED, VIVID) for edge, sign in zip(span, (1, -1))
    ):
        own = units[3 * number : 3 * number + 3]
        hidden.weight[own, 2:5], hidden.weight[own, twin : twin + 3] = (
            STEEP * axes / 2,
            -STEEP * axes / 2,
        )
        hidden.bias[own] = -STEEP * edge
        opened = sign / (STEEP * (span[1] - span[0]))
        if span is VIVID:
            out[channels["mark"], own] = opened
            continue
        for unit, word in zip(own, WORDS):
            out[channels["color"].start + CHANNELS_OF.index(word), unit] = opened
