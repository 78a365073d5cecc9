"""The page's script is modules that import each other, joined."""

import re

import pytest

from analyses.report import scripts


def test_a_module_imports_whatever_it_uses_of_another():
    texts = scripts.modules()
    own = {
        name: set(re.findall(r"^export (?:async )?(?:function|const|let) ([\w$]+)", text, re.M))
        for name, text in texts.items()
    }
    assert len(texts) > 9 and all(len(text.splitlines()) < 250 for text in texts.values())
    for name, text in texts.items():
        imported = {
            (of, one) for some, of in scripts.IMPORT.findall(text) for one in some.split(", ")
        }
        assert all(one in own[of] or one in ("state", "theme") for of, one in imported), name
        body = scripts.IMPORT.sub("", text)
        named = {one for _, one in imported} | own[name]
        for of in texts.keys() - {name}:
            for one in own[of] - named:
                called = rf"(?<![\w.$\"'`])(?<!function ){re.escape(one)}\("
                assert not re.search(called, body), f"{name}.js uses {one} of {of}.js"


def test_modules_are_joined_after_those_that_they_import():
    texts = {
        "above": '// Above.\nimport { two } from "./below.js";\nshow(two);\n',
        "below": "export const two = 2;\n",
    }
    assert scripts.joined(texts).split() == ["const", "two", "=", "2;", "show(two);"]
    with pytest.raises(ValueError, match="cycle"):
        scripts.joined({"a": 'import { b } from "./b.js";\n', "b": 'import { a } from "./a.js";\n'})
    with pytest.raises(ValueError, match="name something a"):
        scripts.joined({"a": "const a = 1;\n", "b": "function a() {}\n"})


def test_modules_are_joined_in_the_order_in_which_they_are_imported():
    names = [f"m{number}" for number in range(30)]
    page = "".join(f'import {{ {name} }} from "./{name}.js";\n' for name in names)
    texts = {"page": page} | {name: f"const {name} = 1;\n" for name in names}
    assert re.findall(r"const (\w+)", scripts.joined(texts)) == names
