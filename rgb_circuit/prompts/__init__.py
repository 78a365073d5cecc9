"""Turn trials into the model's inputs: tensors, positions, answer tokens, and the checks made
before any forward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import torch

from ..conversation import question_of
from ..conversation.answers import ends, once_begun, picture_mark
from ..edits import POSITIONS
from ..errors import FOREIGN, InputError, first_line
from ..pictures.views import covering
from ..running.execute import one_at_a_time
from ..trial import Trial
from .asking import check_readable, read, settle
from .inputs import inputs_of

if TYPE_CHECKING:
    from ..vlm import Vlm


def check_trials(model: Vlm, trials: Sequence[Trial], conditions: Sequence[str]) -> None:
    """Raise InputError unless the model can be shown every trial in each of ``conditions``.

    Checked are unique names, existing conditions, answers that begin with different tokens, and a
    tile that covers exactly one image token: the model's own processor must not resample or crop
    the picture. If everything else is in order, the form of the model's answers to new questions is
    found out.
    """
    if not trials:
        raise InputError("there are no trials; make some with rgb_trials(model, n=32)")
    if not conditions:
        raise InputError("there are no conditions; name at least one, such as 'clean'")
    names = [trial.name for trial in trials]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two trials are named {twice!r}; give each trial its own name")
    for trial in trials:
        for condition in conditions:
            if condition not in trial.images:
                raise InputError(
                    f"trial {trial.name!r} has no condition {condition!r}; it has "
                    f"{', '.join(trial.images)}, so use one of these or add the picture"
                )
        with _about(trial):
            for prompt in _asked(trial, conditions):
                check_readable(model, prompt, trial.words)
        if trial.tile is not None:
            _check_tile_is_one_token(model, trial)
    settle(model, [prompt for trial in trials for prompt in _asked(trial, conditions)])
    for trial in trials:
        with _about(trial):
            for prompt in _asked(trial, conditions):
                read(model, prompt, trial.words)


def _asked(trial, conditions):
    return dict.fromkeys(trial.asked(condition) for condition in conditions)


@contextmanager
def _about(trial):
    try:
        yield
    except InputError as error:
        raise InputError(f"trial {trial.name!r}: {error}") from None


def answer_tokens(model: Vlm, trial: Trial, condition: str = "clean") -> dict[str, int]:
    """Role → id of the token that the trial's answer is read at after a condition's prompt."""
    return read(model, trial.asked(condition), trial.words).tokens


def answer_ids(model: Vlm, trial: Trial, condition: str = "clean") -> dict[str, tuple[int, ...]]:
    """Role → ids of the tokens that its accepted words are read at after a condition's prompt,
    without repeats, the answer's first."""
    return read(model, trial.asked(condition), trial.words).ids


