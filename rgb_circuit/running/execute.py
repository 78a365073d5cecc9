"""Run a program (`rgb_circuit.programs`) where the weights are: in this process, or on an NDIF
server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch

from ..arguments import check_wrapped
from ..errors import InputError
from ..module.hooks import hooks_watched
from ..module.modules import check_ready
from ..module.nnsight_internals import has_edits
from ..module.unchanged import check_unchanged

if TYPE_CHECKING:
    from ..remote.jobs import Jobs
    from ..vlm import Vlm

# Tracing contexts of one process share state, even those of different models.
one_at_a_time = RLock()


def execute(model: "Vlm", program: Callable, *arguments, jobs: "Jobs | None" = None) -> Any:
    """Run ``program(model.nnsight, *arguments)``; returns its result. Threads wait for one another.

    Args:
        jobs: the jobs handed in so far, if the server is not waited for.

    Raises:
        InputError: the model cannot be run now, or was changed since it was wrapped.
        ServerError: for a remote model: the server cannot be reached, refuses the key, does not
            serve the model, or failed.
        Pending: with ``jobs``: the job is handed in, or not done yet.
    """
    with one_at_a_time:
        if model.server is not None:
            return model.server.run(model.nnsight, program, arguments, jobs)
        check_model(model)
        module = model.nnsight._module
        with hooks_watched(module, model.name), numbers_as_usual(), torch.no_grad():
            return program(model.nnsight, *arguments)


def check_model(model: "Vlm") -> None:
    """Raise InputError if a model cannot be run now, or was changed since it was wrapped; a model
    whose weights are elsewhere passes."""
    check_wrapped(model)
    if model.as_wrapped is None:
        return
    module, name = model.nnsight._module, model.name
    check_ready(module, name)
    check_unchanged(model.as_wrapped, module, name)
    if has_edits(model.nnsight):
        raise InputError(
            f"nnsight edits {name!r} in every trace (nnsight.edit(inplace=True)), which would be "
            "in all numbers; call model.nnsight.clear_edits(), and give what is to be changed as "
            "rgb.Edit"
        )


@contextmanager
def numbers_as_usual() -> Iterator[None]:
    """Use torch's own defaults within: new tensors are float32 unless a program says otherwise, and
    float32 matrices are multiplied in float32.

    TF32 would round the factors to 10 bits, and differently in a resumed forward than in a whole
    one: by up to a hundredth of the largest logit.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with _products_in_float32():
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _products_in_float32():
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        # The precision was set per backend; torch then has no answer for all of them.
        backends: Any = torch.backends
        parts = backends.cuda.matmul, backends.mkldnn.matmul
        each = [part.fp32_precision for part in parts]
        for part in parts:
            part.fp32_precision = "ieee"
        try:
            yield
        finally:
            for part, precision in zip(parts, each):
                part.fp32_precision = precision
        return
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
