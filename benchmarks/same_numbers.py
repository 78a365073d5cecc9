"""Whether two checkouts compute the same numbers: every frame of the same commands equal to the
last bit.

    # Against main: git worktree add ../old main
    python benchmarks/same_numbers.py ../old .
    python benchmarks/same_numbers.py ../old . --only toy --only knockout

Each case is a few commands, run one after the other in a folder of its own, with the checkout on
PYTHONPATH and the interpreter that runs this script. Compared are the files that the commands leave
in that folder (but ``parts/``, from which frames are made) and what they print:

- frames (``.parquet``): columns, their order and types, the metadata that pandas stores (such as
  ``attrs``), the categories of categorical columns, and every value, numbers to the last bit;
- figures (``.png``): byte by byte;
- ``report.html``, ``.csv`` and what is printed: line by line, without what must differ
  (`MUST_DIFFER`).

Differences are printed, and the exit status is 1 if there are any. Results of OLD are kept in the
system's folder for temporary files, under its commit, unless its working tree has changes. All
commands run on one thread, since another number of threads adds numbers in another order.
"""

import argparse
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Made once, by OLD, and given to both: a folder with a noisy planted model, and a CSV of pairs of
# pictures.
INPUTS = """
import csv, sys
from pathlib import Path
import rgb_circuit as rgb
from rgb_circuit.models.planted import planted

folder = Path(sys.argv[1])
model, processor, truth = planted(noise=0.03)
for saved in (model, processor):
    saved.save_pretrained(folder / "noisy")
(folder / "pairs").mkdir()
with open(folder / "pairs" / "pairs.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["name", "question", "clean", "image:other", "answer:right", "answer:wrong",
                    "expected:clean", "expected:other", "tile_row", "tile_column", "grid"])
    for number, trial in enumerate(rgb.rgb_trials(rgb.load("toy"), 6, seed=1)):
        for condition in ("clean", "recolored"):
            trial.images[condition].save(folder / "pairs" / f"{number}-{condition}.png")
        words = [trial.answers[trial.expected[condition]] for condition in ("clean", "recolored")]
        table.writerow([f"pair {number}", "Which color is the odd color out? Respond in one word",
                        f"{number}-clean.png", f"{number}-recolored.png", *words, "right", "wrong",
                        *trial.tile, trial.grid])
"""

# Name → commands, INPUTS standing for the folder of what `INPUTS` makes.
CASES = {
    "toy": ["run --trials 32 --out run"],
    "planted": ["run --model planted --trials 16 --out run"],
    "noisy": ["run --model INPUTS/noisy --trials 16 --only-correct --out run"],
    "text": ["run --trials 6 --positions text --out run"],
    "pattern": ["run --trials 16 --heads 3.0,2.1 --component pattern --out run"],
    "pairs": ["run --trials-file INPUTS/pairs/pairs.csv --out run"],
    "shards": [
        "run --trials 12 --seed 3 --shard 1/2 --out run",
        "run --trials 12 --seed 3 --shard 2/2 --out run",
        "report run",
    ],
    "calibrate": ["calibrate --models 1 --random 1 --trials 16 --out run"],
    # Into a run's own folder and page, and into a folder of its own.
    "layers": [
        "run --trials 6 --out run",
        "layers run",
        "layers --trials 4 --component mlp_out --out alone",
    ],
    "knockout": [
        "run --model planted --trials 6 --out run",
        "knockout run",
        "knockout --trials 4 --window 2 --keys tile,rest --out alone",
    ],
}

# What → its pattern, taken out of pages, CSVs and printed words.
MUST_DIFFER = {
    "when a page's run was made, and how long it "
    "took": r"\d{1,2} [A-Z][a-z]+ \d{4}, in [^<]+(?=</p>)",
    "a page's block of the manifest: times, versions": r'<table class="facts">.*?</table>',
}

