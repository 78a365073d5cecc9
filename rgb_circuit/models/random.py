"""LLaVAs with random weights: no head does anything in particular, so every finding on them is
false.

Plain random models ignore what they are shown, so there is no gap and nothing can be tested. With a
*fitted readout* there is a gap: a picture leaves some trace in the last state of any network, and a
linear map from there to the colour words finds it. The heads are as random as before.
"""

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerBase

from ..boards import Canvas
from ..conversation import TEMPLATE
from ..stimuli.tasks.rgb import NOTHING_ODD, draw
from . import small

# The fitted logit of the right word; the other words are fitted to 0.
RIGHT = 10.0
# Trials that a readout is fitted on; other seeds give the trials to judge.
FITTED_ON = 256
# Pictures per forward.
BATCH = 64


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

    Weights are Gaussian with variance ``scale``² / fan-in, so that attention is far from uniform
    and every head moves the logits by far more than rounding (Hugging Face's own initialisation
    leaves both almost flat). ``vocabulary`` is a tokenizer other than the small one.
    """
    tools = small.processor(grid, tile_px, vocabulary)
    configuration = small.config(
        grid,
        tile_px,
        tools.tokenizer,
        vision=dict(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
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
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) * scale / fan_in**0.5
                )
        # Word and position vectors have no fan-in: they start the residual stream at unit size.
        text, vision = model.model.language_model, model.model.vision_tower.embeddings
        for table in (
            text.embed_tokens.weight,
            vision.position_embedding.weight,
            vision.class_embedding,
        ):
            table.copy_(torch.randn(table.shape, generator=generator))
    return model, tools


def fitted_llava(
    seed: int = 0, *, grid: int = 6, tile_px: int = 4, width: int = 64, d_head: int = 16, **shape
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """`random_llava` with a readout that plays the game as well as the last state at [end] allows:
    ``lm_head`` is the least-squares map from that state to the right word, on trials that no user's
    seed draws.

    Args:
        seed, grid, tile_px, width, d_head, shape: as in `random_llava`.
    """
    model, tools = random_llava(
        seed, grid=grid, tile_px=tile_px, width=width, d_head=d_head, **shape
    )
    canvas = Canvas(grid, tile_px, 0, TEMPLATE)
    trials = draw(canvas, small.COLORS, FITTED_ON, 2**32 + seed, {})
    pairs = [(trial, condition) for trial in trials for condition in trial.images]
    states: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_pre_hook(lambda _, given: states.append(given[0][:, -1]))
    with torch.no_grad():
        for first in range(0, len(pairs), BATCH):
            batch = pairs[first : first + BATCH]
            images = [trial.images[condition] for trial, condition in batch]
            prompts = [trial.prompt for trial, _ in batch]
            model(**tools(images=images, text=prompts, return_tensors="pt"), logits_to_keep=1)
    hook.remove()
    words = [*small.COLORS, NOTHING_ODD]
    right = [words.index(trial.answers[trial.expected[condition]]) for trial, condition in pairs]
    targets = RIGHT * torch.nn.functional.one_hot(torch.tensor(right), len(words)).double()
    fitted = torch.linalg.lstsq(torch.cat(states).double(), targets - targets.mean(0)).solution
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[tools.tokenizer.convert_tokens_to_ids(words)] = fitted.T.float()
    return model, tools
