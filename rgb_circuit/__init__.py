"""Which attention heads of a vision-language model do what, and how sure we are."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

# First, since tqdm prints advice when anything else imports it.
from . import bars as bars

if TYPE_CHECKING:
    from . import plots as plots
    from .calls.answer_pieces import answer_pieces as answer_pieces
    from .calls.attribute import attribute as attribute
    from .calls.compare_runs import compare_runs as compare_runs
    from .calls.direct_effects import direct_effects as direct_effects
    from .calls.generate import generate as generate
    from .calls.head_patching import patch_heads as patch_heads
    from .calls.knockout import knockout as knockout
    from .calls.layers import patch_layers as patch_layers
    from .calls.lens import lens as lens
    from .calls.noise import noise_floor as noise_floor
    from .calls.patching import patch_edits as patch_edits
    from .calls.paths import patch_paths as patch_paths
    from .calls.play import play as play
    from .calls.scores import scores as scores
    from .edits import AttentionEdit as AttentionEdit
    from .edits import Edit as Edit
    from .edits import PathEdit as PathEdit
    from .errors import InputError as InputError
    from .errors import ServerError as ServerError
    from .keeping.saved_run import read_run as read_run
    from .loading import load as load
    from .loading import wrap as wrap
    from .shown.attention import attention_over as attention_over
    from .stimuli.drawing import rgb_trials as rgb_trials
    from .stimuli.drawing import trials as trials
    from .stimuli.tasks import read_hypotheses as read_hypotheses
    from .stimuli.tasks import read_task as read_task
    from .stimuli.tasks import tasks as tasks
    from .stimuli.tasks.rgb import PALETTE as PALETTE
    from .stimuli.tasks.rgb import published_trial as published_trial
    from .stimuli.tasks.rgb import rgb_trial as rgb_trial
    from .tables.pairing import pair as pair
    from .tables.trials_from import trials_from as trials_from
    from .task import Task as Task
    from .trial import Trial as Trial
    from .trials_file import read_trials as read_trials
    from .vlm import Vlm as Vlm

# Name → module, imported when the name is first used: torch and transformers take seconds.
_HOMES = {
    "PALETTE": "stimuli.tasks.rgb",
    "AttentionEdit": "edits",
    "Edit": "edits",
    "InputError": "errors",
    "PathEdit": "edits",
    "ServerError": "errors",
    "Task": "task",
    "Trial": "trial",
    "Vlm": "vlm",
    "answer_pieces": "calls.answer_pieces",
    "attention_over": "shown.attention",
    "attribute": "calls.attribute",
    "compare_runs": "calls.compare_runs",
    "direct_effects": "calls.direct_effects",
    "generate": "calls.generate",
    "knockout": "calls.knockout",
    "lens": "calls.lens",
    "load": "loading",
    "noise_floor": "calls.noise",
    "pair": "tables.pairing",
    "patch_edits": "calls.patching",
    "patch_heads": "calls.head_patching",
    "patch_layers": "calls.layers",
    "patch_paths": "calls.paths",
    "play": "calls.play",
    "published_trial": "stimuli.tasks.rgb",
    "read_hypotheses": "stimuli.tasks",
    "read_run": "keeping.saved_run",
    "read_task": "stimuli.tasks",
    "read_trials": "trials_file",
    "rgb_trial": "stimuli.tasks.rgb",
    "rgb_trials": "stimuli.drawing",
    "scores": "calls.scores",
    "tasks": "stimuli.tasks",
    "trials": "stimuli.drawing",
    "trials_from": "tables.trials_from",
    "wrap": "loading",
}

# Submodules that are part of the public API.
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
