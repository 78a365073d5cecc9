"""What runs where the weights are: in this process, or on an NDIF server.

A *program* is a function of the nnsight model and plain values, with tracing contexts inside;
`rgb_circuit.running.execute` runs it. One program is one request, so what it captures never leaves
the server.

What stands in this folder travels as source. Programs and what they call are module-level functions
without decorators; they use torch, builtin containers and each other, no class of this package (a
dataclass's methods have no source), no pandas, no progress bar; they call modules and never read
parameters; they return small tensors and say what is wrong instead of raising it. Every module has
``from __future__ import annotations``, since annotations would travel too and bring their classes
along.
"""
