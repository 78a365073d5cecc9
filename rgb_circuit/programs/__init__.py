"""Code that runs where the weights are: in this process, or on an NDIF server.

A *program* is a function of the nnsight model and plain values, with tracing contexts inside;
`rgb_circuit.running.execute` runs it. One program is one request, so its captures never leave the
server.

The code in this folder travels as source. Programs and the functions that they call are
module-level and have no decorators. They use torch, builtin containers and each other, but no class
of this package (a dataclass's methods have no source), no pandas and no progress bar. They call
modules and never read parameters. They return small tensors, and report errors instead of raising
them. Every module has ``from __future__ import annotations``, since annotations would travel too
and bring their classes along.
"""
