"""Two folders of results are the same where nothing differs but what must, and each difference is
named."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "same_numbers.py"))
PAGE = """<p class="eyebrow">toy · 121 thousand parameters · {made}</p>
<table class="facts">
<tr><th>started</th><td>{started}</td></tr>
</table>
<td>{effect}</td>
"""


def written(folder, effect=0.1, attrs=(), made="9 May 2026, in 19 s", started="10:21", said="0.1"):
    """A folder of results: a frame, a page, a part that the frame was made of."""
    frame = pd.DataFrame({
        "head": [0, 1, 2], "effect": [effect, 0.0, np.nan], "role": pd.Categorical(["odd", None, "odd"]),
    })  # fmt: skip
    frame.attrs.update(attrs)
    (folder / "run" / "parts").mkdir(parents=True)
    frame.to_parquet(folder / "run" / "frame.parquet", index=False)
    page = PAGE.format(made=made, started=started, effect=said)
    (folder / "run" / "report.html").write_text(page)
    (folder / "run" / "manifest.json").write_text(started)
    (folder / "run" / "parts" / "one.parquet").write_text(started)
    return folder


def differences(tmp_path, **changed):
    return list(
        SCRIPT["differences"](written(tmp_path / "old"), written(tmp_path / "new", **changed))
    )


def test_times_and_parts_are_no_difference(tmp_path):
    assert differences(tmp_path, made="30 November 2027, in 1 h 2 min", started="23:59") == []


def test_the_last_bit_of_a_number_is_a_difference(tmp_path):
    (line,) = differences(tmp_path, effect=np.nextafter(0.1, 1))
    assert line.startswith(
        "run/frame.parquet: column effect: 1 of 3 rows, first row 0 (0.1 in old, 0.1000"
    )
    assert line.endswith("largest difference 1.39e-17")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame[["effect", "head", "role"]], "columns"),
        (lambda frame: frame[:2], "3 rows in old, 2 in new"),
        (lambda frame: frame.assign(effect=frame["effect"].replace(0.0, -0.0)), "(0.0 in old, -0.0 "
                                                                                "in new)"),
        (lambda frame: frame.assign(effect=frame["effect"].fillna(1.0)), "column effect: 1 of 3 "
                                                                         "rows"),
        (lambda frame: frame.astype({"effect": "float32"}), "type double in old, float in new"),
        (lambda frame: frame.astype({"role": object}), "column role: type"),
        (lambda frame: frame.assign(role=frame["role"].cat.add_categories("no")), "['odd', 'no']"),
        (lambda frame: frame.assign(role=frame["role"].fillna("odd")), "(None in old, 'odd' in "
                                                                       "new)"),
    ],
)  # fmt: skip
def test_what_differs_in_a_frame_is_named(tmp_path, change, said):
    old, new = written(tmp_path / "old"), written(tmp_path / "new")
    path = new / "run" / "frame.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    assert any(said in line for line in SCRIPT["differences"](old, new))


def test_what_a_frame_carries_beside_its_values_is_compared(tmp_path):
    (line,) = differences(tmp_path, attrs={"noise_floor": 0.1})
    assert line.startswith("run/frame.parquet: metadata") and "noise_floor" in line


def test_a_line_of_a_page_that_differs_is_shown(tmp_path):
    assert differences(tmp_path, said="0.2") == [
        "run/report.html: line 3: '<td>0.1</td>' in old, '<td>0.2</td>' in new"
    ]


def test_a_file_that_one_of_them_lacks_is_a_difference(tmp_path):
    old, new = written(tmp_path / "old"), written(tmp_path / "new")
    (old / "run" / "roles.parquet").touch()
    (new / "run" / "panels.png").touch()
    lines = list(SCRIPT["differences"](old, new))
    assert lines == ["run/panels.png: only in new", "run/roles.parquet: only in old"]
