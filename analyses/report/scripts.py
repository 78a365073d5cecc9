"""The modules of the page's script, joined to one text.

They are in ``explore/``, one module per concept, and import each other. A page holds one script, so
they are joined in the order of their imports, and without these; no two may define the same name.
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
# Comments are for readers of the modules, not of the page.
COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)


@cache
def script() -> str:
    """The script of a run's page, with the libraries that it uses."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    # Bundle the page's script with the libraries, so that none of their names becomes global.
    text = vl_convert.javascript_bundle(joined(reached(modules(), "page")), vl_version=version)
    assert "</script" not in text.lower()
    return text


def script_of_two() -> str:
    """The script of a page over two runs, which uses no library."""
    return joined(reached(modules(), "two_runs"))


def reached(texts: dict[str, str], first: str) -> dict[str, str]:
    """The module ``first`` and those that it imports, directly or through others."""
    modules_reached, todo = {}, [first]
    while todo:
        if (name := todo.pop()) not in modules_reached:
            modules_reached[name] = texts[name]
            todo += [imported for _, imported in IMPORT.findall(texts[name])]
    return modules_reached


def modules() -> dict[str, str]:
    """Name → text, of every module."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js"))}


def joined(texts: dict[str, str]) -> str:
    """Modules as one text, each after those that it imports; ValueError if there is no such order,
    or two define the same name."""
    names = [one or other for text in texts.values() for one, other in NAMED.findall(text)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two modules of the page's script name something {sorted(twice)[0]}")
    # A set would make another text in every process.
    order = TopologicalSorter(
        {name: [imported for _, imported in IMPORT.findall(text)] for name, text in texts.items()}
    )
    bodies = [IMPORT.sub("", texts[name]) for name in order.static_order()]
    text = re.sub(r"^export ", "", "\n".join(bodies), flags=re.MULTILINE)
    return COMMENT.sub("", text)
