"""Which attention heads of a vision-language model do what, and how sure we are."""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import plots as plots
    from .answer_pieces import answer_pieces as answer_pieces
    from .attribute import attribute as attribute
    from .compare_runs import compare_runs as compare_runs
    from .direct_effects import direct_effects as direct_effects
    from .drawing import rgb_trials as rgb_trials
    from .drawing import trials as trials
    from .edits import AttentionEdit as AttentionEdit
    from .edits import Edit as Edit
    from .edits import PathEdit as PathEdit
    from .errors import InputError as InputError
    from .errors import ServerError as ServerError
    from .generate import generate as generate
    from .head_patching import patch_heads as patch_heads
    from .knockout import knockout as knockout
    from .layers import patch_layers as patch_layers
    from .lens import lens as lens
    from .loading import load as load
    from .loading import wrap as wrap
    from .noise import noise_floor as noise_floor
    from .pairing import pair as pair
    from .patching import patch_edits as patch_edits
    from .paths import patch_paths as patch_paths
    from .play import play as play
    from .rgb_game import PALETTE as PALETTE
    from .rgb_game import published_trial as published_trial
    from .rgb_game import rgb_trial as rgb_trial
    from .saved_run import read_run as read_run
    from .task import Task as Task
    from .tasks import read_hypotheses as read_hypotheses
    from .tasks import read_task as read_task
    from .tasks import tasks as tasks
    from .trial import Trial as Trial
    from .trials_file import read_trials as read_trials
    from .trials_from import trials_from as trials_from
    from .vlm import Vlm as Vlm

# Name → module that is imported when the name is first asked for: torch and transformers take seconds.
_HOMES = {
    "PALETTE": "rgb_game",
    "AttentionEdit": "edits",
    "Edit": "edits",
    "InputError": "errors",
    "PathEdit": "edits",
    "ServerError": "errors",
    "Task": "task",
    "Trial": "trial",
    "Vlm": "vlm",
    "answer_pieces": "answer_pieces",
    "attribute": "attribute",
    "compare_runs": "compare_runs",
    "direct_effects": "direct_effects",
    "generate": "generate",
    "knockout": "knockout",
    "lens": "lens",
    "load": "loading",
    "noise_floor": "noise",
    "pair": "pairing",
    "patch_edits": "patching",
    "patch_heads": "head_patching",
    "patch_layers": "layers",
    "patch_paths": "paths",
    "play": "play",
    "published_trial": "rgb_game",
    "read_hypotheses": "tasks",
    "read_run": "saved_run",
    "read_task": "tasks",
    "read_trials": "trials_file",
    "rgb_trial": "rgb_game",
    "rgb_trials": "drawing",
    "tasks": "tasks",
    "trials": "drawing",
    "trials_from": "trials_from",
    "wrap": "loading",
}

# Of the modules, the one that is used by its own name.
_MODULES = ("plots",)

__all__ = [*_HOMES, *_MODULES]
__version__: str


def __getattr__(name: str):
    if name == "__version__":
        return version(__name__)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


class _Package(ModuleType):
    """`rgb_circuit.play` is the function, whoever imported the module of that name before."""

    def __setattr__(self, name: str, value: object) -> None:
        # So does Python bind a submodule that it has imported.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
