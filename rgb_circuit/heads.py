"""An attention head as a value: its numbers, its text, and its rows of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .arguments import as_whole
from .errors import InputError
from .files.table_text import shortened

if TYPE_CHECKING:
    import pandas as pd


class Head(NamedTuple):
    """A head of the language model, both numbers from 0. It is a pair, and every function also
    takes a plain pair (layer, head).

    Examples:
        >>> head = Head.parse("19.6")
        >>> head == (19, 6), head.layer, str(head)
        (True, 19, '19.6')
    """

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"

    def __repr__(self) -> str:
        # Lists of heads print as lists of pairs.
        return repr(tuple(self))

    @classmethod
    def parse(cls, text: str, name: str = "head") -> Head:
        """The head whose text is ``layer.head``.

        Args:
            name: of the text, for the message.

        Raises:
            InputError: any other text.
        """
        try:
            layer, head = map(int, text.split("."))
        except ValueError:
            raise InputError(
                f"{name} is {text!r}; write layer.head, both from 0, such as 3.2"
            ) from None
        return cls(layer, head)

    @classmethod
    def of(cls, layer: object, head: object = None) -> Head:
        """The head that two numbers name, or a text or a pair alone.

        Raises:
            InputError: anything else.

        Examples:
            >>> Head.of(19, 6) == Head.of("19.6") == Head.of((19, 6))
            True
        """
        if head is None and isinstance(layer, str):
            return cls.parse(layer)
        given = layer if head is None else (layer, head)
        pair = tuple(map(as_whole, given)) if isinstance(given, Sequence) else ()
        if len(pair) != 2 or None in pair:
            raise InputError(
                f"the head is {shortened(given)}; give its layer and its number, such as 3 and 2, "
                "or '3.2'"
            )
        return cls(*pair)  # type: ignore[arg-type]


def rows_of(frame: pd.DataFrame, head: tuple[int, int]) -> pd.DataFrame:
    """One head's rows of a frame with ``layer, head``."""
    layer, number = head
    return frame[(frame["layer"] == layer) & (frame["head"] == number)]
