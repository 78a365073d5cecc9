"""Running a program where the weights are: in this process, or on an NDIF server.

A *program* is a function of the nnsight model and plain values, with tracing contexts inside: `capture`, `sweep`, and what
`play`, `patching`, … make of them. One program is one request, so what it captures never leaves the server.

Programs and what they call travel as source. They are module-level functions without decorators; they use torch, builtin
containers and each other, no class of this package (a dataclass's methods have no source), no pandas, no progress bar; they
call modules and never read parameters; they return small tensors and say what is wrong instead of raising it. The modules they stand
in have ``from __future__ import annotations``, since annotations would travel too and bring their classes along.
"""

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
        ServerError: of a remote model: the server cannot be reached, refuses the key, does not serve the model, or failed.
        Pending: in a detached run (`rgb_circuit.jobs`): the job is handed in, or not done yet.
    """
    with one_at_a_time:
        if model.server is not None:
            return model.server.run(model.nnsight, program, arguments, current_jobs())
        # It may have been put back into training mode since it was wrapped.
        check_ready(model.nnsight._module, model.name)
        with torch.no_grad():
            return program(model.nnsight, *arguments)
