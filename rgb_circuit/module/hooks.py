"""Check other people's hooks and forwards on a model's modules, which patching may break.

Patching runs the language model in parts: from a later position or layer on, and with many copies
of the last token side by side. Code that steers "the last token" would change the last copy only,
and nobody would notice.

1. Hooks are watched while the model runs (`hooks_watched`). A hook that changes nothing, such as a
   profiler's or transformers' own recording of outputs, may stay. A hook that changes something
   ends the run with an error that names it. Only a run can tell the two apart, since a hook may
   return nothing and write in place.
2. A ``forward`` that replaces that of the module's class cannot be watched, so it is refused
   (`check_forwards`). Allowed are those of nnsight, of accelerate for moving tensors between
   devices, and of transformers itself.
3. Compiled modules are refused too: hooks are compiled into them, and their inside cannot be
   reached.
4. The vision tower and the projector run as in any plain forward, so hooks there work as meant and
   stay.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module as of_all_modules

from ..errors import InputError
from ..programs.capture import language_model
from .nnsight_internals import original_forward

# Kind of hook, the attribute in which a module keeps its own, and torch's hooks for all modules.
KINDS = (
    ("forward pre-hook", "_forward_pre_hooks", of_all_modules._global_forward_pre_hooks),
    ("forward hook", "_forward_hooks", of_all_modules._global_forward_hooks),
    ("backward pre-hook", "_backward_pre_hooks", of_all_modules._global_backward_pre_hooks),
    ("backward hook", "_backward_hooks", of_all_modules._global_backward_hooks),
)
WHY = (
    "patching runs the language model in parts, where it would act otherwise than in a plain "
    "forward"
)


def run_in_parts(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Names and modules of all parts but those next to the language model, such as the vision
    tower."""
    text = language_model(module)
    around = module.get_submodule("model").children()
    beside = {id(inner) for part in around if part is not text for inner in part.modules()}
    for where, part in module.named_modules():
        if id(part) not in beside:
            yield where, part


def is_compiled(part: torch.nn.Module) -> bool:
    """Whether a module is compiled, in place or within another one, or made by torch.jit."""
    return (
        isinstance(part, torch.jit.ScriptModule)
        or part._compiled_call_impl is not None
        or "_orig_mod" in part._modules
    )


def check_forwards(module: torch.nn.Module, name: str) -> None:
    """Raise InputError if a module that is run in parts is compiled, or has a ``forward`` that
    replaces that of its class."""
    for where, part in run_in_parts(module):
        if is_compiled(part):
            raise InputError(
                f"{_place(where, name)} is compiled, so patching cannot reach into what it runs; "
                "load the model again and do not compile it"
            )
        mover = part.__dict__.get("_hf_hook")
        for hook in getattr(mover, "hooks", (mover,)):
            if hook is not None and _home(hook) != "accelerate":
                raise InputError(
                    f"{_place(where, name)} has a hook put on with accelerate, {_described(hook)}, "
                    f"and {WHY}; remove it (accelerate.hooks.remove_hook_from_module)"
                )
        for slot in ("forward", "_old_forward"):
            forward = original_forward(part.__dict__.get(slot))
            if forward is None or getattr(forward, "__func__", forward) is type(part).forward:
                continue
            if _home(forward) not in ("accelerate", "transformers"):
                raise InputError(
                    f"the forward of {_place(where, name)} was replaced by {_described(forward)}, "
                    f"and {WHY}; load the model again without that, or put the module's own back "
                    "(del module.forward) and wrap it again"
                )


@contextmanager
def hooks_watched(module: torch.nn.Module, name: str) -> Iterator[None]:
    """End a run within if a hook changes something.

    Raises:
        InputError: names the hook, its module, and what to do.
    """
    parts = dict(run_in_parts(module))
    places = {id(part): where for where, part in parts.items()}
    found: list[str] = []
    watched = []
    for kind, attribute, shared in KINDS:
        for hooks in (shared, *(getattr(part, attribute) for part in parts.values())):
            for key, hook in hooks.items():
                watched.append((hooks, key, hook))
                hooks[key] = _Watched(hook, kind, hooks is shared, places, name, found)
    try:
        yield
    except Exception as error:
        # If a hook changed something, report the hook rather than the error that follows from it.
        if found:
            raise InputError(found[0]) from error
        raise
    finally:
        for hooks, key, hook in watched:
            # A hook may have removed itself.
            if key in hooks:
                hooks[key] = hook


class _Watched:
    """A hook that ends the run if it changes something."""

    def __init__(self, hook, kind, shared, places, name, found):
        self.hook, self.kind, self.shared = hook, kind, shared
        self.places, self.name, self.found = places, name, found

    def __call__(self, part: torch.nn.Module, *seen: Any) -> Any:
        if id(part) not in self.places:
            return self.hook(part, *seen)
        before = list(_leaves(seen, copied=True))
        returned = self.hook(part, *seen)
        now = seen
        if returned is not None:
            # A pre-hook's return value replaces all that it sees; a hook's, the output or gradient.
            now = {
                "forward hook": (*seen[:-1], returned),
                "backward hook": (returned, *seen[1:]),
            }.get(self.kind, (returned,))
        if not _same(before, list(_leaves(now))):
            self.found.append(self.sentence(self.places[id(part)]))
            raise InputError(self.found[0])
        return returned

    def sentence(self, where: str) -> str:
        place, hook = _place(where, self.name), _described(self.hook)
        what = (
            f"a {self.kind} of all modules, {hook}, changes what {place} computes"
            if self.shared
            else f"{place} has a {self.kind}, {hook}, which changes what it computes"
        )
        return f"{what}, and {WHY}; remove it (its handle's remove())"


def _leaves(seen: Any, copied: bool = False) -> Iterator[Any]:
    """The values that a hook sees, taken out of tuples, lists and mappings."""
    if isinstance(seen, torch.Tensor):
        yield seen.detach().clone() if copied else seen.detach()
    elif isinstance(seen, Mapping):
        for value in seen.values():
            yield from _leaves(value, copied)
    elif isinstance(seen, list | tuple):
        for value in seen:
            yield from _leaves(value, copied)
    else:
        yield seen


def _same(before: list, now: list) -> bool:
    return len(before) == len(now) and all(map(_equal, before, now))


def _equal(one: Any, other: Any) -> bool:
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return one is other or (type(one) is type(other) and bool(one == other))
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _place(where: str, name: str) -> str:
    return f"{where} of {name!r}" if where else repr(name)


def _function(thing: Any) -> Any:
    """The function behind a method or a partial application."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    return getattr(thing, "__func__", thing)


def _home(thing: Any) -> str:
    """The package of a function, or of an object's class. A wrapper may copy the ``__module__`` of
    the function that it wraps, but not its globals."""
    function = _function(thing)
    globals_of = getattr(function, "__globals__", None)
    return (type(function).__module__ if globals_of is None else globals_of["__name__"]).split(".")[
        0
    ]


def _described(thing: Callable) -> str:
    """A function with its file and line, or an object with its class."""
    function = _function(thing)
    if code := getattr(function, "__code__", None):
        return (
            f"{function.__qualname__} ({Path(code.co_filename).name}, line {code.co_firstlineno})"
        )
    return f"a {type(function).__name__} of {type(function).__module__}"
