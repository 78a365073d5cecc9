"""The non-public names of nnsight that this package uses; any version of nnsight may move them."""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from ..errors import InputError, first_line

if TYPE_CHECKING:
    from nnsight import TransformersModel

WANTED = "nnsight>=0.8.1,<0.9"

try:
    from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
    from nnsight.intervention.interleaver import OutOfOrderError
    from nnsight.intervention.source import Controller, SourceNotAvailable
    from nnsight.modeling.huggingface import _ID_CACHE as HUB_SPELLINGS
    from nnsight.schema.config import CONFIG
    from nnsight.schema.response import ResponseModel

    # The methods that `server` overrides; if one were renamed, nobody would notice.
    for _method in ("_post", "_push", "download_result", "finalize", "poll", "submit"):
        getattr(RemoteBackend, _method)
except (ImportError, AttributeError) as error:
    raise InputError(
        f"nnsight {version('nnsight')} lacks something that this package uses "
        f"({first_line(error)}); pip install '{WANTED}'"
    ) from error

__all__ = [
    "CONFIG",
    "HUB_SPELLINGS",
    "OutOfOrderError",
    "RemoteBackend",
    "RemoteError",
    "ResponseModel",
    "SourceNotAvailable",
    "has_edits",
    "original_forward",
]


def original_forward(forward: Callable | None) -> Callable | None:
    """The forward that nnsight's wrapper calls; any other forward as it is."""
    if not isinstance(forward, Controller):
        return forward
    original = forward.state.original
    if getattr(original, "__module__", None) == Controller.__module__:
        # nnsight wraps a forward that the module already had in a closure of its own.
        return inspect.getclosurevars(original).nonlocals["forward"]
    return original


def has_edits(wrapped: "TransformersModel") -> bool:
    """Whether nnsight makes a user's edits in every trace of this model."""
    return bool(wrapped._edits)
