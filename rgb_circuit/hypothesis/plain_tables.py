"""Convert hypotheses and other values to and from tables of text, numbers and lists, as TOML and
JSON hold them.

Every error is one sentence that begins with the place in the table.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import InputError
from ..files.table_text import shortened
from . import EXAMPLE, Hypothesis, Prediction


def hypotheses_of(
    table: Mapping[str, Any], where: str
) -> tuple[tuple[Hypothesis, ...], dict[str, Prediction]]:
    """The hypotheses of a table, and the predictions under ``predictions``, which several
    hypotheses may name."""
    shared = {
        name: _prediction_of(name, text, f"{where}: predictions.{name}")
        for name, text in typed(table.get("predictions", {}), dict, f"{where}: predictions").items()
    }
    given = typed(table.get("hypotheses", {}), dict, f"{where}: hypotheses")
    made = [
        _hypothesis_of(name, body, shared, f"{where}: hypotheses.{name}")
        for name, body in given.items()
    ]
    return tuple(made), shared


def _hypothesis_of(name, body, shared, where):
    """A hypothesis and its rivals from its table."""
    body = known_keys(body, where, needed=("predictions",), also=_KEYS)
    predictions = _predictions_of(body.pop("predictions"), shared, where)
    if "rivals" in body:
        by_name = {prediction.name: prediction for prediction in predictions}
        rivals = typed(body["rivals"], dict, f"{where}.rivals")
        body["rivals"] = tuple(
            _rival_of(rival, table, by_name, shared, f"{where}.rivals.{rival}")
            for rival, table in rivals.items()
        )
    if "not" in body:
        body["refutes"] = strings(body.pop("not"), f"{where}.not")
    if "score" in body:
        body["score"] = strings(body["score"], f"{where}.score")
    for key, value in body.items():
        if key not in ("rivals", "refutes", "score"):
            typed(value, bool if key == "in_circuit" else str, f"{where}.{key}")
    try:
        return Hypothesis(name, tuple(predictions), **body)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _predictions_of(given, shared, where):
    """Predictions from a table of them, or from a list of names of shared ones."""
    where = f"{where}.predictions"
    if isinstance(given, str) or isinstance(given, list) and any(":" in str(one) for one in given):
        raise InputError(
            f"{where} is {shortened(given)}, without names; give a table, in which each prediction "
            f"has one, such as R1 = {EXAMPLE}"
        )
    if isinstance(given, list):
        return [named_prediction(name, shared, where) for name in given]
    return [
        _prediction_of(name, text, f"{where}.{name}")
        for name, text in typed(given, dict, where).items()
    ]


def _rival_of(name, given, by_name, shared, where):
    """A rival from a table of predictions; one that claims the same as the hypothesis' becomes the
    hypothesis' own."""
    parsed = (
        _predictions_of(given, {**shared, **by_name}, where)
        if isinstance(given, list)
        else [
            _prediction_of(key, text, f"{where}.{key}")
            for key, text in typed(given, dict, where).items()
        ]
    )
    predictions = [
        by_name[one.name] if one.name in by_name and by_name[one.name].claims == one.claims else one
        for one in parsed
    ]
    try:
        return Hypothesis(name, tuple(predictions))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


_HYPOTHESIS = tuple(
    one.name
    for one in fields(Hypothesis)
    if one.name not in ("name", "predictions", "refutes", "rivals")
)
# The same keys as a file spells them.
_KEYS = (*_HYPOTHESIS, "not", "rivals")
_PREDICTION = ("instead_of", "varied", "says")


def _prediction_of(name, given, where):
    if isinstance(given, str):
        given = {"claims": given}
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where} is {shortened(given)}; give text such as {EXAMPLE} (several sweeps in one "
            "text, with ';' between them), or a table of claims and says"
        )
    table = known_keys(given, where, needed=("claims",), also=_PREDICTION)
    if isinstance(table.get("instead_of"), list):
        table["instead_of"] = strings(table["instead_of"], f"{where}.instead_of")
    try:
        return Prediction.parse(name, table.pop("claims"), **table)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def named_prediction(name, shared, where) -> Prediction:
    if name not in shared:
        raise InputError(
            f"{where} names {shortened(name)}, which is not among its predictions: "
            f"{', '.join(shared) or 'it has none'}"
        )
    return shared[name]


def known_keys(given, where, needed=(), also=()) -> dict[str, Any]:
    """A copy of a table, with all needed keys and no unknown one."""
    given = dict(typed(given, dict, where))
    known = (*needed, *also)
    if unknown := [name for name in given if name not in known]:
        raise InputError(
            f"{where} has the key {unknown[0]!r}, which is not known; use {', '.join(known)}"
        )
    if missing := [name for name in needed if name not in given]:
        raise InputError(f"{where} has no {missing[0]!r}; add it")
    return given


_KINDS = {
    str: "text in quotes",
    dict: "a table",
    list: "a list",
    bool: "true or false",
    float: "a number",
    int: "a whole number",
}


def typed(value, kind, where) -> Any:
    if kind is dict and isinstance(value, Mapping):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind):
        raise InputError(f"{where} is {shortened(value)}; give {_KINDS[kind]}")
    return value


def strings(value, where) -> tuple[Any, ...]:
    """A list of texts as a tuple."""
    if isinstance(value, tuple):
        value = list(value)
    return tuple(typed(text, str, where) for text in typed(value, list, where))


def made(kind, given, where, needed=()) -> Any:
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


def filled(value) -> dict[str, Any]:
    """The fields of a `Role`, `Condition` or `Template` that are not empty."""
    given = {one.name: getattr(value, one.name) for one in fields(value)}
    return {name: listed(own) for name, own in given.items() if own not in ("", None, (), {})}


def listed(value) -> Any:
    return list(value) if isinstance(value, tuple) else value


def plain_prediction(prediction) -> str | dict[str, Any]:
    more = {name: listed(value) for name in _PREDICTION if (value := getattr(prediction, name))}
    return {"claims": prediction.text} | more if more else prediction.text


def plain_hypothesis(hypothesis) -> dict[str, Any]:
    given = {name: listed(value) for name in _HYPOTHESIS if (value := getattr(hypothesis, name))}
    if hypothesis.refutes:
        given["not"] = list(hypothesis.refutes)
    if hypothesis.rivals:
        given["rivals"] = {rival.name: _names(rival) for rival in hypothesis.rivals}
    return given | {"predictions": _names(hypothesis)}


def _names(hypothesis):
    return [prediction.name for prediction in hypothesis.predictions]
