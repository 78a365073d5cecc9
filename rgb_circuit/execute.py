"""Running a program (`rgb_circuit.programs`) where the weights are: in this process, or on an NDIF server."""

from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING

import torch

from .modules import check_ready

if TYPE_CHECKING:
    from .jobs import Jobs
    from .vlm import Vlm

# Tracing contexts of one process share state, whichever models they are of.
one_at_a_time = RLock()


def execute(model: "Vlm", program: Callable, *arguments, jobs: "Jobs | None" = None):
    """What ``program(model.nnsight, *arguments)`` returns. Threads wait for one another.

    Args:
        jobs: what the server was asked so far, where it is not waited for.

    Raises:
        ServerError: of a remote model: the server cannot be reached, refuses the key, does not serve the
            model, or failed.
        Pending: with ``jobs``: the job is handed in, or not done yet.
    """
    with one_at_a_time:
        if model.server is not None:
            return model.server.run(model.nnsight, program, arguments, jobs)
        # It may have been put back into training mode since it was wrapped.
        check_ready(model.nnsight._module, model.name)
        with torch.no_grad():
            return program(model.nnsight, *arguments)
