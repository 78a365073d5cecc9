"""Pairs of rows, for tables of single pictures: the counterfactual of a picture is another row with
another answer.

Within each group of ``by``, rows are matched two by two. Rows with a word of the answer in common
are never paired. If each answer is a single word, as many rows as possible get a partner: each step
takes a row of the answer with most rows left, and a row of another answer at random. Each pair is
in the table twice, once with either row first, so every picture is clean as often as it is changed,
and every answer right as often as wrong.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from ..arguments import whole_number
from ..errors import InputError
from ..files.table_text import shortened
from ..warning import warn
from .row_texts import entries, plain
from .rows import Rows, is_missing

BESIDE = "other_"


def pair(
    rows: object, *, differ: str = "gt_answer", by: str | Sequence[str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Pair every row with a row of another answer.

    Args:
        rows: as in `rgb_circuit.trials_from`.
        differ: the column whose cells must differ in a pair; cells of several words must have none
            in common.
        by: column or columns whose cells must be equal in a pair, such as the question.
        seed: the same seed gives the same pairs.

    Returns:
        A row for each row with a partner: its columns; for each column the partner's, as
        ``other_COLUMN``; ``pair``, the number of the pair that two rows share (a cluster); ``row``,
        its number in ``rows``. ``attrs["left_over"]`` lists the numbers of rows without a partner,
        and ``attrs["folder"]`` is the file's folder, which paths count from.

    Raises:
        InputError: a column that is missing or that pairing adds, a cell of ``differ`` that is no
            text, or rows of which no two make a pair.

    Warns:
        UserWarning: rows are left over.

    Examples:
        >>> words = ["yes", "yes", "no", "no"]
        >>> rows = [{"image": f"{n}.png", "gt_answer": word} for n, word in enumerate(words)]
        >>> paired = rgb.pair(rows)
        >>> paired[["image", "gt_answer", "other_gt_answer"]].values.tolist()[0]
        ['0.png', 'yes', 'no']
        >>> paired["pair"].tolist()
        [0, 1, 0, 1]
    """
    table = Rows.of(rows)
    grouping = [by] if isinstance(by, str) else list(by or ())
    for name in (differ, *grouping):
        if name not in table.columns:
            raise InputError(
                f"there is no column {shortened(name)} to pair {table.called} by; it has "
                f"{', '.join(map(repr, table.columns))}"
            )
    frame = table.frame()
    added = [BESIDE + name for name in frame.columns] + ["pair", "row"]
    if twice := [name for name in frame.columns if name in added]:
        raise InputError(
            f"{table.called}: there is a column {twice[0]!r}, which pairing adds; rename it"
        )
    partner = _partners(frame, differ, grouping, seed)
    left_over = [number for number in range(len(frame)) if number not in partner]
    if not partner:
        raise InputError(
            f"{table.called}: no two rows differ in {differ!r}"
            + (f" and agree in {', '.join(grouping)}" if grouping else "")
            + "; name another column, or fewer that must agree"
        )
    if left_over:
        warn(
            f"{table.called}: {len(left_over)} of {len(frame)} rows have no partner with another "
            f"{differ!r} and are left out, such as row {left_over[0]} (from 0)"
        )
    first = frame.iloc[sorted(partner)].reset_index(drop=True)
    other = frame.iloc[[partner[number] for number in sorted(partner)]].reset_index(drop=True)
    numbers = [min(number, partner[number]) for number in sorted(partner)]
    order = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
    paired = pd.concat([first, other.add_prefix(BESIDE)], axis=1)
    beside = [name for column in frame.columns for name in (column, BESIDE + column)]
    paired = paired[beside].assign(pair=[order[number] for number in numbers], row=sorted(partner))
    paired.attrs["left_over"] = left_over
    if table.folder is not None:
        # As text, which pandas can write into files.
        paired.attrs["folder"] = str(table.folder.absolute())
    return paired


def _partners(frame, differ, grouping, seed):
    """Row → its partner, in both directions."""
    rng = np.random.default_rng(whole_number("seed", seed, least=0))
    words = [
        [] if is_missing(cell) else [plain(word, differ).casefold() for word in entries(cell)]
        for cell in frame[differ]
    ]
    several = any(len(row_words) > 1 for row_words in words)
    groups: dict[Hashable, dict[Hashable, list[int]]] = {}
    for number, row_words in enumerate(words):
        keys = tuple(str(frame[name].iloc[number]) for name in grouping)
        if row_words:
            groups.setdefault(keys, {}).setdefault(row_words[0], []).append(number)
    partner = {}
    for answers in groups.values():
        left = [list(rng.permutation(numbers)) for numbers in answers.values()]
        while len(left := [numbers for numbers in left if numbers]) > 1:
            counts = np.array([len(numbers) for numbers in left])
            most = int(rng.choice(np.flatnonzero(counts == counts.max())))
            row = int(left[most].pop())
            # All rows with another answer are equally likely.
            fitting = left
            if several:
                fitting = [[n for n in rows if not {*words[n]} & {*words[row]}] for rows in left]
            counts = np.array([len(numbers) for numbers in fitting])
            counts[most] = 0
            if not counts.any():
                continue
            place = int(rng.choice(len(left), p=counts / counts.sum()))
            partner_row = int(fitting[place][-1])
            left[place].remove(partner_row)
            partner |= {row: partner_row, partner_row: row}
    return partner
