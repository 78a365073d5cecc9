"""Who may import whom. Read from the sources: what a module imports when it is imported itself or
when its functions run, and for circles also what it names for a type checker."""

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("rgb_circuit", "analyses")
    for path in (ROOT / folder).rglob("*.py")
}
MODEL_CODE = {"torch", "transformers", "nnsight", "accelerate", "tokenizers"}


def statements(body):
    """All statements that may run, those in functions too, but for those under TYPE_CHECKING."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from statements(statement.orelse)
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, field, ()))
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from statements(part.body)


@cache
def imports(module, ever=False):
    """The modules that a module of ours imports, or names ever, for a type checker too: ours by
    their whole name, others by that of their package."""
    path, found = MODULES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    for statement in ast.walk(tree) if ever else statements(tree.body):
        if isinstance(statement, ast.Import):
            found |= {name.name for name in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - statement.level + 1]
            home = (
                ".".join([*above, statement.module or ""]).strip(".")
                if statement.level
                else statement.module
            )
            inside = {f"{home}.{name.name}" for name in statement.names} & MODULES.keys()
            found |= inside or {home}
    return {name if name in MODULES else name.split(".")[0] for name in found}


def reached(module):
    """What a module imports, directly or through modules of ours."""
    found, todo = set(), [module]
    while todo:
        for name in imports(todo.pop()) - found:
            found.add(name)
            if name in MODULES:
                todo.append(name)
    return found


def within(package):
    return [name for name in MODULES if name == package or name.startswith(f"{package}.")]


RUN_FORWARDS = {
    name
    for name in MODULES
    if {"rgb_circuit.running.execute", "rgb_circuit.remote.server"} & (reached(name) | {name})
}

# (modules, what none of them may reach)
FORBIDDEN = {
    "plots need no model": (within("rgb_circuit.plots"), MODEL_CODE | RUN_FORWARDS),
    "programs travel alone": (
        within("rgb_circuit.programs"),
        {name for module in MODULES for name in imports(module) | {module}}
        - {"torch", *within("rgb_circuit.programs"), *sys.stdlib_module_names},
    ),
    "data run nothing": (
        [
            f"rgb_circuit.{name}"
            for name in ("answers", "boards", "conversation", "errors", "layout", "modules", "picture",
                         "rgb_game", "statistics", "trial", "vlm")
        ],
        RUN_FORWARDS,
    ),
    "edits are data": (["rgb_circuit.edits"], RUN_FORWARDS),
    "prompts and boards know no game": (
        [
            f"rgb_circuit.{name}"
            for name in ("asking", "boards", "conversation", "probe", "prompts", "trial",
                         "trials_file", "vlm")
        ],
        {"rgb_circuit.stimuli.tasks.rgb", "rgb_circuit.stimuli.drawing"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_what_stands_below_does_not_reach_up(rule):
    modules, above = FORBIDDEN[rule]
    assert modules and above
    assert {name: found for name in modules if (found := sorted(reached(name) & above))} == {}


def test_the_package_never_asks_for_an_analysis():
    assert {
        name for module in within("rgb_circuit") for name in imports(module, ever=True)
    }.isdisjoint({"analyses", *within("analyses")})


def test_no_module_imports_itself_through_others_not_even_in_a_function():
    TopologicalSorter(
        {name: imports(name, ever=True) & MODULES.keys() for name in MODULES}
    ).prepare()


def test_an_import_in_a_function_is_seen():
    code = "def load():\n    match kind:\n        case 1:\n            from . import server"
    assert any(
        isinstance(statement, ast.ImportFrom) for statement in statements(ast.parse(code).body)
    )


def test_what_nnsight_may_move_stands_in_one_file():
    internal = {
        name
        for name, path in MODULES.items()
        for statement in statements(ast.parse(path.read_text()).body)
        if isinstance(statement, ast.ImportFrom)
        and (statement.module or "").startswith("nnsight.")
        or isinstance(statement, ast.Import)
        and any(each.name.startswith("nnsight.") for each in statement.names)
    }
    assert internal == {"rgb_circuit.module.nnsight_internals"}