# The file with what the commands of a case print.
PRINTED = "printed.txt"
PRINT_AT_MOST = 50
# Characters on either side of where two lines part.
SHOWN = 60


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="checkout, as it was")
    parser.add_argument("new", type=Path, help="checkout, as it is")
    parser.add_argument(
        "--only", action="append", choices=CASES, help="this case; may be given several times"
    )
    options = parser.parse_args(arguments)
    for checkout in (options.old, options.new):
        _check_imported(checkout)
    scratch = Path(tempfile.mkdtemp(prefix="same_numbers-"))
    commit = _commit(options.old)
    kept = (
        scratch / "old" if commit is None else Path(tempfile.gettempdir()) / "same_numbers" / commit
    )
    inputs = _kept(kept, "inputs", INPUTS, lambda folder: _make_inputs(options.old, folder))
    differing = []
    for name in options.only or CASES:
        commands = [command.replace("INPUTS", str(inputs)) for command in CASES[name]]
        print(f"{name}: ", end="", flush=True)
        start = time.perf_counter()
        old = _kept(
            kept, name, str(commands), lambda folder: _run_all(options.old, commands, folder, True)
        )
        between = time.perf_counter()
        new = scratch / "new" / name
        new.mkdir(parents=True)
        _run_all(options.new, commands, new, False)
        lines = list(differences(old, new))
        took = f"old {between - start:.0f} s, new {time.perf_counter() - between:.0f} s"
        print(f"{f'{len(lines)} differences' if lines else 'same'} ({took})")
        if lines:
            differing.append(name)
            print(*(f"  {line}" for line in lines[:PRINT_AT_MOST]), sep="\n")
            print(f"  results: {old} and {new}", flush=True)
    if differing:
        print(f"different: {', '.join(differing)}")
        return 1
    shutil.rmtree(scratch)
    return 0


def differences(old: Path, new: Path) -> Iterator[str]:
    """A line for each difference between two folders of results, by file; none where they are the
    same."""
    files = [_files(folder) for folder in (old, new)]
    for name in sorted(files[0] | files[1]):
        if name not in files[1]:
            yield f"{name}: only in old"
        elif name not in files[0]:
            yield f"{name}: only in new"
        elif (old / name).read_bytes() != (new / name).read_bytes():
            yield from (f"{name}: {line}" for line in _file_differences(old / name, new / name))


def _file_differences(old, new):
    if old.suffix == ".parquet":
        return frame_differences(pq.read_table(old), pq.read_table(new))
    if old.suffix in (".html", ".csv", ".txt"):
        return text_differences(old.read_text(), new.read_text())
    return ["other bytes"]


def _files(folder):
    """Names of the files that are compared. Manifests hold times and versions, ``sizes.json`` what
    memory was free, and locks nothing."""
    left_out = ("manifest.json", "sizes.json", ".lock")
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        and "parts" not in path.relative_to(folder).parts
        and not path.name.endswith(left_out)
    }


def frame_differences(old: pa.Table, new: pa.Table) -> Iterator[str]:
    """A line for each difference between two frames: columns, metadata, or rows, each column with
    how many rows of it differ, the first of them, and the largest difference of numbers."""
    if old.column_names != new.column_names:
        yield f"columns {old.column_names} in old, {new.column_names} in new"
        return
    if old.num_rows != new.num_rows:
        yield f"{old.num_rows} rows in old, {new.num_rows} in new"
        return
    for name in old.column_names:
        a, b = old.column(name), new.column(name)
        if a.type != b.type:
            yield f"column {name}: type {a.type} in old, {b.type} in new"
        if _categories(a) != _categories(b):
            yield f"column {name}: categories {_categories(a)} in old, {_categories(b)} in new"
        pairs = list(zip(a.to_pylist(), b.to_pylist(), strict=True))
        rows = [row for row, pair in enumerate(pairs) if not same(*pair)]
        if rows:
            one, two = pairs[rows[0]]
            yield (
                f"column {name}: {len(rows)} of {len(pairs)} rows, first row {rows[0]} ({one!r} in "
                f"old, {two!r} in new){_largest([pairs[row] for row in rows])}"
            )
    if old.schema.metadata != new.schema.metadata:
        yield f"metadata {old.schema.metadata} in old, {new.schema.metadata} in new"


