"""A run's material for a paper: figures, a table, a paragraph of methods, and a citation."""

from pathlib import Path

import matplotlib
import pandas as pd

from rgb_circuit.calls.panels import LEAST_SAID
from rgb_circuit.files.results import open_folder, write_bytes
from rgb_circuit.heads import rows_of
from rgb_circuit.keeping.saved_run import SavedRun, recorded_task
from rgb_circuit.plots import panel_heatmaps
from rgb_circuit.plots.canvas import without_formulas

# Embed text as fonts, so that figures can be edited, and make files reproducible.
SETTINGS = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "rgb_circuit"}
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
CITATION = """\
cff-version: 1.2.0
message: If you use these results, please cite the software that made them.
title: rgb_circuit
type: software
version: {version}
authors:
  - name: The rgb_circuit authors
"""


def write(run: SavedRun, folder: Path) -> list[Path]:
    """Write panels.pdf, panels.svg, heads.tex, methods.txt and CITATION.cff.

    Raises:
        InputError: the run is not finished, or has no roles.
    """
    texts = {"heads.tex": heads_as_latex(run), "methods.txt": methods(run)}
    texts["CITATION.cff"] = CITATION.format(version=run.manifest["versions"]["rgb_circuit"])
    which = {row.panel: (row.target, row.role) for row in run.frames["panels"].itertuples()}
    open_folder(folder)
    written = [write_bytes(folder / name, text.encode()) for name, text in texts.items()]
    with matplotlib.rc_context(SETTINGS):
        figure = without_formulas(panel_heatmaps(run.frames["patch_heads"], run.model, which))
        for kind, undated in UNDATED.items():
            path = folder / f"panels.{kind}"
            figure.savefig(path, format=kind, metadata=undated)
            written.append(path)
    return written


def heads_as_latex(run: SavedRun) -> str:
    """The heads with a role as a LaTeX table (booktabs): role, head, effect with interval, q, n."""
    task, evidence = recorded_task(run.manifest), run.frames["evidence"]
    rows = []
    for head in run.findings.itertuples():
        for role in head.role.split(" + "):
            name = task.hypothesis(role).score[0]
            own = rows_of(evidence, (head.layer, head.head))
            [tested] = own[own["prediction"] == name].to_dict("records")
            ends = f"[{tested['ci_low']:.2f}, {tested['ci_high']:.2f}]"
            rows.append(
                {
                    "Role": role,
                    "Head": f"{head.layer}.{head.head}",
                    "Prediction": name,
                    "Effect (logits)": f"{tested['effect']:.2f} {ends}",
                    "$q$": f"{tested['q_value']:.2g}",
                    "$n$": str(tested["n"]),
                }
            )
    columns = ["Role", "Head", "Prediction", "Effect (logits)", "$q$", "$n$"]
    table = pd.DataFrame(rows, columns=columns)
    # Only names of roles come from users and need escaping.
    table["Role"] = table["Role"].map(_escaped)
    return table.to_latex(index=False, column_format="llllrr")


def methods(run: SavedRun) -> str:
    """A paragraph: model, trials, interventions, tests, corrections, versions."""
    manifest, task = run.manifest, recorded_task(run.manifest)
    options, versions = manifest["options"], manifest["versions"]
    n, seed = len(manifest["trials"]), options.get("seed")
    drawn = "from a file" if "trials_file" in options else f"drawn with seed {seed}"
    commit = f", commit {manifest['commit']}" if manifest.get("commit") else ""
    return (
        f"We asked {manifest['model']}{commit} ({manifest['dtype']}) “{task.question}” about {n} "
        f"trials {drawn}. For each of its {manifest['layers']} × {manifest['heads']} attention "
        f"heads we restored the head's output before the output projection, at "
        f"{options['positions']}, from the run on one picture in the run on another (activation "
        f"patching), and tested {len(task.predictions)} predictions about the "
        "effects on the answers' logits. Trials are the replicates: intervals are 95 % t intervals "
        "within the words of the answer, corrected for skewness (Hall 1992); an absence is shown "
        "where most trials lie inside a margin (binomial test); p values are corrected over heads "
        f"by Benjamini and Hochberg's procedure at 5 %. An effect counts from {LEAST_SAID} on. A "
        f"head has a role where each prediction of the role holds. Computed with rgb_circuit "
        f"{versions['rgb_circuit']}, nnsight {versions['nnsight']}, torch {versions['torch']} and "
        f"transformers {versions['transformers']}.\n"
    )


def _escaped(text):
    return "".join("\\" + letter if letter in "&%$#_{}" else letter for letter in text)
