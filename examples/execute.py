"""Runs the notebooks here and keeps their outputs in them.

    python examples/execute.py

Left out is what differs from machine to machine: what is written to standard error, and the pages
of runs, which are as large as all else together. `outputs` is also what the tests hold a new
execution against.
"""

import base64
import io
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
# A page of a run, in letters of HTML.
LARGE = 200_000
# That pictures are kept in: a scale from red to blue, and writing.
COLORS = 64


def executed(*paths: Path) -> list[nbformat.NotebookNode]:
    """Notebooks with all of their new outputs, run one after the other in one kernel, where each
    finds nothing defined and a folder of its own."""
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        cells = []
        for number, notebook in enumerate(notebooks):
            (Path(folder) / f"{number}").mkdir()
            begin = f"%reset -f\n%cd -q {folder}/{number}"
            cells += [nbformat.v4.new_code_cell(begin), *notebook.cells]
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number}"
        every = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(every, timeout=900, kernel_name="python3").execute()
    return notebooks


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same with those outputs that are kept, and cells counted from 1."""
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell["id"], cell["metadata"] = f"cell-{number}", {}
        if cell.cell_type == "code":
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = [kept(one) for one in cell.outputs if one.get("name") != "stderr"]
            for output in cell["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = count
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def kept(output):
    """An output without what is too large to be kept, and its picture in few colours."""
    data = output.get("data", {})
    if len(data.get("text/html", "")) > LARGE:
        del data["text/html"]
    if "image/png" in data:
        picture, small = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))), io.BytesIO()
        on_white = Image.alpha_composite(
            Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")
        )
        on_white.convert("RGB").quantize(COLORS).save(small, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return output


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each code cell says in text, output by output, but for addresses in memory."""
    return [
        [
            re.sub(
                r"\b0x[0-9a-f]+", "0x", one.get("text") or one.get("data", {}).get("text/plain", "")
            )
            for one in cell.outputs
            if one.get("name") != "stderr"
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def same(one: str, other: str, share: float = 1e-3, least: float = 1e-5) -> bool:
    """Whether two texts differ in nothing but the last digits of numbers."""
    number = r"[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
    if re.sub(number, "#", one).split() != re.sub(number, "#", other).split():
        return False
    values = [
        [float(text.replace("−", "-")) for text in re.findall(number, some)]
        for some in (one, other)
    ]
    return all(abs(a - b) <= least + share * max(abs(a), abs(b)) for a, b in zip(*values))


if __name__ == "__main__":
    for path in NOTEBOOKS:
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            [notebook] = executed(path)
            nbformat.write(tidied(notebook), path)
            print(path.name)