def answer_table(ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """The token ids of several trials as one table, (trials, ids); a trial with fewer repeats its
    last id."""
    most = max(map(len, ids))
    return torch.tensor([[*row, *row[-1:] * (most - len(row))] for row in map(list, ids)])


def pooled_table(answers: Sequence[Sequence[Sequence[int]]]) -> torch.Tensor:
    """The token ids of several trials' answers as one table, (trials, answers, words), for
    `rgb_circuit.programs.pooled.pooled`: -1 for missing words; a trial with fewer answers repeats
    its last one."""
    most, longest = max(map(len, answers)), max(len(ids) for own in answers for ids in own)
    rows = [[*own, *own[-1:] * (most - len(own))] for own in map(list, answers)]
    return torch.tensor([[[*ids, *[-1] * (longest - len(ids))] for ids in row] for row in rows])


def columns_of(answers: Iterable[Sequence[int]]) -> torch.Tensor:
    """The columns of the words of a trial's answers in a table of all their ids, one answer after
    the other, (answers, words), for `rgb_circuit.programs.pooled.pooled`."""
    number, columns = count(), []
    for ids in answers:
        columns.append([next(number) for _ in ids])
    return pooled_table([columns])[0]


def _check_tile_is_one_token(model, trial):
    """Raise InputError unless the picture has the size that is not resampled (`loading` checked
    that there is one)."""
    rows, columns = model.grid
    left_over = model.layout.margin
    sizes = f"grid={rows}, tile_px={model.tile_px}" + (f", margin={left_over}" if left_over else "")
    advice = f"draw it with {sizes}, or with rgb_trials(model, n), or leave out tile and grid"
    if trial.grid != rows or rows != columns:
        raise InputError(
            f"trial {trial.name!r} has {trial.grid} × {trial.grid} tiles, but {model.name} sees "
            f"{rows} × {columns} image tokens; {advice}"
        )
    (width, height), side = trial.size, model.picture_px
    if (width, height) == (side, side):
        return
    beyond = (
        f", whose last {left_over} px to the right and below belong to no token"
        if left_over
        else ""
    )
    raise InputError(
        f"a tile of trial {trial.name!r} ({width} × {height} px) does not cover exactly one "
        f"image token of {model.name} "
        f"({model.tile_px} px of a {side} × {side} px picture{beyond}); {advice}"
    )


def encode(model: Vlm, shown: Sequence[tuple[Trial, str]]) -> dict[str, torch.Tensor]:
    """Model inputs for (trial, condition) pairs whose prompts have equal numbers of tokens.

    Returns:
        ``input_ids`` and ``attention_mask`` (pairs, positions), ``pixel_values``, and the other
        outputs of the processor that this model takes.

    Raises:
        InputError: pictures that the processor refuses.
    """
    prompts = [
        read(model, trial.asked(condition), trial.words).prompt for trial, condition in shown
    ]
    images = [trial.images[condition] for trial, condition in shown]
    try:
        return inputs_of(model.processor, model.layout, prompts, images)
    except FOREIGN as error:
        sizes = ", ".join(
            f"{width} × {height} px"
            for width, height in dict.fromkeys(image.size for image in images)
        )
        raise InputError(
            f"the processor of {model.name} ({type(model.processor).__name__}) cannot show these "
            f"pictures ({sizes}: "
            f"{first_line(error)}); give pictures of {model.picture_px} × {model.picture_px} px"
        ) from error


def prompt_ids(
    model: Vlm, trials: Sequence[Trial], condition: str = "clean"
) -> dict[str, torch.Tensor]:
    """Trial name → token ids of a condition's prompt as the model sees it, with the image tokens,
    (positions,)."""
    # Some models use more tokens for a larger picture.
    shown = {
        trial.name: (
            read(model, trial.asked(condition), trial.words).prompt,
            trial.sizes[condition],
        )
        for trial in trials
    }
    one_each = {key: trial for trial in trials if (key := shown[trial.name]) not in model.ids}
    for key, trial in one_each.items():
        model.ids[key] = encode(model, [(trial, condition)])["input_ids"][0]
    return {name: model.ids[key] for name, key in shown.items()}


def locate(
    model: Vlm,
    trial: Trial,
    positions: str | Sequence[int],
    input_ids: torch.Tensor,
    condition: str = "clean",
    argument: str = "positions",
) -> list[int]:
    """The token positions that ``positions`` names in one prompt, in order, from 0.

    Args:
        positions: ``"end"`` (the last token), ``"all"``, ``"image"``, ``"text"`` (all but the
            image), ``"tile"`` (the image token of ``trial.tile``, in every view of the picture),
            ``"rest"`` (the other image tokens), ``"question"`` (its words, without the conversation
            around it), ``"first"`` (the first token), the name of a box of the condition's picture
            (the image tokens that cover it, in every view), or a list of ints, where negative ones
            count from the end.
        input_ids: of the condition's prompt, (positions,), from `encode`.
        argument: the name under which ``positions`` was given, for messages.

    Raises:
        InputError: an unknown word, an int beyond the prompt, ``"tile"`` or ``"rest"`` for a trial
            without a tile, ``"question"`` in a prompt outside the model's own conversation, or a
            box that this condition lacks or that no token covers.
    """
    length = len(input_ids)
    image = _image_positions(model, input_ids)
    if not isinstance(positions, str):
        beyond = [index for index in positions if not -length <= index < length]
        if beyond or not len(positions):
            raise InputError(
                f"positions {list(positions)} are not all in the prompt of {length} tokens; use "
                f"ints from {-length} to {length - 1}"
            )
        return sorted({index % length for index in positions})
    if positions == "end":
        return [length - 1]
    if positions == "first":
        return [0]
    if positions == "all":
        return list(range(length))
    if positions == "image":
        return image
    if positions == "text":
        return sorted(set(range(length)) - set(image))
    if positions == "question":
        return _question_positions(model, trial, input_ids, condition)
    if positions in ("tile", "rest"):
        if trial.tile is None:
            raise InputError(
                f"trial {trial.name!r} has no tile, so positions={positions!r} means nothing; use "
                "'image', 'all' or 'end'"
            )
        place = trial.tile[0] * model.grid[1] + trial.tile[1]
        tile = {view[place] for view in model.layout.places(image)}
        return sorted(tile if positions == "tile" else set(image) - tile)
    return _box_positions(model, trial, positions, image, condition, argument)


def _box_positions(model, trial, name, image, condition, argument):
    """The image tokens that cover a box."""
    own_boxes = trial.boxes.get(condition, {})
    if name not in own_boxes:
        others = [other for other, boxes in trial.boxes.items() if name in boxes]
        if others:
            raise InputError(
                f"trial {trial.name!r} has a box {name!r} in {', '.join(map(repr, others))} and "
                f"none in {condition!r}, whose tokens are asked for; add "
                f"boxes[{condition!r}][{name!r}]"
            )
        words = ", ".join(map(repr, (*POSITIONS, *own_boxes)))
        raise InputError(
            f"{argument} is {name!r}; use {words}, or a list of ints; trial {trial.name!r} has no "
            "box of that name"
        )
    size = trial.sizes[condition]
    try:
        tokens = covering(model, size, own_boxes[name], len(image))
    except InputError as error:
        raise InputError(f"box {name!r} of trial {trial.name!r}: {error}") from error
    if not tokens:
        raise InputError(
            f"box {name!r} of trial {trial.name!r} covers no pixel of what {model.name} sees of "
            f"{condition!r} ({size[0]} × {size[1]} px): it is cropped away, or smaller than a "
            "pixel there; give another box"
        )
    return [image[token] for token in tokens]


def _question_positions(model, trial, input_ids, condition):
    """The positions of the question's words, counted from the prompt's end, since an image is a
    single token until it is shown."""
    prompt = trial.asked(condition)
    question = question_of(prompt, model.template)
    if question is None:
        raise InputError(
            f"the prompt of trial {trial.name!r} is not of the conversation of {model.name}, so "
            f"which of its tokens are the question is not known; make it with "
            "model.prompt(question), or give positions as ints"
        )
    question = question.strip()
    if not question:
        raise InputError(
            f"the question of trial {trial.name!r} is blank, so that positions='question' means "
            "nothing there; ask one, or use 'text' or 'end'"
        )
    tokenizer = model.processor.tokenizer
    prompt_shown = read(model, prompt, trial.words).prompt.replace(
        "<image>", picture_mark(model.processor)
    )
    text = once_begun(tokenizer, prompt_shown)
    begin = text.rindex(question)
    with one_at_a_time:
        spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    spans = spans[: len(spans) - ends(tokenizer)]
    from_end = [
        number - len(spans)
        for number, (first, last) in enumerate(spans)
        if first < begin + len(question) and last > begin
    ]
    # An image before the question has grown; one after it would have shifted these positions.
    positions = [len(input_ids) + place for place in from_end]
    image = _image_positions(model, input_ids)
    return positions if image[-1] < positions[0] else [number + len(spans) for number in from_end]


def tile_positions(model: Vlm, input_ids: torch.Tensor) -> list[int]:
    """The token positions of the picture's places in one prompt, row by row: rows × columns of
    ``model.grid``.

    If the model sees the picture twice, the places of the first view, which shows it whole.

    Raises:
        InputError: a picture whose tokens are not one per place.
    """
    return _views(model, input_ids)[0]


def place_positions(model: Vlm, input_ids: torch.Tensor, place: tuple[int, int]) -> tuple[int, ...]:
    """The token positions of one of the picture's places (row, column), in every view of the
    picture.

    Raises:
        InputError: a place off ``model.grid``, or a picture as in `tile_positions`.
    """
    rows, columns = model.grid
    row, column = place
    if not (0 <= row < rows and 0 <= column < columns):
        raise InputError(
            f"place {row},{column} is off the {rows} × {columns} places that {model.name} sees; "
            f"rows go from 0 to {rows - 1}, columns to {columns - 1}"
        )
    return tuple(sorted({view[row * columns + column] for view in _views(model, input_ids)}))


def _views(model, input_ids):
    """For each view of the picture, the token positions of its places."""
    image = _image_positions(model, input_ids)
    if len(image) != model.layout.tokens():
        raise InputError(
            f"{model.name} makes {len(image)} tokens of this picture, not the "
            f"{model.layout.tokens()} of a picture of "
            f"{model.picture_px} × {model.picture_px} px, so they cannot be laid over it; give "
            "pictures of that size"
        )
    return model.layout.places(image)


def rerun_from(model: Vlm, first: int, input_ids: torch.Tensor) -> int:
    """The first position that may change if position ``first`` is edited: earlier positions may
    attend to it (`Vlm.ahead`)."""
    if model.ahead == "all":
        return 0
    image = _image_positions(model, input_ids)
    return min(first, image[0]) if model.ahead == "image" and first <= image[-1] else first


def _image_positions(model, input_ids):
    return (input_ids == model.config.image_token_id).nonzero().flatten().tolist()