def same(one: object, two: object) -> bool:
    """Whether two values of a frame are the same: numbers to the last bit, so that 0.0 is not −0.0,
    and NaN is NaN."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", two)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    return one == two


def _categories(column):
    if not pa.types.is_dictionary(column.type):
        return None
    return [chunk.dictionary.to_pylist() for chunk in column.chunks]


def _largest(pairs):
    numbers = [
        (one, two)
        for one, two in pairs
        if isinstance(one, (int, float)) and isinstance(two, (int, float))
    ]
    sizes = [abs(one - two) for one, two in numbers if one == one and two == two]
    return f", largest difference {max(sizes):.3g}" if sizes else ""


def text_differences(old: str, new: str) -> Iterator[str]:
    """A line for each line that differs, with what stands around the first character that does."""
    for pattern in MUST_DIFFER.values():
        old, new = (re.sub(pattern, "", text, flags=re.DOTALL) for text in (old, new))
    a, b = old.splitlines(), new.splitlines()
    for kind, a_from, a_to, b_from, b_to in SequenceMatcher(
        None, a, b, autojunk=False
    ).get_opcodes():
        if kind == "equal":
            continue
        pairs = zip_longest(a[a_from:a_to], b[b_from:b_to], fillvalue="")
        for number, (one, two) in enumerate(pairs, start=a_from + 1):
            around = slice(max(0, len(os.path.commonprefix([one, two])) - SHOWN), None)
            yield (
                f"line {number}: {one[around][: 2 * SHOWN]!r} in old, "
                f"{two[around][: 2 * SHOWN]!r} in new"
            )


def _environment(checkout):
    return {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}


def _check_imported(checkout):
    """Stop where another copy of the package would be imported, such as an installed one: it would
    be compared with itself."""
    code = "import analyses, rgb_circuit; print(analyses.__file__, rgb_circuit.__file__, sep='\\n')"
    with tempfile.TemporaryDirectory() as elsewhere:
        got = subprocess.run(
            [sys.executable, "-c", code],
            env=_environment(checkout), cwd=elsewhere, capture_output=True, text=True,
        )  # fmt: skip
    if got.returncode:
        sys.exit(f"same_numbers: cannot import rgb_circuit from {checkout}:\n{got.stderr}")
    for path in got.stdout.split("\n")[:2]:
        if not Path(path).is_relative_to(checkout.resolve()):
            sys.exit(f"same_numbers: {checkout} is no checkout: what is imported is {path}")


def _commit(checkout):
    """The commit that a checkout is at, or None where its working tree has changes."""

    def git(*arguments):
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return None if git("status", "--porcelain") else git("rev-parse", "HEAD")


def _kept(folder, name, of, make):
    """The folder of ``name`` in ``folder``, filled by ``make`` unless it was, from the same text
    ``of``."""
    path = folder / f"{name}-{hashlib.sha256(of.encode()).hexdigest()[:12]}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            (made := Path(unfinished) / name).mkdir()
            make(made)
            # Somebody else may have made the same meanwhile.
            if not path.exists():
                made.rename(path)
    return path


def _make_inputs(checkout, folder):
    subprocess.run(
        [sys.executable, "-c", INPUTS, str(folder)],
        env=_environment(checkout),
        cwd=folder,
        check=True,
    )


def _run_all(checkout, commands, folder, must_work):
    """Run the commands in ``folder``, and write into it what they print and their exit statuses."""
    printed = ""
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "rgb_circuit", *command.split()],
            env=_environment(checkout), cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        printed += f"$ rgb-circuit {command}\n{done.stdout}exit status {done.returncode}\n"
        if done.returncode:
            problem = (
                f"rgb-circuit {command}: exit status {done.returncode} in "
                f"{checkout}\n{done.stderr[-2000:]}"
            )
            if must_work:
                sys.exit(f"same_numbers: {problem}")
            print(problem, flush=True)
            break
    (folder / PRINTED).write_text(printed)


if __name__ == "__main__":
    sys.exit(main())
