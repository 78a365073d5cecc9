"""How much fits: sizes of batches from the memory that is free now, or a modest share of a
server's."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from ..vlm import Vlm

# Of glibc's malloc.h, and the size in bytes from which a tensor is large.
M_MMAP_THRESHOLD, LARGE = -3, 2**20

# Tokens in one forward beyond which it gains nothing: on a CPU the activations leave the cache. A
# server's free memory is not known here; this many tokens of a 13B model need less than 2 GB.
MOST_TOKENS = {"cpu": 2560, "cuda": 32768, "server": 8192}

# Bytes that captured pictures may fill where that is the weights' own memory: a laptop has little
# beside those of a large model, and gains nothing from a second picture of 600 tokens. One trial's
# pictures are captured together all the same.
MOST_BYTES = {"cpu": 2 * 2**30}

# Bytes that what layers keep for their gradients may fill where the memory is another's, or the
# weights' own.
GRADIENT_BYTES = {"cpu": 2 * 2**30, "server": 2 * 2**30}

# Bytes of logits that are made at once where a few of each are read.
LOGIT_BYTES = 2**28

# Variants side by side beyond which a forward gains nothing and loses the layers that smaller ones
# can skip.
MOST_SIDE_BY_SIDE = 256


def return_freed_memory() -> None:
    """For the whole process: what a large tensor took goes back to the system when it is freed,
    where the C library is glibc's.

    By itself glibc keeps what was freed in its heap, in pieces up to 32 MB, since it takes them for
    what is asked for again; between what stays of one sweep and comes with the next they are holes.
    On a model of LLaVA-1.5-7B's shape they were half of all that a run took beside the weights.
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
    """What a captured picture holds: at every layer keys and values of all its positions, twice,
    since a patched run goes on from a copy; and residual stream, z and queries from ``start``
    on."""
    text, number = model.config.text_config, model.dtype.itemsize
    heads, keys = model.n_heads * model.d_head, 2 * model.n_kv_heads * model.d_head
    kept = (length - start) * (text.hidden_size + 3 * heads) + 2 * length * keys
    return model.n_layers * kept * number + length * _position_bytes(model) + 4 * text.vocab_size


def held_at_once(model: Vlm, length: int, start: int) -> int:
    """How many captured pictures may stay in memory for later trials; none where little is free."""
    # Of a picture that waits there are keys and values once.
    return 2 * _given(model, share=4) // picture_bytes(model, length, start)


def rows_at_once(model: Vlm, length: int, start: int) -> int:
    """How many patched runs can go side by side, each from position ``start`` of ``length`` on."""
    kept = length - start
    most = MOST_SIDE_BY_SIDE if kept == 1 else _most_tokens(model) // kept
    # Captured pictures may fill half of what is free now, and patched runs half of the rest.
    return _fit(model, row_bytes(model, length, start), most, share=4)


def row_bytes(model: Vlm, length: int, start: int) -> int:
    """What a patched run needs while it runs from position ``start`` of ``length`` on."""
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
    """Of how many states the logits of the whole vocabulary can be made at once."""
    return max(1, LOGIT_BYTES // (4 * model.config.text_config.vocab_size))


def pictures_with_gradients(model: Vlm, length: int, start: int) -> int:
    """How many pictures of ``length`` positions can run on together from ``start`` on, with what
    all layers keep for their gradients; one at least, since layers can be taken some at a time."""
    whole = model.n_layers * gradient_bytes(model, length, start) + picture_bytes(
        model, length, start
    )
    return max(1, _gradient_room(model) // whole)


def layers_with_gradients(model: Vlm, length: int, start: int, pictures: int) -> int:
    """Of how many layers at once so many pictures' insides can be held for their gradients."""
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
    """What one layer keeps of one picture for its gradients: the inputs of its norms in float32, of
    its products in the model's own format, and of attention the scores, should its kernel keep
    them."""
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
    """Consecutive parts of at most ``size`` items, and of one at least."""
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
    """The widest MLP of a language model; where its configuration does not say that, the usual
    four times the stream."""
    width = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return max(width) if isinstance(width, list | tuple) else width


def _fit(model, needed, most, share):
    """How many times ``needed`` bytes fit into one ``share``-th of what is free on the fullest
    device, and into ``MOST_BYTES``, from 1 to ``most``."""
    return int(max(1, most if model.server else min(most, _given(model, share) // needed)))


def _given(model, share):
    """One ``share``-th of the bytes that are free on the fullest device, and no more than
    ``MOST_BYTES``."""
    free = _free(model)
    return int(min(free // share, MOST_BYTES.get(model.nnsight.device.type, free)))


def _free(model):
    """Bytes that are free on the fullest device; where weights are not loaded, those that they will
    leave free."""
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
