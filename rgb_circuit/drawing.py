"""Trials that are drawn for a model: on its own grid, in its own conversation, with words that it can say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .answers import FORMS, drawable, form_of
from .asking import settle
from .errors import InputError
from .rgb_game import COLOR_ROLES, NOTHING_ODD, ODD_QUESTION, PALETTE, draw
from .trial import Trial

if TYPE_CHECKING:
    from .vlm import Vlm


def rgb_trials(model: Vlm, n: int, seed: int = 0, **fixed: Any) -> list[Trial]:
    """A sample of the RGB game on the model's own grid, balanced over colours and tiles.

    Colours are drawn from the palette's words that are one token for the model, or where these are too few,
    that begin with different tokens; each is used equally often in each role, and no tile is used twice
    before all were used. The first tile is left out: a causal model has nothing to compare it with.

    Args:
        n: number of trials.
        seed: the same seed gives the same trials.
        fixed: any of ``odd, other, background, other_background, tile, palette`` of `rgb_trial`, held fixed.

    Raises:
        InputError: a model without colour words, an unknown colour, a tile off the grid, or too few colours
            left to draw from.

    Warns:
        UserWarning: some trials have the same pictures, since too much is fixed.
    """
    words = rgb_words(model, fixed.get("palette", PALETTE))
    if not words and "palette" not in fixed:
        raise InputError(
            f"no colour word is in the vocabulary of {model.name!r}, so it cannot play the game; use another "
            "tokenizer, or give trials of your own"
        )
    return draw(model.canvas, words, n, seed, fixed)


def rgb_words(model: Vlm, palette: Iterable[str] = PALETTE) -> tuple[str, ...]:
    """The words of a palette that the game is drawn with for a model, see `rgb_trials`; none where it knows
    none."""
    asked = model.prompt(ODD_QUESTION)
    return words_at(model, asked, palette, least=len(COLOR_ROLES), taken=NOTHING_ODD)


def words_at(model: Vlm, prompt: str, words: Iterable[str], *, least: int, taken: str) -> tuple[str, ...]:
    """Those of ``words`` that a task asked in ``prompt`` can be drawn with; none where the model can write
    none there.

    Args:
        least, taken: as in `rgb_circuit.answers.drawable`.
    """
    asked = (prompt, *words)
    if asked not in model.drawable:
        form = form_at(model, prompt, asked[1:])
        model.drawable[asked] = () if form is None else tuple(
            drawable(model.processor.tokenizer, prompt, asked[1:], form, least, taken, model.sayable)
        )  # fmt: skip
    return model.drawable[asked]


def form_at(model: Vlm, prompt: str, words: Iterable[str]) -> str | None:
    """The form in which the model writes ``words`` after ``prompt``, a key of `rgb_circuit.answers.FORMS`:
    the likeliest in which any can be written; None, without a forward, where none can."""
    words, tokenizer = tuple(words), model.processor.tokenizer
    if form_of(tokenizer, prompt, words, tuple(FORMS), model.sayable) is None:
        return None
    settle(model, [prompt])
    return form_of(tokenizer, prompt, words, model.forms[prompt], model.sayable)
