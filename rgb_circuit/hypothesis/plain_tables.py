"""Hypotheses and other values from tables of text, numbers and lists, as TOML and JSON hold them,
and back.

Whatever is wrong in a table is one sentence that begins with where it stands.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import InputError
from ..files.table_text import shortened
from . import Hypothesis, Prediction


def hypotheses_of(
    table: Mapping[str, Any], where: str
) -> tuple[tuple[Hypothesis, ...], dict[str, Prediction]]:
    """The hypotheses of a table, and the predictions under ``predictions``, which several may
    name."""
    shared = {
        name: _prediction_of(name, text, f"{where}: predictions.{name}")
        for name, text in typed(table.get("predictions", {}), dict, f"{where}: predictions").items()
    }
    made = []
    for name, body in typed(table.get("hypotheses", {}), dict, f"{where}: hypotheses").items():
        here = f"{where}: hypotheses.{name}"
        body = known_keys(body, here, needed=("predictions",), also=_HYPOTHESIS)
        given = body.pop("predictions")
        if isinstance(given, list):
            predictions = [named_prediction(one, shared, f"{here}.predictions") for one in given]
        else:
            predictions = [
                _prediction_of(one, text, f"{here}.predictions.{one}")
                for one, text in typed(given, dict, f"{here}.predictions").items()
            ]
        for key, value in body.items():
            kind = {"score": list, "in_circuit": bool}.get(key, str)
            body[key] = (
                strings(value, f"{here}.{key}")
                if kind is list
                else typed(value, kind, f"{here}.{key}")
            )
        try:
            made.append(Hypothesis(name, tuple(predictions), **body))
        except InputError as error:
            raise InputError(f"{here}: {error}") from error
    return tuple(made), shared


_HYPOTHESIS = tuple(
    one.name for one in fields(Hypothesis) if one.name not in ("name", "predictions")
)
_PREDICTION = ("instead_of", "varied", "says")


def _prediction_of(name, given, where):
    if isinstance(given, str):
        given = {"claims": given}
    table = known_keys(given, where, needed=("claims",), also=_PREDICTION)
    if isinstance(table.get("instead_of"), list):
        table["instead_of"] = strings(table["instead_of"], f"{where}.instead_of")
    try:
        return Prediction.parse(name, table.pop("claims"), **table)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def named_prediction(name, shared, where):
    if name not in shared:
        raise InputError(
            f"{where} names {shortened(name)}, which is not among its predictions: "
            f"{', '.join(shared) or 'it has none'}"
        )
    return shared[name]


def known_keys(given, where, needed=(), also=()):
    """A copy of a table that has all that it needs, and nothing that is not known."""
    given = dict(typed(given, dict, where))
    known = (*needed, *also)
    if unknown := [name for name in given if name not in known]:
        raise InputError(
            f"{where} has the key {unknown[0]!r}, which is not known; use {', '.join(known)}"
        )
    if missing := [name for name in needed if name not in given]:
        raise InputError(f"{where} has no {missing[0]!r}; add it")
    return given


_KINDS = {str: "text in quotes", dict: "a table", list: "a list", bool: "true or false"}


def typed(value, kind, where):
    if kind is dict and isinstance(value, Mapping):
        return value
    if not isinstance(value, kind):
        raise InputError(f"{where} is {shortened(value)}; give {_KINDS[kind]}")
    return value


def strings(value, where):
    """A list of texts as a tuple."""
    if isinstance(value, tuple):
        value = list(value)
    return tuple(typed(text, str, where) for text in typed(value, list, where))


def made(kind, given, where, needed=()):
    """A `Role`, `Condition` or `Template` from its table."""
    names = tuple(one.name for one in fields(kind) if one.name not in needed)
    table = known_keys(given, where, needed, names)
    for name, value in table.items():
        here = f"{where}.{name}"
        if name in ("shows", "words"):
            table[name] = strings(value, here)
        elif name == "questions":
            for condition, question in typed(value, dict, here).items():
                typed(question, str, f"{here}.{condition}")
        else:
            typed(value, str, here)
    return kind(**table)


def filled(value):
    """The fields of a `Role`, `Condition` or `Template` that are not empty."""
    given = {one.name: getattr(value, one.name) for one in fields(value)}
    return {name: listed(own) for name, own in given.items() if own not in ("", None, (), {})}


def listed(value):
    return list(value) if isinstance(value, tuple) else value


def plain_prediction(prediction):
    more = {name: listed(value) for name in _PREDICTION if (value := getattr(prediction, name))}
    return {"claims": prediction.text} | more if more else prediction.text


def plain_hypothesis(hypothesis):
    given = {name: listed(value) for name in _HYPOTHESIS if (value := getattr(hypothesis, name))}
    return given | {"predictions": [prediction.name for prediction in hypothesis.predictions]}
