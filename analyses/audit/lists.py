"""Lists of heads, read from files in common formats, and drawn at random.

A file may hold one list, or several by name:

- JSON: ``{"19": [6, 12]}`` (layer → heads), ``[[19, 6], [19, 12]]``, ``["19.6", "L19H6"]``, a
  dictionary name → one of these, scores ``{"19-6": 0.8}`` (layer-head → score or scores, which are
  averaged), or an export of ``rgb-circuit export``, a list per role;
- CSV, or a JSON list of objects, with the columns ``layer, head``, and optionally ``score`` and
  ``list``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import combinations, islice, product
from math import comb, prod
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rgb_circuit import InputError
from rgb_circuit.arguments import as_path
from rgb_circuit.files.table_text import separator_of, shortened
from rgb_circuit.heads import Head

Lists = dict[str, list[Head]]
FORMS = (
    'a list such as [[19, 6], [19, 12]] or ["19.6"], {"19": [6, 12]}, or several of these by name'
)


def read_lists(path: str | Path, top: int | None = None) -> Lists:
    """Read the lists of heads from a file; a list without a name gets the file's.

    Args:
        top: for heads with scores, how many of the largest to keep.

    Returns:
        Name → its heads, in the file's order, or by score.

    Raises:
        InputError: a file that cannot be read or holds no such lists, or scores without ``top``.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from analyses.audit import read_lists
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "visual.json")
        ...     _ = file.write_text('{"19": [6, 12]}')
        ...     read_lists(file)
        {'visual': [(19, 6), (19, 12)]}
    """
    path = as_path(path, "a JSON or CSV file of heads")
    try:
        contents = (
            _csv(path) if path.suffix.lower() == ".csv" else json.loads(path.read_text("utf-8-sig"))
        )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); give heads as JSON or CSV") from error
    lists = (
        _of_table(contents, path, top)
        if isinstance(contents, pd.DataFrame)
        else _of_json(contents, path, top)
    )
    for name, heads in lists.items():
        if not heads:
            raise InputError(f"{path.name}: the list {name!r} is empty; name at least one head")
    return lists


def alike(
    heads: Sequence[tuple[int, int]], n_heads: int, most: int, rng: np.random.Generator
) -> list[list[Head]]:
    """Other lists with as many heads in each layer: all of them if there are at most ``most``,
    otherwise that many drawn at random.

    Args:
        n_heads: per layer.
    """
    layers = {layer: sum(other == layer for other, _ in heads) for layer, _ in heads}
    original = frozenset(map(tuple, heads))
    if prod(comb(n_heads, number) for number in layers.values()) - 1 <= most:
        each = [
            [
                [Head(layer, head) for head in chosen]
                for chosen in combinations(range(n_heads), number)
            ]
            for layer, number in layers.items()
        ]
        candidates = ([head for part in parts for head in part] for parts in product(*each))
        return [chosen for chosen in candidates if frozenset(chosen) != original]
    drawn: dict[frozenset, list[Head]] = {}
    while len(drawn) < most:
        chosen = [
            Head(layer, int(head))
            for layer, number in layers.items()
            for head in rng.choice(n_heads, number, replace=False)
        ]
        if frozenset(chosen) != original:
            drawn.setdefault(frozenset(chosen), chosen)
    return list(islice(drawn.values(), most))


def _csv(path):
    with path.open(encoding="utf-8-sig") as file:
        separator, above = separator_of(file.readline())
    decimal = "," if separator == ";" else "."
    return pd.read_csv(path, sep=separator, skiprows=above, decimal=decimal)


def _of_table(table, path, top):
    columns = {str(name).strip().casefold(): name for name in table}
    if not {"layer", "head"} <= set(columns):
        raise InputError(
            f"{path.name} has no columns layer and head; it has {', '.join(map(str, table))}"
        )
    table = table.rename(columns={name: plain for plain, name in columns.items()})
    try:
        numbers = table[["layer", "head"]].astype(float).to_numpy()
        table = table.astype({"layer": int, "head": int})
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path.name}: layer and head are whole numbers from 0 ({error})"
        ) from error
    # A head called 19.6 in the column of heads would be head 19.
    if (wrong := numbers[numbers % 1 != 0]).size:
        raise InputError(
            f"{path.name}: layer and head are whole numbers from 0, and there is {wrong[0]:g}"
        )
    names = (
        table["list"].astype(str) if "list" in table else pd.Series(path.stem, index=table.index)
    )
    return {
        name: _best(
            [Head(*pair) for pair in zip(rows["layer"].tolist(), rows["head"].tolist())],
            rows["score"].tolist() if "score" in rows else None,
            path,
            top,
        )
        for name, rows in table.groupby(names, sort=False)
    }


def _of_json(contents, path, top):
    if isinstance(contents, Mapping) and isinstance(contents.get("heads"), Sequence):
        return _of_export(contents["heads"], path)
    if isinstance(contents, list) and contents and all(isinstance(r, Mapping) for r in contents):
        return _of_table(pd.DataFrame(contents), path, top)
    if isinstance(contents, Mapping) and contents and not all(map(_is_layer_or_head, contents)):
        return {
            str(name): _one_list(part, f"{path.name}, {name!r}", path, top)
            for name, part in contents.items()
        }
    return {path.stem: _one_list(contents, path.name, path, top)}


def _of_export(rows, path):
    """A list per role from an export of ``rgb-circuit export``."""
    lists: Lists = {}
    for row in rows:
        if not isinstance(row, Mapping) or not {"layer", "head"} <= set(row):
            raise InputError(f"{path.name} has a head {shortened(row)}; each has layer and head")
        for role in str(row.get("role", path.stem)).split(" + "):
            lists.setdefault(role, []).append(_head((row["layer"], row["head"]), path.name))
    return lists


def _is_layer_or_head(key):
    """Whether a key names a layer, "19", or a head, "19-6" or "19.6"."""
    return key.replace("-", ".").replace(".", "", 1).isdecimal()


def _one_list(contents, where, path, top):
    if isinstance(contents, Mapping):
        if contents and all(str(key).isdecimal() for key in contents):
            return [
                _head((int(layer), head), where)
                for layer, heads in contents.items()
                for head in _several(heads, where)
            ]
        heads = [_head(key, where) for key in contents]
        return _best(heads, [_score(value, where) for value in contents.values()], path, top)
    if isinstance(contents, str):
        contents = contents.split(",")
    return [_head(one, where) for one in _several(contents, where)]


def _several(value, where):
    if not isinstance(value, list):
        raise InputError(f"{where} holds {shortened(value)}; give {FORMS}")
    return value


def _head(given: Any, where: str) -> Head:
    if isinstance(given, str):
        text = re.sub(r"L(\d+)H(\d+)", r"\1.\2", given.strip(), flags=re.IGNORECASE)
        return Head.parse(text.replace("-", "."), f"a head of {where}")
    pair = list(given) if isinstance(given, Sequence) else []
    if len(pair) != 2 or not all(type(number) is int and number >= 0 for number in pair):
        raise InputError(f"{where} holds {shortened(given)}, which is no head; give {FORMS}")
    return Head(*pair)


def _score(value, where):
    numbers = value if isinstance(value, list) and value else [value]
    if not all(isinstance(number, Real) for number in numbers):
        raise InputError(f"{where}: a head's score is {shortened(value)}; give a number or a list")
    return float(np.mean(numbers))


def _best(heads, scores, path, top):
    if scores is None:
        return heads
    if top is None:
        raise InputError(
            f"{path.name} has a score for each of {len(heads)} heads, and no list; say how many of "
            "the largest are meant, with top=10"
        )
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")[:top]
    return [heads[place] for place in order]
