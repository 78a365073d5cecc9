"""Who may import whom. Read from the sources: what a module imports when it is imported itself or
when its functions run, and for circles also what it names for a type checker."""

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("rgb_circuit", "analyses")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in TOPS
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
    # A folder's own file runs before what stands in it.
    folders = {folder for name in found & MODULES.keys() for folder in folders_of(name)}
    found |= folders - {*TOPS, *folders_of(module)}
    return {name if name in MODULES else name.split(".")[0] for name in found}


def folders_of(module):
    """The folders that a module stands in, and itself."""
    parts = module.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts) + 1)}


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
            name
            for room in ("boards", "conversation", "edits", "errors", "heads", "hypothesis",
            "module",
                         "pictures", "statistics", "task", "trial", "vlm")
            for name in within(f"rgb_circuit.{room}")
        ]
        + ["rgb_circuit.stimuli.tasks.rgb"],
        RUN_FORWARDS,
    ),
    "prompts and boards know no game": (
        [
            name
            for room in ("boards", "conversation", "loading.probe", "prompts", "trial",
            "trials_file",
                         "vlm")
            for name in within(f"rgb_circuit.{room}")
        ],
        {"rgb_circuit.stimuli.tasks.rgb", "rgb_circuit.stimuli.drawing"},
    ),
}  # fmt: skip

# The folders and files of both packages: none imports one that stands later here when it runs.
ROOMS = {
    "rgb_circuit": """
        bars errors warning files arguments heads statistics boards
        conversation pictures programs
        edits hypothesis trial task
        processor_parts module remote vlm running prompts
        stimuli tables trials_file keeping measuring models loading calls plots shown
    """.split(),
    "analyses": """
        attention_statistics question_words task_reading evidence circuit composition steering
        background_writer canvas_suppressor color_extractor half_localization oddness place_relay
        poi_localization
        roles transfer rgb calibrate report audit study command
    """.split(),
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


@pytest.mark.parametrize("top", TOPS)
def test_rooms_stand_one_above_the_other(top):
    inside = [module for module in within(top) if module not in (top, f"{top}.__main__")]
    room = {module: module.split(".")[1] for module in inside}
    assert sorted(set(room.values())) == sorted(ROOMS[top])
    floor = {name: number for number, name in enumerate(ROOMS[top])}
    assert [
        (module, name)
        for module in inside
        for name in imports(module) & room.keys()
        if floor[room[name]] > floor[room[module]]
    ] == []


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
