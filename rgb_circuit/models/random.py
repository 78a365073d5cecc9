"""LLaVAs with random weights: no head does anything in particular, so every finding on them is false."""

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerBase

from . import small


def random_llava(
    seed: int = 0,
    *,
    grid: int = 6,
    tile_px: int = 4,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 4,
    d_head: int = 8,
    width: int = 32,
    scale: float = 1.0,
    vocabulary: PreTrainedTokenizerBase | None = None,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A random LLaVA whose heads really reach the logits, and its processor.

    Weights are Gaussian with variance ``scale``² / fan-in, so that attention is far from uniform and every
    head moves the logits by an amount well above rounding (Hugging Face's own initialisation leaves both
    almost flat). ``vocabulary`` is another tokenizer than the small one.
    """
    tools = small.processor(grid, tile_px, vocabulary)
    configuration = small.config(
        grid,
        tile_px,
        tools.tokenizer,
        vision=dict(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2
        ),
        text=dict(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=d_head,
            max_position_embeddings=max(1024, grid * grid + 64),
        ),
    )
    model = LlavaForConditionalGeneration(configuration).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale / fan_in**0.5)
        # Word and position vectors have no fan-in: they start the residual stream at unit size.
        text, vision = model.model.language_model, model.model.vision_tower.embeddings
        for table in (text.embed_tokens.weight, vision.position_embedding.weight, vision.class_embedding):
            table.copy_(torch.randn(table.shape, generator=generator))
    return model, tools
