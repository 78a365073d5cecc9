"""The obvious way: one full forward for each patched run, its picture included, with plain PyTorch
hooks on the bare model.

Slow; it exists so that `sweep` has a reference. No nnsight trace is involved. Hooks read and change
the input of ``o_proj`` (z), the outputs of attention blocks and MLPs, and the input of a layer. No
module returns queries, keys and values after position encoding, but transformers calls an attention
function with them; during a forward, a wrapper of that function records them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..edits import OF_ATTENTION, Edit
from ..programs.capture import by_place, first_of, language_model, nudged, with_first
from ..prompts import encode, locate
from ..running.execute import numbers_as_usual, one_at_a_time
from ..trial import Trial
from ..vlm import Vlm

# (layer, component) → writes: head (None: the whole layer), positions, values, (positions, …).
Writes = Mapping[tuple[int, str], Sequence[tuple[int | None, Sequence[int], torch.Tensor]]]


def patched_logits(
    model: Vlm, trial: Trial, target: str, edits: Sequence[Edit], trials: Sequence[Trial] = ()
) -> torch.Tensor:
    """Logits at [end] of the ``target`` run of ``trial`` with ``edits`` made together,
    (vocabulary,).

    Args:
        edits: of any source but ``"own"``.
        trials: whose target runs a ``"mean"`` edit averages.
    """
    seen = _unedited_runs(model, trial, target, edits, trials)
    return patched_forward(
        model, encode(model, [(trial, target)]), _writes(model, trial, target, edits, seen)
    )


def patched_effects(
    model: Vlm, trial: Trial, target: str, variants: Sequence[Sequence[Edit]], tokens: Sequence[int]
) -> Iterator[torch.Tensor]:
    """The effect of each variant on the logits of ``tokens`` at [end], float32 on the CPU,
    (tokens,).

    Logits are computed from the final states with ``lm_head``'s weights in float32: in half
    precision the model's own logits come in steps as large as many an effect.

    Args:
        variants: per variant, the edits that are made together; of any source but ``"own"`` and
            ``"mean"``.
    """
    inputs = encode(model, [(trial, target)])
    seen = _unedited_runs(model, trial, target, [edit for edits in variants for edit in edits])
    unedited = _read(model, _forward(model, inputs).state, tokens)
    for edits in variants:
        patched = _forward(model, inputs, _writes(model, trial, target, edits, seen))
        yield _read(model, patched.state, tokens) - unedited


def patched_forward(model: Vlm, inputs: Mapping[str, torch.Tensor], writes: Writes) -> torch.Tensor:
    """Logits at [end] of one full forward, (vocabulary,).

    Args:
        inputs: one picture's, as `prompts.encode` makes them.
    """
    return _forward(model, inputs, writes).logits


def _unedited_runs(model, trial, target, edits, trials=()):
    """(trial name, condition) → that run, with the layers of the edits kept; see `_forward`."""
    layers = {edit.layer for edit in edits}
    shown = {(trial.name, name): trial for name in (target, *(edit.source for edit in edits))}
    shown |= {(other.name, target): other for other in trials}
    return {
        (name, condition): _forward(model, encode(model, [(one, condition)]), layers=layers)
        for (name, condition), one in shown.items()
        if condition in one.images
    }


def _writes(model, trial, target, edits, seen) -> Writes:
    """The values that the edits write, and where."""
    ids = encode(model, [(trial, target)])["input_ids"][0]
    writes: dict[tuple[int, str], list] = {}
    for edit in edits:
        places = locate(model, trial, edit.positions, ids)
        given = edit.scale * _given(model, trial, target, edit, seen)[places]
        component = edit.component if edit.head is None else "z"
        writes.setdefault((edit.layer, component), []).append((edit.head, places, given))
    return writes


def _given(model, trial, target, edit, seen):
    """The values of an edit at every position, before scaling, (positions, d_head or width)."""
    own = seen[trial.name, target]
    if edit.component in OF_ATTENTION:
        return _made_again(model, edit, own, seen[trial.name, edit.source])

    def there(run):
        given = run.kept[edit.layer, edit.component]
        return given if edit.head is None else given[:, edit.head]

    if edit.source == "zero":
        return torch.zeros_like(there(own))
    if edit.source == "rounding":
        return nudged(there(own), by_place(there(own)))
    if edit.source == "mean":
        # Prompts of different length line up at [end].
        every = [there(run) for (_, condition), run in seen.items() if condition == target]
        shortest = min(map(len, every))
        return torch.cat(
            [there(own)[:-shortest], torch.stack([run[-shortest:] for run in every]).mean(0)]
        )
    return there(seen[trial.name, edit.source])


@numbers_as_usual()
def _made_again(model, edit, own, source):
    """A head's z, (positions, d_head), recomputed from the target's queries, keys and values, with
    one of these, or the pattern, from the source's run."""
    head, group = edit.head, edit.head // (model.n_heads // model.n_kv_heads)
    from_source = ("query", "key") if edit.component == "pattern" else (edit.component,)
    runs = {part: source if part in from_source else own for part in ("query", "key", "value")}
    parts = {part: run.kept[edit.layer, part].float() for part, run in runs.items()}
    # The mask goes with the queries.
    about = runs["query"].about[edit.layer]
    scores = parts["query"][head] @ parts["key"][group].T * about.scaling
    if about.softcap is not None:
        scores = about.softcap * torch.tanh(scores / about.softcap)
    seen = about.mask
    if seen is None:
        seen = (
            torch.ones_like(scores).tril().bool()
            if about.causal
            else torch.ones_like(scores).bool()
        )
    scores = (
        scores.masked_fill(~seen, -torch.inf) if seen.dtype == torch.bool else scores + seen.float()
    )
    return (scores.softmax(-1) @ parts["value"][group]).to(own.kept[edit.layer, "z"])


