"""The modules of the page's script as one text.

They lie in ``explore/``, a module a concept, and import each other as modules do. A page holds one
script, so they are joined in the order in which they import each other, without their imports; no
two may give the same name to something.
"""

import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import altair as alt
import vl_convert

FOLDER = Path(__file__).with_name("explore")
IMPORT = re.compile(r'^import \{ (.*) \} from "\./(\w+)\.js";\n', re.MULTILINE)
NAMED = re.compile(
    r"^(?:export )?(?:(?:async )?function (\w+)|(?:const|let) ([\w$]+))", re.MULTILINE
)
# What a module is for stands above it, for whoever reads the module and not the page.
COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)


@cache
def script() -> str:
    """The script of a run's page, with the libraries that it uses."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    # The page's own is what the libraries are bundled with, so nothing of theirs becomes global.
    text = vl_convert.javascript_bundle(joined(reached(modules(), "page")), vl_version=version)
    assert "</script" not in text.lower()
    return text


def script_of_two() -> str:
    """The script of a page over two runs, which uses no library."""
    return joined(reached(modules(), "two_runs"))


def reached(texts: dict[str, str], first: str) -> dict[str, str]:
    """Of modules the first, and those that it imports, directly or through others."""
    found, todo = {}, [first]
    while todo:
        if (name := todo.pop()) not in found:
            found[name] = texts[name]
            todo += [of for _, of in IMPORT.findall(texts[name])]
    return found


def modules() -> dict[str, str]:
    """Name → text, of every module."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js"))}


def joined(texts: dict[str, str]) -> str:
    """Modules as one, each after those that it imports; ValueError where there is no such order, or
    two give the same name to something."""
    names = [one or other for text in texts.values() for one, other in NAMED.findall(text)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two modules of the page's script name something {sorted(twice)[0]}")
    order = TopologicalSorter(
        {name: {of for _, of in IMPORT.findall(text)} for name, text in texts.items()}
    )
    own = [IMPORT.sub("", texts[name]) for name in order.static_order()]
    text = re.sub(r"^export ", "", "\n".join(own), flags=re.MULTILINE)
    return COMMENT.sub("", text)
