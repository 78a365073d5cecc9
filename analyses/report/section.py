"""What a section of the report is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .run import Needs, Run


@dataclass(frozen=True)
class Section:
    """A section of the report: each module of `sections` makes one, as ``SECTION``.

    Attributes:
        order: sections stand on the page in this order.
        link: its word in the navigation.
        title: its heading, as jinja that sees ``run``.
        needs: the frames and columns that it is made of.
        values: what its fragment shows; or ``why_not``, why nothing could be measured, in words,
            and then nothing else need be there. None where the run has nothing to do with it, which
            `Needs` cannot say.
        fragment: its part of the page, as jinja that sees ``run`` and the values, with the filters
            of `writing` and the macros of marks.jinja.
        half: whether half of the page's width is enough.
        open: whether it is unfolded when the page is opened, as what carries the verdict is; the
            values may say otherwise, as ``open``. Of others only the heading is seen, with ``gist``
            of the values beside it, if they have one: what it comes to, in a few words.
    """

    order: int
    link: str
    title: str
    needs: Needs
    values: Callable[[Run], Mapping[str, object] | None]
    fragment: str
    half: bool = False
    open: bool = False


def beside(module: str) -> str:
    """The fragment that is too long for its module, from the .jinja file beside it.

    Args:
        module: the module's ``__file__``.
    """
    return Path(module).with_suffix(".jinja").read_text(encoding="utf-8")
