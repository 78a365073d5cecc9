"""What this package uses of nnsight beside its public names, which any version may move."""

from importlib.metadata import version

from .errors import InputError, first_line

WANTED = "nnsight>=0.8.1,<0.9"

try:
    from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
    from nnsight.intervention.interleaver import OutOfOrderError
    from nnsight.intervention.source import SourceNotAvailable
    from nnsight.modeling.huggingface import _ID_CACHE as HUB_SPELLINGS
    from nnsight.schema.config import CONFIG
    from nnsight.schema.response import ResponseModel

    # What `server` overrides; under another name it would go by unnoticed.
    for _method in ("_post", "_push", "download_result", "finalize", "poll", "submit"):
        getattr(RemoteBackend, _method)
except (ImportError, AttributeError) as error:
    raise InputError(
        f"nnsight {version('nnsight')} lacks something that this package uses ({first_line(error)}); "
        f"pip install '{WANTED}'"
    ) from error

__all__ = [
    "CONFIG",
    "HUB_SPELLINGS",
    "OutOfOrderError",
    "RemoteBackend",
    "RemoteError",
    "ResponseModel",
    "SourceNotAvailable",
]
