"""What this package uses of nnsight beside its public names, which any version may move."""

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

    # What `server` overrides; under another name it would go by unnoticed.
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
    """What a module's own ``forward`` runs beside nnsight's handing over; what is not nnsight's as
    it is."""
    if not isinstance(forward, Controller):
        return forward
    original = forward.state.original
    if getattr(original, "__module__", None) == Controller.__module__:
        # How nnsight calls a forward that the module had before.
        return inspect.getclosurevars(original).nonlocals["forward"]
    return original


def has_edits(wrapped: "TransformersModel") -> bool:
    """Whether nnsight makes edits of the user's own in every trace of this model."""
    return bool(wrapped._edits)
