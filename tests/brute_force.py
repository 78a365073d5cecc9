"""Activation patching with plain PyTorch hooks on the bare Hugging Face model: shares no code with
the package."""

import copy

import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration


class BruteForce:
    """A model of any family with eager attention, run once per edit.

    Args:
        given: a folder of a LLaVA, or the model itself, which is copied.
        processor: for a model that is not in a folder.
        options: of the processor, so that it shows a picture once and whole.
        attention: of the copy; eager attention returns its pattern.
    """

    def __init__(self, given, processor=None, options=None, attention="eager"):
        if processor is None:
            self.model = LlavaForConditionalGeneration.from_pretrained(
                given, attn_implementation=attention
            ).eval()
            self.processor = AutoProcessor.from_pretrained(given)
        else:
            self.model, self.processor = copy.deepcopy(given), processor
            self.model.set_attn_implementation(attention)
        self.options = options or {}
        text = self.model.config.text_config
        self.heads, self.kv_heads = text.num_attention_heads, text.num_key_value_heads
        self.d_head = getattr(text, "head_dim", None) or text.hidden_size // self.heads
        inner = self.model.model
        self.layers = (
            inner.text_model if hasattr(inner, "text_model") else inner.language_model
        ).layers
        self.runs = {}

    def inputs(self, trial, condition, rows=1):
        """Inputs of the bare forward, with the same picture in every row."""
        mark = getattr(self.processor, "image_placeholder_token", self.processor.image_token)
        text = trial.prompt.replace("<image>", mark)
        made = self.processor(
            text=[text] * rows,
            images=[[trial.images[condition]]] * rows,
            return_tensors="pt",
            **self.options,
        )
        # With labels, the model would compute a loss.
        return {name: value for name, value in made.items() if name not in ("labels", "num_crops")}

    @torch.no_grad()
    def patched(self, trial, condition, variants, seen=None):
        """Logits at [end], (variants, vocabulary), of one forward with a row per variant.

        Args:
            variants: lists of (layer, head, position, vector) that are written into that row's z.
            seen: filled with each layer's z, values and pattern, (row, …), and the output.
        """
        seen = {} if seen is None else seen
        seen.update(z={}, values={}, patterns={})
        hooks = []

        def before_o_proj(index):
            def hook(module, arguments):
                heads = arguments[0].clone().unflatten(-1, (self.heads, self.d_head))
                for row, edits in enumerate(variants):
                    for layer, head, position, vector in edits:
                        if layer == index:
                            heads[row, position, head] = vector
                seen["z"][index] = heads.clone()
                return (heads.flatten(2),)

            return hook

        def after_v_proj(index):
            def hook(module, arguments, output):
                seen["values"][index] = output.unflatten(-1, (self.kv_heads, self.d_head))

            return hook

        def after_attention(index):
            def hook(module, arguments, output):
                seen["patterns"][index] = output[1]

            return hook

        for index, layer in enumerate(self.layers):
            hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(before_o_proj(index)))
            hooks.append(layer.self_attn.v_proj.register_forward_hook(after_v_proj(index)))
            hooks.append(layer.self_attn.register_forward_hook(after_attention(index)))
        try:
            seen["output"] = self.model(
                **self.inputs(trial, condition, len(variants)), output_hidden_states=True
            )
        finally:
            for hook in hooks:
                hook.remove()
        return seen["output"].logits[:, -1].float()

    def run(self, trial, condition, writes=()):
        """Logits at [end], each layer's z, pattern and values; ``writes`` are (layer, head,
        position, vector)."""
        seen = {}
        logits = self.patched(trial, condition, [list(writes)], seen)[0]
        z, values = (
            {layer: made[0] for layer, made in seen[part].items()} for part in ("z", "values")
        )
        patterns = [None if made is None else made[0] for made in seen["patterns"].values()]
        return logits, z, patterns, values, seen["output"].hidden_states

    def unpatched(self, trial, condition):
        if (trial.name, condition) not in self.runs:
            self.runs[trial.name, condition] = self.run(trial, condition)
        return self.runs[trial.name, condition]

    def write(self, trial, source, target, layer, head, component, positions):
        """(layer, head, position, vector) for one head's component of the source run, restored in
        the target run."""
        _, z, source_pattern, source_values, _ = self.unpatched(trial, source)
        _, _, target_pattern, target_values, _ = self.unpatched(trial, target)
        group = head * self.kv_heads // self.heads
        vectors = {
            "z": lambda p: z[layer][p, head],
            "pattern": lambda p: source_pattern[layer][head, p] @ target_values[layer][:, group],
            "value": lambda p: target_pattern[layer][head, p] @ source_values[layer][:, group],
        }[component]
        return [(layer, head, p, vectors(p)) for p in positions]

    def patch(self, trial, source, target, layer, head, component, positions):
        """Logits at [end] of the target run with one head's component restored at the positions."""
        return self.run(
            trial, target, self.write(trial, source, target, layer, head, component, positions)
        )[0]

    def gradients(self, trial, condition, tokens, other=None, fraction=0.0):
        """Each layer's z (positions, heads, d_head), and its gradients for the tokens' logits at
        [end], (token, positions, heads, d_head), by ``backward`` through the whole model.

        Args:
            other: a condition; the embeddings and what the model adds between layers are moved by
                ``fraction`` towards its run.
        """
        between = None
        if other is not None:
            mine, others = (self.streams(trial, name) for name in (condition, other))
            between = [own + fraction * (their - own) for own, their in zip(mine, others)]
        z, hooks = {}, []

        def entering(index):
            def hook(module, arguments):
                # Replace what this run adds after the previous layer by the mixture of both runs.
                stream = between[0] if index == 0 else arguments[0] + between[index] - mine[index]
                return (stream, *arguments[1:])

            return hook

        def before_o_proj(index):
            def hook(module, arguments):
                z[index] = arguments[0]
                z[index].retain_grad()

            return hook

        for index, layer in enumerate(self.layers):
            hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(before_o_proj(index)))
            if between is not None:
                hooks.append(layer.register_forward_pre_hook(entering(index)))
        found = {index: [] for index in range(len(self.layers))}
        try:
            for token in tokens:
                self.model.zero_grad()
                self.model(**self.inputs(trial, condition)).logits[0, -1, token].backward()
                for index, one in z.items():
                    found[index].append(
                        one.grad[0].unflatten(-1, (self.heads, self.d_head)).clone()
                    )
        finally:
            for hook in hooks:
                hook.remove()
        return {
            index: (
                one[0].detach().unflatten(-1, (self.heads, self.d_head)),
                torch.stack(found[index]),
            )
            for index, one in z.items()
        }

    @torch.no_grad()
    def streams(self, trial, condition):
        """The input of the first layer, and what the model adds after each layer but the last,
        each (1, positions, width)."""
        entered, left, hooks = [], [], []
        for layer in self.layers:
            hooks.append(
                layer.register_forward_pre_hook(lambda module, given: entered.append(given[0]))
            )
            hooks.append(
                layer.register_forward_hook(
                    lambda module, given, made: left.append(
                        made[0] if isinstance(made, tuple) else made
                    )
                )
            )
        try:
            self.model(**self.inputs(trial, condition))
        finally:
            for hook in hooks:
                hook.remove()
        return [entered[0], *(after - before for after, before in zip(entered[1:], left))]
