"""Batch sizes that fit the memory that is free now, or a modest share of a server's."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from ..vlm import Vlm

# The option's number in glibc's malloc.h, and the bytes from which a tensor counts as large.
M_MMAP_THRESHOLD, LARGE = -3, 2**20

# The most tokens in one forward; more gain nothing: on a CPU the activations leave the cache. A
# server's free memory is unknown here; this many tokens of a 13B model need less than 2 GB.
MOST_TOKENS = {"cpu": 2560, "cuda": 32768, "server": 8192}

# The most bytes of captured pictures on a device that shares the memory of the system: a laptop has
# little left beside a large model's weights, and gains nothing from a second picture of 600 tokens.
# One trial's pictures are captured together all the same.
MOST_BYTES = {"cpu": 2 * 2**30}

# The most bytes that layers keep for gradients, on a server or in the memory of the system.
GRADIENT_BYTES = {"cpu": 2 * 2**30, "server": 2 * 2**30}

# The most bytes of whole-vocabulary logits at once, if only a few of them are read.
LOGIT_BYTES = 2**28

# The most variants side by side; more gain nothing, and lose the layers that smaller forwards can
# skip.
MOST_SIDE_BY_SIDE = 256


def return_freed_memory() -> None:
    """Make this process return the memory of a large tensor to the system when it is freed, if the
    C library is glibc.

    By default glibc keeps freed pieces of up to 32 MB in its heap for later requests. Between the
    tensors that one sweep leaves and those of the next, these pieces become holes. On a model of
    LLaVA-1.5-7B's shape they were half of a run's memory besides the weights.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def pictures_at_once(model: Vlm, length: int, start: int) -> int:
    """How many pictures of ``length`` positions can be captured together, keeping positions from
    ``start`` on."""
    return _fit(
        model, picture_bytes(model, length, start), most=_most_tokens(model) // length, share=2
    )


def picture_bytes(model: Vlm, length: int, start: int) -> int:
    """The bytes of a captured picture: at every layer the keys and values of all positions, twice,
    since a patched run goes on from a copy; and residual stream, z and queries from ``start``
    on."""
    text, number = model.config.text_config, model.dtype.itemsize
    heads, keys = model.n_heads * model.d_head, 2 * model.n_kv_heads * model.d_head
    kept = (length - start) * (text.hidden_size + 3 * heads) + 2 * length * keys
    return model.n_layers * kept * number + length * _position_bytes(model) + 4 * text.vocab_size


def held_at_once(model: Vlm, length: int, start: int) -> int:
    """How many captured pictures may stay in memory for later trials; 0 if little is free."""
    # A waiting picture counts half: its keys and values are there once.
    return 2 * _given(model, share=4) // picture_bytes(model, length, start)


def rows_at_once(model: Vlm, length: int, start: int) -> int:
    """How many patched runs fit side by side, each from position ``start`` of ``length`` on."""
    kept = length - start
    most = MOST_SIDE_BY_SIDE if kept == 1 else _most_tokens(model) // kept
    # Captured pictures may fill half of what is free now, and patched runs half of the rest.
    return _fit(model, row_bytes(model, length, start), most, share=4)


def row_bytes(model: Vlm, length: int, start: int) -> int:
    """The bytes that a patched run needs while it runs from position ``start`` of ``length`` on."""
    text, number = model.config.text_config, model.dtype.itemsize
    kept = length - start
    needed = (
        kept * _position_bytes(model)
        + text.vocab_size * (number + 4)
        + 8 * model.n_heads * kept * (length + MOST_SIDE_BY_SIDE)
    )
    if 1 < kept < length:
        needed += 2 * model.n_layers * length * 2 * model.n_kv_heads * model.d_head * number
    return needed


def logits_at_once(model: Vlm) -> int:
    """For how many states the logits of the whole vocabulary can be computed at once."""
    return max(1, LOGIT_BYTES // (4 * model.config.text_config.vocab_size))


def pictures_with_gradients(model: Vlm, length: int, start: int) -> int:
    """How many pictures of ``length`` positions can run on together from ``start`` on, with all
    that the layers keep for gradients; at least one, since layers can run some at a time."""
    whole = model.n_layers * gradient_bytes(model, length, start) + picture_bytes(
        model, length, start
    )
    return max(1, _gradient_room(model) // whole)


def layers_with_gradients(model: Vlm, length: int, start: int, pictures: int) -> int:
    """How many layers at once can keep the insides of so many pictures for gradients."""
    return int(
        max(
            1,
            min(
                model.n_layers,
                _gradient_room(model) // (pictures * gradient_bytes(model, length, start)),
            ),
        )
    )


def gradient_bytes(model: Vlm, length: int, start: int) -> int:
    """The bytes that one layer keeps of one picture for gradients: the inputs of its norms in
    float32, the inputs of its products in the model's own format, and the attention scores, in case
    its kernel keeps them."""
    text, number, kept = model.config.text_config, model.dtype.itemsize, length - start
    of_a_position = text.hidden_size * (16 + 8 * number) + number * (
        12 * model.n_heads * model.d_head + 5 * _mlp_width(text)
    )
    return kept * (of_a_position + 2 * model.n_heads * length * (4 + number))


def _gradient_room(model):
    where = "server" if model.server else model.nnsight.device.type
    most = GRADIENT_BYTES.get(where)
    return most if model.server else min(_free(model) // 2, most or _free(model))


def chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    """Consecutive parts of at most ``size`` items, but at least one."""
    size = max(1, size)
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _most_tokens(model):
    where = "server" if model.server else model.nnsight.device.type
    return MOST_TOKENS.get(where, MOST_TOKENS["cuda"])


def _position_bytes(model):
    """Working memory of one position inside one layer."""
    text = model.config.text_config
    return model.dtype.itemsize * (
        8 * text.hidden_size + 4 * _mlp_width(text) + 4 * model.n_heads * model.d_head
    )


def _mlp_width(text):
    """The widest MLP of a language model; if its configuration has no width, the usual four times
    the stream."""
    width = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return max(width) if isinstance(width, list | tuple) else width


def _fit(model, needed, most, share):
    """How many times ``needed`` bytes fit into one ``share``-th of the free memory of the fullest
    device, and into ``MOST_BYTES``, from 1 to ``most``."""
    return int(max(1, most if model.server else min(most, _given(model, share) // needed)))


def _given(model, share):
    """One ``share``-th of the bytes that are free on the fullest device, and no more than
    ``MOST_BYTES``."""
    free = _free(model)
    return int(min(free // share, MOST_BYTES.get(model.nnsight.device.type, free)))


def _free(model):
    """The free bytes of the fullest device, less those that weights will take that are not loaded
    yet."""
    # The command sets up its memory before it knows whether it needs torch.
    import torch

    parameters = [*model.nnsight._module.parameters()]
    devices = {
        one.device if one.device.type != "meta" else model.nnsight.device for one in parameters
    }
    unloaded = sum(one.numel() for one in parameters if one.device.type == "meta")
    free = min(
        torch.cuda.mem_get_info(device)[0]
        if device.type == "cuda"
        else psutil.virtual_memory().available
        for device in devices
    )
    return max(0, free - unloaded * model.dtype.itemsize)
