"""Which attention heads of a vision-language model do what, and how sure we are."""

from .answers import answer_pieces
from .direct_effects import direct_effects
from .edits import Edit
from .errors import InputError, ServerError
from .loading import load, wrap
from .noise import noise_floor
from .patching import patch_edits, patch_heads
from .play import play
from .prompts import rgb_trials
from .rgb_game import PALETTE, published_trial, rgb_trial
from .trial import Trial
from .trials_file import read_trials
from .vlm import Vlm

__all__ = [
    "PALETTE",
    "Edit",
    "InputError",
    "Vlm",
    "ServerError",
    "Trial",
    "answer_pieces",
    "direct_effects",
    "load",
    "noise_floor",
    "patch_edits",
    "patch_heads",
    "play",
    "published_trial",
    "read_trials",
    "rgb_trial",
    "rgb_trials",
    "wrap",
]
