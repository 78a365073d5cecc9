"""Draws in which each word is used equally often in each role, and no place repeats before all were
used."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..errors import InputError
from ..warning import warn


def balanced(
    roles: Sequence[str],
    words: Sequence[str],
    grid: int,
    n: int,
    seed: int,
    fixed: Mapping[str, Any],
    *,
    called: str,
    also: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """What each of ``n`` trials on a board shows: role → word, and ``tile``, the (row, column) of
    its marked tile. Fixed values are passed through.

    Every run of ``len(words)`` trials uses each word once per role. The first tile is never drawn:
    under causal attention its token has seen no other tile to differ from.

    Args:
        roles: the roles to draw words for.
        words: the words to draw.
        grid: tiles per side.
        seed: the same seed gives the same draws.
        fixed: any of the roles, ``tile`` and ``also``, held fixed.
        called: the kind of the words, such as "colours", for messages.
        also: other keys that may be fixed; their values are passed on unchanged.

    Raises:
        InputError: a key that cannot be fixed, too few words left to draw from, or an invalid
            number of trials or seed.

    Warns:
        UserWarning: some trials have the same pictures, since too much is fixed.

    Examples:
        >>> fixed = {"tile": (2, 3)}
        >>> words = ["star", "ring"]
        >>> draws = balanced(["odd"], words, 6, n=2, seed=0, fixed=fixed, called="shapes")
        >>> sorted(draw["odd"] for draw in draws), draws[0]["tile"]
        (['ring', 'star'], (2, 3))
    """
    check_request(n, seed, fixed, (*roles, "tile", *also))
    drawn_roles = [role for role in roles if role not in fixed]
    taken = {word for word in fixed.values() if isinstance(word, str)}
    free = [word for word in words if word not in taken]
    if len(free) < len(drawn_roles):
        pass_more = "".join(f", or pass {name}=" for name in also)
        raise InputError(
            f"{len(drawn_roles)} {called} are to be drawn but only {', '.join(free) or 'none'} can "
            f"be; fix fewer{pass_more}"
        )

    rng = np.random.default_rng(seed)
    places = [(row, column) for row in range(grid) for column in range(grid)][1:]
    order, tiles, draws, different = [], [], [], set()
    for index in range(n):
        # ``free`` is empty if every role is fixed.
        shift = index % max(1, len(free))
        if shift == 0:
            order = list(rng.permutation(free))
        if not tiles:
            tiles = list(rng.permutation(len(places)))
        drawn = {
            role: str(order[(shift + offset) % len(free)])
            for offset, role in enumerate(drawn_roles)
        }
        draws.append({"tile": places[tiles.pop()], **drawn, **fixed})
        different.add(tuple(str(draws[-1][name]) for name in ("tile", *roles)))
    if len(different) < n:
        what = "all alike" if len(different) == 1 else f"of only {len(different)} kinds"
        held = [name for name in ("tile", *roles) if name in fixed]
        leave = f"leave some of {', '.join(held)} to be drawn, or " if held else ""
        warn(
            f"the pictures of these {n} trials are {what}, so they count as more observations than "
            f"they are; {leave}ask for {len(different)}"
        )
    return draws


def check_request(n: int, seed: int, fixed: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise InputError unless the number of trials and the seed are valid, and nothing is held
    fixed but what is ``known``."""
    if unknown := sorted(set(fixed) - set(known)):
        raise InputError(
            f"cannot fix {', '.join(unknown)}; what can be fixed is {', '.join(known)}"
        )
    as_request(n, seed)


def as_request(n: int, seed: int) -> tuple[int, int]:
    """A number of trials and a seed as ints; InputError unless they are valid."""
    n = whole_number("n", n, advice="ask for a whole number of trials, one or more")
    return n, whole_number("seed", seed, least=0)


def in_turn(options: Sequence[Any], n: int, rng: np.random.Generator) -> list[Any]:
    """``n`` of some options, in an order that is drawn anew each time all were used.

    Examples:
        >>> drawn = in_turn(["left", "right"], 4, np.random.default_rng(0))
        >>> sorted(drawn[:2]), drawn.count("left")
        (['left', 'right'], 2)
    """
    drawn: list[Any] = []
    while len(drawn) < n:
        drawn += [options[index] for index in rng.permutation(len(options))]
    return drawn[:n]
