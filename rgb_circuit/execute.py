"""Running a program (`rgb_circuit.programs`) where the weights are: in this process, or on an NDIF server."""

from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING

import torch

from .keeping import current_jobs
from .modules import check_ready

if TYPE_CHECKING:
    from .vlm import Vlm

# Tracing contexts of one process share state, whichever models they are of.
one_at_a_time = RLock()


def execute(model: "Vlm", program: Callable, *arguments):
    """What ``program(model.nnsight, *arguments)`` returns. Threads wait for one another.

    Raises:
        ServerError: of a remote model: the server cannot be reached, refuses the key, does not serve the
            model, or failed.
        Pending: in a detached run (`rgb_circuit.jobs`): the job is handed in, or not done yet.
    """
    with one_at_a_time:
        if model.server is not None:
            return model.server.run(model.nnsight, program, arguments, current_jobs())
        # It may have been put back into training mode since it was wrapped.
        check_ready(model.nnsight._module, model.name)
        with torch.no_grad():
            return program(model.nnsight, *arguments)
