"""Interventions of every kind, one forward each, by a separate attention function and plain PyTorch
hooks on the bare Hugging Face model: shares no code with the package."""

import copy
from types import SimpleNamespace

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

# The changes to the current forward, and its recorded values: attention functions have no state.
NOW = SimpleNamespace(layers=(), changes=(), seen=None)


def attention(module, query, key, value, attention_mask, scaling, softcap=None, **others):
    """softmax(queries · keys) @ values, with a number added or a query or key replaced."""
    groups = query.shape[1] // key.shape[1]
    keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    layer = next((place for place, own in enumerate(NOW.layers) if own is module), None)
    scores = query @ keys.mT * scaling
    changes = [change for change in NOW.changes if layer is not None and change[1] == layer]
    for kind, _, head, places, given, *_ in changes:
        if kind == "query":
            scores[0, head, places] = given[places] @ keys[0, head].T * scaling
        if kind == "key":
            scores[0, head, places] = query[0, head, places] @ given.T * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask
    for kind, _, head, queries, looked_at, *number in changes:
        if kind == "bias":
            heads = range(scores.shape[1]) if head is None else [head]
            for one in heads:
                for place in queries:
                    scores[0, one, place, looked_at] += number[0]
    probabilities = scores.softmax(-1)
    z = probabilities @ values
    for kind, _, head, places, given, *_ in changes:
        if kind == "value":
            z[0, head, places] = probabilities[0, head, places] @ given
    if layer is not None and NOW.seen is not None:
        NOW.seen["query"][layer], NOW.seen["key"][layer] = query[0], keys[0]
        NOW.seen["value"][layer] = values[0]
    return z.transpose(1, 2).contiguous(), probabilities


AttentionInterface.register("oracle", attention)
AttentionMaskInterface.register("oracle", eager_mask)


class Oracle:
    """A copy of a model of any family.

    Args:
        inputs: (trial, condition) → inputs of the bare forward.
    """

    def __init__(self, model, inputs):
        self.model, self.inputs = copy.deepcopy(model), inputs
        self.model.set_attn_implementation("oracle")
        inner = self.model.model
        text = inner.text_model if hasattr(inner, "text_model") else inner.language_model
        self.layers = text.layers
        config = self.model.config.text_config
        self.heads = config.num_attention_heads
        self.runs = {}

    @torch.no_grad()
    def run(self, trial, condition, changes=()):
        """Logits at [end], and every layer's values: ``z, attn_out, mlp_out, resid_pre, query, key,
        value``, the last three (head, position, d_head).

        Args:
            changes: (kind, layer, head or None, positions, vectors of all positions). A kind is one
                of the above; or ``"scale"``, with a number and the scaled kind at the end; or
                ``"bias"``, with query positions, key positions and a number.
        """
        seen = {
            kind: {} for kind in ("z", "attn_out", "mlp_out", "resid_pre", "query", "key", "value")
        }
        hooks = []

        def changed(kind, layer, here):
            here = here.clone()
            for change in changes:
                if change[1] != layer:
                    continue
                head, places = change[2:4]
                index = (0, places) if head is None else (0, places, head)
                if change[0] == kind:
                    here[index] = change[4][places] if head is None else change[4][places, head]
                if change[0] == "scale" and change[5] == kind:
                    here[index] = change[4] * here[index]
            seen[kind][layer] = here[0].clone()
            return here

        def hook(layer, kind):
            def before_o_proj(module, arguments):
                z = arguments[0].unflatten(-1, (self.heads, -1))
                return (changed("z", layer, z).flatten(2),)

            def after_attention(module, arguments, output):
                return changed("attn_out", layer, output[0]), *output[1:]

            def after_mlp(module, arguments, output):
                # A mixture of experts may also return scores.
                if isinstance(output, tuple):
                    return changed("mlp_out", layer, output[0]), *output[1:]
                return changed("mlp_out", layer, output)

            def before_layer(module, arguments):
                return changed("resid_pre", layer, arguments[0]), *arguments[1:]

            block = self.layers[layer]
            return {
                "z": lambda: block.self_attn.o_proj.register_forward_pre_hook(before_o_proj),
                "attn_out": lambda: block.self_attn.register_forward_hook(after_attention),
                "mlp_out": lambda: block.mlp.register_forward_hook(after_mlp),
                "resid_pre": lambda: block.register_forward_pre_hook(before_layer),
            }[kind]()

        for layer in range(len(self.layers)):
            hooks += [hook(layer, kind) for kind in ("z", "attn_out", "mlp_out", "resid_pre")]
        NOW.layers, NOW.changes, NOW.seen = [one.self_attn for one in self.layers], changes, seen
        try:
            logits = self.model(**self.inputs(trial, condition)).logits[0, -1].float()
        finally:
            NOW.layers, NOW.changes, NOW.seen = (), (), None
            for one in hooks:
                one.remove()
        return logits, seen

    def unchanged(self, trial, condition):
        """The run without changes."""
        if (trial.name, condition) not in self.runs:
            self.runs[trial.name, condition] = self.run(trial, condition)
        return self.runs[trial.name, condition]

    def path(self, trial, condition, source, senders, receiver, into):
        """Logits at [end] with a head's query at [end], key or value replaced. The replacement is
        its value if the senders have their outputs of the source's run, and all other heads and
        MLPs below have their outputs of this run.

        Args:
            senders: (layer, head), ("mlp", layer), or "embedding".
        """
        own, other = (self.unchanged(trial, one)[1] for one in (condition, source))
        layer, head = receiver
        every = list(range(len(own["z"][0])))
        changes = []
        for below in range(layer):
            for one in range(self.heads):
                given = other if (below, one) in senders else own
                changes.append(("z", below, one, every, given["z"][below]))
            given = other if ("mlp", below) in senders else own
            changes.append(("mlp_out", below, None, every, given["mlp_out"][below]))
        seen = self.run(trial, source if "embedding" in senders else condition, changes)[1]
        end = every[-1:]
        return self.run(trial, condition, [(into, layer, head, end, seen[into][layer][head])])[0]
