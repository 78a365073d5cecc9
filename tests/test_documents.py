"""What the documents say runs."""

from pathlib import Path

import families
import pytest

DOCS = Path(__file__).parents[1] / "docs"
FAMILIES = DOCS / "families.md"


@pytest.mark.parametrize("name", ["toy", "gemma3", "llava_next"])
def test_five_lines_check_a_model(name, tmp_path):
    (code,) = (part.split("```")[0] for part in FAMILIES.read_text().split("```python\n")[1:])
    assert '"toy"' in code
    folder = name if name == "toy" else str(families.saved(name, tmp_path))
    found = {}
    exec(code.replace('"toy"', repr(folder)), found)
    assert found["difference"] < 1e-5 < found["swept"]["effect"].abs().max()


def test_every_family_that_is_tested_is_in_the_table():
    named = FAMILIES.read_text()
    for family in families.FAMILIES:
        model_type = families.built(family)[0].config.model_type if family != "smolvlm" else family
        assert f"`{model_type}`" in named, family


def test_the_examples_of_attribution_and_lens_run_and_draw_their_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "interventions-attribute-lens.md").read_text()
    # One after the other, as a reader would.
    names = {}
    for code in (part.split("```")[0] for part in text.split("```python\n")[1:]):
        exec(code, names)
    drawn = {file.name for file in tmp_path.iterdir()}
    assert drawn == {"attribute.png", "lens_layers.png", "lens_picture.png"}
    assert all((DOCS / "pictures" / name).is_file() and f"pictures/{name}" in text for name in drawn)
    printed = capsys.readouterr().out
    assert "10.0 20.0\n10.0 0.0\n" in printed.replace("-0.0", "0.0")
    assert "{(3, 0): 10.0, (3, 2): 6.0, (4, 1): 5.0, (4, 2): -2.0, (4, 3): 5.0}" in printed
