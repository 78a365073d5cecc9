"""What importing the package costs and gives."""

import ast
import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import rgb_circuit as rgb
from rgb_circuit.module import nnsight_internals

ROOT = Path(__file__).parents[1]


def printed(code):
    """What a process of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_the_package_is_imported_without_what_takes_seconds():
    heavy = "{'torch', 'transformers', 'nnsight', 'pandas', 'matplotlib'}"
    assert (
        printed(f"import sys, rgb_circuit; print(sorted({heavy} & sys.modules.keys()))") == "[]\n"
    )


def test_the_command_says_what_it_can_do_without_what_takes_seconds():
    heavy = "{'torch', 'transformers', 'nnsight', 'numpy', 'pandas', 'matplotlib'}"
    code = (
        "import sys; from analyses.command import command_parser, main; "
        "command_parser().parse_args(['run']); "
        f"print(sorted({heavy} & sys.modules.keys())); "
        "print(main(['run', '--task', 'none']), main(['play', '--trials-file', 'none.csv']), "
        "main(['run', '--hypotheses', 'none.toml']), main(['hypotheses', 'none.toml']), "
        "{'torch', 'transformers', 'pandas'} & sys.modules.keys())"
    )
    assert printed(code) == "[]\n2 2 2 2 set()\n"


def test_every_name_is_there_and_is_what_a_type_checker_is_told():
    (block,) = (
        node for node in ast.parse(Path(rgb.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )  # fmt: skip
    told = {name.asname: (line.module, name.name) for line in block.body for name in line.names}
    assert told.keys() == set(rgb.__all__) <= set(dir(rgb))
    for name, (home, there) in told.items():
        if home is None:
            assert getattr(rgb, name) is importlib.import_module(f"rgb_circuit.{there}"), name
            continue
        assert getattr(rgb, name) is getattr(
            importlib.import_module(f"rgb_circuit.{home}"), there
        ), name


def test_plots_and_version_are_there_without_being_imported():
    # And with a function comes what it needs.
    said = printed(
        "import sys, rgb_circuit; print(rgb_circuit.plots.head_heatmap.__name__); "
        "rgb_circuit.load; print('torch' in sys.modules)"
    )
    assert said == "head_heatmap\nTrue\n"
    assert rgb.__version__ == version("rgb_circuit") and "__version__" in dir(rgb)


def test_no_module_has_the_name_of_a_function():
    """Python would put the module in the function's place as soon as somebody imports it."""
    modules = {path.stem for path in Path(rgb.__file__).parent.iterdir()}
    assert modules & set(rgb.__all__) == {"plots"}


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'pley'"):
        rgb.pley
    with pytest.raises(ImportError):
        exec("from rgb_circuit import pley")


@pytest.mark.parametrize(
    "moved",
    [
        "nnsight.intervention.source.SourceNotAvailable",
        "nnsight.intervention.backends.remote.RemoteBackend",
        "nnsight.intervention.backends.remote.RemoteBackend.finalize",
        "nnsight.modeling.huggingface._ID_CACHE",
    ],
)
def test_an_nnsight_that_moved_what_is_used_of_it_is_refused_in_a_sentence(monkeypatch, moved):
    monkeypatch.delattr(moved)
    with pytest.raises(rgb.InputError) as refused:
        importlib.reload(nnsight_internals)
    sentence = str(refused.value)
    assert (
        moved.split(".")[-1] in sentence and f"pip install '{nnsight_internals.WANTED}'" in sentence
    )
    assert len(sentence.splitlines()) == 1


def test_the_nnsight_that_is_asked_for_is_the_one_that_is_required():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nnsight_internals.WANTED in project["dependencies"]