@numbers_as_usual()
@torch.no_grad()
def _forward(model, inputs, writes: Writes | None = None, layers=()):
    """One forward of the bare model.

    Returns:
        ``logits`` (vocabulary,) and ``state`` (width,) at [end]: the output and the input of
        ``lm_head``. For the ``layers``, ``kept``: (layer, component) → its values, (positions, …),
        or (head, positions, d_head) for queries, keys and values; and ``about``: layer → mask,
        causality, scaling and softcap of its attention.
    """
    writes, module = writes or {}, model.nnsight._module
    decoder = language_model(model.nnsight)._module
    found = SimpleNamespace(kept={}, about={})

    def there(layer, component, given):
        if (layer, component) in writes:
            given = given.clone()
            for head, places, put in writes[layer, component]:
                given[(0, places) if head is None else (0, places, head)] = put.to(given)
        if layer in layers:
            found.kept[layer, component] = given[0]
        return given

    hooks = [
        module.lm_head.register_forward_pre_hook(
            lambda _, given: setattr(found, "state", given[0][0, -1])
        )
    ]
    for index, layer in enumerate(decoder.layers):
        hooks += _hooked(layer, index, (model.n_heads, model.d_head), there)
    inputs = {name: value.to(module.device) for name, value in inputs.items()}
    try:
        with one_at_a_time, _noting(decoder, layers, found):
            found.logits = module(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1].float()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _hooked(layer, index, heads, there):
    """Handles of the hooks on one layer; ``there`` takes the present values and returns the new
    ones."""

    def entering(_, given):
        return there(index, "resid_pre", given[0]), *given[1:]

    def before_o_proj(_, given):
        return (there(index, "z", given[0].unflatten(-1, heads)).flatten(-2),)

    def returned(component):
        return lambda module, given, made: with_first(made, there(index, component, first_of(made)))

    hooks = [
        layer.register_forward_pre_hook(entering),
        layer.self_attn.o_proj.register_forward_pre_hook(before_o_proj),
        layer.self_attn.register_forward_hook(returned("attn_out")),
    ]
    # A layer may have no module called mlp.
    return (
        [*hooks, layer.mlp.register_forward_hook(returned("mlp_out"))]
        if hasattr(layer, "mlp")
        else hooks
    )


@contextmanager
def _noting(decoder, layers, found):
    """Record the arguments of the attention function in some layers."""
    number = {decoder.layers[layer].self_attn: layer for layer in layers}
    chosen = ALL_ATTENTION_FUNCTIONS.get_interface

    def noting(function, kernel, module, query, key, value, *others, **options):
        if module in number:
            layer, mask = number[module], others[0] if others else options["attention_mask"]
            for part, given in (("query", query), ("key", key), ("value", value)):
                found.kept[layer, part] = given[0]
            found.about[layer] = SimpleNamespace(
                mask=None if mask is None else mask[0, 0],
                causal=bool(getattr(module, "is_causal", True)),
                scaling=options["scaling"],
                # Only the eager kernel applies it.
                softcap=options.get("softcap") if kernel == "eager" else None,
            )
        return function(module, query, key, value, *others, **options)

    def get_interface(kernel, default):
        return partial(noting, chosen(kernel, default), kernel)

    with patch.object(ALL_ATTENTION_FUNCTIONS, "get_interface", get_interface):
        yield


@numbers_as_usual()
@torch.no_grad()
def _read(model, state, tokens):
    """Logits of some tokens, float32 on the CPU, (tokens,), from a final state (width,)."""
    lm_head = model.nnsight._module.lm_head
    logits = lm_head.weight[list(tokens)].float() @ state.to(lm_head.weight.device).float()
    if lm_head.bias is not None:
        logits = logits + lm_head.bias[list(tokens)].float()
    if model.softcap is not None:
        logits = model.softcap * torch.tanh(logits / model.softcap)
    return logits.cpu()
