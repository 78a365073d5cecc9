"""The edits of an audit: for each list, for random lists like it, and for each head alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rgb_circuit import Edit, InputError, Vlm
from rgb_circuit.arguments import whole_number
from rgb_circuit.edits import Positions, check_edits, check_heads
from rgb_circuit.files.table_text import shortened
from rgb_circuit.heads import Head

from ..circuit.resampling import RESAMPLED
from .lists import alike

# Measure → how the heads are silenced in the source run.
SILENCED = {"lost (mean)": "mean", "lost (zero)": "zero", "lost (resampling)": RESAMPLED}


class Variant(NamedTuple):
    """One patched run.

    Attributes:
        of: the list's name; None for a single head.
        measure: the measure that the run is for.
        number: 0 for the list itself, from 1 on for random lists; for a single head, the head.
    """

    of: str | None
    measure: str
    number: int | Head


@dataclass(frozen=True)
class Design:
    """The lists, with random lists for each, and their heads.

    Attributes:
        lists: name → the list itself, then random lists like it.
        heads: all heads of all lists, without repeats.
    """

    lists: Mapping[str, Sequence[Sequence[tuple[int, int]]]]
    heads: Sequence[Head]
    source: str
    target: str
    positions: Positions

    def edits(self, heads: Sequence[tuple[int, int]], instead: str) -> list[Edit]:
        """Edits that set each of these heads to its state in another run, or to an average."""
        return [Edit(*head, instead, positions=self.positions) for head in heads]

    def restored(self) -> dict[Variant, list[Edit]]:
        """The edits of the target run."""
        each = {
            Variant(name, "restored", number): self.edits(heads, self.source)
            for name, several in self.lists.items()
            for number, heads in enumerate(several)
        }
        return each | {
            Variant(None, "restored", head): self.edits([head], self.source) for head in self.heads
        }

    def silenced(self, model: Vlm) -> dict[Variant, list[Edit]]:
        """The edits of the source run: without the heads, and with only the heads."""
        runs: dict[Variant, list[Edit]] = {}
        held = dict(zip(model.heads(), self.edits(model.heads(), self.target)))
        for name, several in self.lists.items():
            for number, heads in enumerate(several):
                for measure, instead in SILENCED.items():
                    runs[Variant(name, measure, number)] = self.edits(heads, instead)
                kept = set(heads)
                others = [edit for head, edit in held.items() if head not in kept]
                # With every head kept nothing is held, so the run sets a head to its own output.
                runs[Variant(name, "alone", number)] = others or self.edits(heads[:1], self.source)
        for head in self.heads:
            for measure, instead in SILENCED.items():
                runs[Variant(None, measure, head)] = self.edits([head], instead)
        return runs


def design(
    model: Vlm,
    lists: Mapping[str, Sequence[tuple[int, int]]],
    source: str,
    target: str,
    positions: str | Sequence[int],
    random_lists: int,
    seed: int,
) -> Design:
    """The design of an audit, see `analyses.audit.audit`.

    Raises:
        InputError: no list, one that is empty or names a head that does not exist or one twice,
            invalid positions, or a negative number of random lists.
    """
    random_lists = whole_number("random_lists", random_lists, 0, "use 0 or more")
    if not isinstance(lists, Mapping) or not lists:
        raise InputError(
            f"lists is {shortened(lists)}; name each list of heads, such as {{'visual': [(19, 6), "
            "(19, 12)]}"
        )
    rng = np.random.default_rng(seed)
    checked: dict[str, list[Head]] = {}
    for name, heads in lists.items():
        try:
            checked[str(name)] = check_heads(model, heads)
        except InputError as error:
            raise InputError(f"list {name!r}: {error}") from error
        if not checked[str(name)]:
            raise InputError(f"list {name!r} is empty; name at least one (layer, head)")
    edit = Edit(0, 0, source, positions=positions)  # type: ignore[arg-type]
    check_edits(model, {"audit": [edit]})
    return Design(
        {
            name: [heads, *alike(heads, model.n_heads, random_lists, rng)]
            for name, heads in checked.items()
        },
        list(dict.fromkeys(head for heads in checked.values() for head in heads)),
        source,
        target,
        edit.positions,
    )
