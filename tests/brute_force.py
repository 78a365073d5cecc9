"""Activation patching with plain PyTorch hooks on the bare Hugging Face model: shares no code with the package."""

import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration


class BruteForce:
    def __init__(self, folder):
        self.model = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        text = self.model.config.text_config
        self.heads, self.d_head, self.kv_heads = text.num_attention_heads, text.head_dim, text.num_key_value_heads
        self.layers = self.model.model.language_model.layers
        self.runs = {}

    @torch.no_grad()
    def run(self, trial, condition, writes=()):
        """Logits at [end], each layer's z, pattern and values; ``writes`` are (layer, head, position, vector)."""
        inputs = self.processor(text=[trial.prompt], images=[trial.images[condition]], return_tensors="pt")
        z, values, hooks = {}, {}, []

        def before_o_proj(index):
            def hook(module, arguments):
                heads = arguments[0].clone().view(1, -1, self.heads, self.d_head)
                for layer, head, position, vector in writes:
                    if layer == index:
                        heads[0, position, head] = vector
                z[index] = heads[0].clone()
                return (heads.flatten(2),)

            return hook

        def after_v_proj(index):
            def hook(module, arguments, output):
                values[index] = output[0].view(-1, self.kv_heads, self.d_head)

            return hook

        for index, layer in enumerate(self.layers):
            hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(before_o_proj(index)))
            hooks.append(layer.self_attn.v_proj.register_forward_hook(after_v_proj(index)))
        try:
            output = self.model(**inputs, output_attentions=True, output_hidden_states=True)
        finally:
            for hook in hooks:
                hook.remove()
        patterns = [attention[0] for attention in output.attentions]
        return output.logits[0, -1], z, patterns, values, output.hidden_states

    def unpatched(self, trial, condition):
        if (trial.name, condition) not in self.runs:
            self.runs[trial.name, condition] = self.run(trial, condition)
        return self.runs[trial.name, condition]

    def patch(self, trial, source, target, layer, head, component, positions):
        """Logits at [end] of the target run with one head's component restored at the positions."""
        _, z, source_pattern, source_values, _ = self.unpatched(trial, source)
        _, _, target_pattern, target_values, _ = self.unpatched(trial, target)
        group = head * self.kv_heads // self.heads
        vectors = {
            "z": lambda p: z[layer][p, head],
            "pattern": lambda p: source_pattern[layer][head, p] @ target_values[layer][:, group],
            "value": lambda p: target_pattern[layer][head, p] @ source_values[layer][:, group],
        }[component]
        return self.run(trial, target, [(layer, head, p, vectors(p)) for p in positions])[0]
