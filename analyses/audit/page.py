"""The page of an audit: a sentence per list, one table of lists, one of heads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from rgb_circuit.files.results import write_bytes
from rgb_circuit.heads import Head

from ..report.page import environment_of
from .sentences import sentences, table
from .verdicts import heads


def write_page(
    folder: Path, frame: pd.DataFrame, about: Mapping[str, object], files: Sequence[str]
) -> Path:
    """Write audit.html.

    Args:
        frame: from `analyses.audit.audit`.
        about: ``model`` and ``asks``, in words.
        files: names of the files that the lists were read from.
    """
    of_heads = heads(frame).sort_values("restored", key=abs, ascending=False, kind="stable")
    rows = [
        row | {"name": str(Head(row["layer"], row["head"]))} for row in of_heads.to_dict("records")
    ]
    first = frame.iloc[0]
    text = (
        environment_of("analyses.audit")
        .get_template("audit.html.jinja")
        .render(
            about=about,
            sentences=sentences(frame),
            table=table(frame),
            heads=rows,
            files=files,
            n=int(frame["n"].max()),
            positions=first["positions"],
            source=first["source"],
            target=first["target"],
        )
    )
    return write_bytes(folder / "audit.html", text.encode())
