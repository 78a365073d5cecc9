"""What the documents say runs."""

from pathlib import Path

import families
import pytest

FAMILIES = Path(__file__).parents[1] / "docs" / "families.md"


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
