"""What a section of the report is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .run import Needs, Run


@dataclass(frozen=True)
class Section:
    """A section of the report: each module of `sections` makes one, as ``SECTION``.

    Attributes:
        order: its place among the sections of the page.
        link: its word in the navigation.
        title: its heading, as jinja with ``run``.
        needs: the frames and columns that it uses.
        values: the values for its fragment; or only ``why_not``, why nothing could be measured, in
            words. None if the section does not apply to the run in a way that `Needs` cannot say.
        fragment: its part of the page, as jinja with ``run`` and the values, the filters of
            `writing` and the macros of marks.jinja.
        half: whether half of the page's width is enough.
        open: whether it is unfolded at first, like the basis of the verdict; the values can
            override it with ``open``. A folded section shows only its heading and, if the values
            have one, its ``gist``, a summary in a few words.
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
    """A fragment that is too long for its module, from the .jinja file of the same name.

    Args:
        module: the module's ``__file__``.
    """
    return Path(module).with_suffix(".jinja").read_text(encoding="utf-8")
