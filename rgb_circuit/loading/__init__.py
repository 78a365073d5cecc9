"""Load a vision-language model, by name or from memory, and check that its internals behave as the
analyses assume."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from nnsight import TransformersModel
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from ..conversation import EXAMPLE_QUESTION, prompt, template_of
from ..conversation.answers import picture_mark, preferred
from ..errors import FOREIGN, InputError, first_line
from ..module.layout import Layout, layout_of
from ..module.modules import KERNELS, check_language_model, check_ready, check_vlm
from ..module.unchanged import as_it_is
from ..prompts.as_read import read_ids, say_unknown
from ..prompts.asking import token_of
from ..vlm import Vlm
from .checkpoints import (
    EXAMPLE,
    Checkpoint,
    find,
    read_config,
    read_processor,
    read_weights,
    skeleton,
)
from .probe import PLAIN, probe
from .processors import fitted

SHIPPED = ("toy", "planted", "talker")
# Trained models have a folder; the planted one is built at loading.
TRAINED = ("toy", "talker")

# Above this many bytes of weights, loading takes long enough to announce.
LARGE = 1e9


def load(
    name: str | os.PathLike = "toy",
    *,
    remote: bool | str = False,
    device_map: str | dict = "auto",
    dtype: str | torch.dtype = "auto",
    attn_implementation: str = "sdpa",
    revision: str | None = None,
    tiles: int | None = None,
) -> Vlm:
    """Load a vision-language model and check, on some pictures, that patching its heads means what
    it should.

    Settings that the processor lacks or has wrong (patch size, feature strategy, class token, image
    token) are taken from the model. Slow steps are announced on standard error.

    Args:
        name: a shipped model (``"toy"``, ``"planted"``, ``"talker"``), a folder written by
            ``save_pretrained``, or a hub id such as ``"llava-hf/llava-1.5-7b-hf"``. Weights are
            read from safetensors only, and no code from the repository is run.
        remote: True to run on the NDIF server of nnsight's configuration (``NDIF_HOST``,
            ``NDIF_API_KEY``), or a server's URL. Only the configuration and the processor are
            loaded here; number format and devices are the server's.
        device_map: where the weights go, as in transformers; ``"auto"`` spreads them over all GPUs.
        dtype: number format; ``"auto"`` takes the checkpoint's own.
        attn_implementation: ``"sdpa"`` or ``"eager"``. Models without SDPA in transformers, such as
            Gemma 2, run eager.
        revision: of a hub repository.
        tiles: per side of the game's pictures, for a model that takes pictures of any size; 24 by
            default, or the nearest number that its processor does not resize.

    Raises:
        InputError: no such model or none that can be reached, a model that does not see pictures
            through image tokens, an incomplete checkpoint, a processor that cannot be made to fit,
            or a model whose internals do not behave as the analyses need.
        ServerError: the server cannot be reached, refuses the key, or does not serve the model.

    Examples:
        >>> model = rgb.load("toy")
        >>> model
        Vlm('toy': 4 layers × 4 heads, 6 × 6 image tokens, float32)
        >>> rgb.play(model, rgb.rgb_trials(model, 4))["correct"].unique().tolist()
        [True]
    """
    if attn_implementation not in KERNELS:
        raise InputError(
            f"attn_implementation is {attn_implementation!r}; use 'sdpa' or 'eager', which accept "
            "the masks that patching needs"
        )
    _check_placement(device_map, dtype)
    if remote is not False and (device_map, dtype) != ("auto", "auto"):
        raise InputError(
            "device and number format are the server's choice; leave device_map and dtype out with "
            "remote=True"
        )
    name = _found(name)
    with _source(name) as source:
        # Everything but the weights, so that a bad model is refused before they are read.
        known = _described(name, source, dtype, revision, tiles)
        if attn_implementation == "sdpa" and not all(
            part._supports_sdpa
            for part in known.empty.modules()
            if isinstance(part, PreTrainedModel)
        ):
            _say(
                f"{name} has no attn_implementation='sdpa' in transformers, so it runs with 'eager'"
            )
            attn_implementation = "eager"
        processor, shown = known.processor, (known.layout, known.template)
        if remote is not False:
            from ..remote.server import Server

            wrapped = TransformersModel(
                source,
                task="image-text-to-text",
                processor=processor,
                revision=revision,
                attn_implementation=attn_implementation,
            )
            served = f"rgb_circuit/{name}" if name in SHIPPED else name
            server = Server.of(wrapped, served, remote)
            # A server knows a model by the revision's name, not by the commit it stands for.
            return _checked(name, revision, wrapped, processor, *shown, server, known.found.commit)
        number = known.dtype
        size = weights_size(known.empty, number)
        if known.found.commit or size > LARGE:
            _say(
                f"loading {size / 1e9:.1f} GB of weights in {str(number).removeprefix('torch.')} …"
            )
        options = dict(device_map=device_map, dtype=dtype, attn_implementation=attn_implementation)
        module = read_weights(known.found, known.config, **options)
    check_ready(module, name)
    wrapped, commit = _wrapped(module, processor), known.found.commit
    return _checked(name, commit, wrapped, processor, *shown, None, commit)


@dataclass(frozen=True)
class Described:
    """A model as far as its configuration and processor describe it.

    Attributes:
        name: of a shipped model, a folder's absolute path, or a hub id.
        found, config: its files, and its configuration.
        empty: the model without weights.
        processor: its processor, made to fit.
        layout, template: how pictures and questions are shown to it.
        dtype: number format of its weights, as requested or the checkpoint's own.
    """

    name: str
    found: Checkpoint
    config: PreTrainedConfig
    empty: PreTrainedModel
    processor: ProcessorMixin
    layout: Layout
    template: str
    dtype: torch.dtype

    @property
    def heads(self) -> dict[str, Any]:
        """The fields of `Vlm` that say how many heads there are."""
        return _heads(self.config, self.name)


@dataclass(frozen=True)
class Shape:
    """The number of a model's layers, and of heads per layer."""

    name: str
    n_layers: int
    n_heads: int


def shape_of(name: str | os.PathLike, revision: str | None = None) -> Shape:
    """The shape of a model, from its configuration alone; arguments as in `load`.

    Raises:
        InputError: as `load`, for faults of the configuration.
    """
    name = _found(name)
    with _source(name) as source:
        heads = _heads(read_config(find(name, source, revision)), name)
    return Shape(name, heads["n_layers"], heads["n_heads"])


def described(
    name: str | os.PathLike,
    device_map: str | Mapping,
    dtype: str | torch.dtype,
    revision: str | None,
    tiles: int | None,
) -> Described:
    """Describe a model before its weights are fetched or read; arguments as in `load`.

    Raises:
        InputError: as `load`, except for faults of the weights.
    """
    _check_placement(device_map, dtype)
    name = _found(name)
    with _source(name) as source:
        return _described(name, source, dtype, revision, tiles)


def _described(name, source, dtype, revision, tiles):
    checkpoint = find(name, source, revision)
    config = read_config(checkpoint)
    empty = skeleton(name, config)
    check_language_model(empty, name)
    processor = fitted(read_processor(checkpoint), empty, name)
    layout, template = _shown(name, empty, processor, tiles)
    number = (
        config.dtype or torch.float32
        if dtype == "auto"
        else getattr(torch, str(dtype).removeprefix("torch."))
    )
    return Described(name, checkpoint, config, empty, processor, layout, template, number)


def _check_placement(device_map, dtype):
    """Refuse an unknown number format, and a GPU that does not exist."""
    if str(dtype).removeprefix("torch.") not in ("auto", "float32", "float16", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}; use 'auto', 'float32', 'float16' or 'bfloat16'")
    if (
        isinstance(device_map, str)
        and device_map.startswith("cuda")
        and not torch.cuda.is_available()
    ):
        raise InputError(
            f"device_map is {device_map!r}, but torch sees no GPU here; use 'auto' or 'cpu'"
        )


def wrap(
    module: PreTrainedModel, processor: ProcessorMixin, *, name: str, tiles: int | None = None
) -> Vlm:
    """Like `load`, for a model that is already in memory; ``name`` labels it in figures.

    Neither argument is changed: the model stays on its device, and the processor is copied before
    it is made to fit. ``tiles`` is as in `load`.

    Raises:
        InputError: a model of another kind, one with adapters, in training mode or offloaded, one
            with hooks that change its computation, or with a replaced forward or attention; a
            processor that cannot be made to fit; or a model whose internals do not behave as the
            analyses need.

    Examples:
        >>> from rgb_circuit.models.random import random_llava
        >>> module, processor = random_llava(0, layers=2)
        >>> rgb.wrap(module, processor, name="untrained")
        Vlm('untrained': 2 layers × 4 heads, 6 × 6 image tokens, float32)
    """
    check_vlm(module, name)
    check_language_model(module, name)
    check_ready(module, name)
    processor = fitted(processor, module, name)
    layout, template = _shown(name, module, processor, tiles)
    return _checked(name, None, _wrapped(module, processor), processor, layout, template)


def _shown(name, module, processor, tiles):
    """How pictures and questions are shown to a model: its `Layout` and its chat template."""
    template = template_of(name, module.config, processor)
    text = prompt(EXAMPLE_QUESTION, template)
    try:
        shown = text.replace("<image>", picture_mark(processor))
        layout = layout_of(name, module, processor, shown, tiles)
    except InputError:
        raise
    except FOREIGN as error:
        raise InputError(
            f"the processor of {name!r} ({type(processor).__name__}) fails on a square picture "
            f"with the game's question ({first_line(error)}); give one that takes text=[prompt] "
            "and images=[[picture]]"
        ) from error
    ids = read_ids(name, module, processor, layout, text)
    say_unknown(name, processor.tokenizer, {text: ids})
    return layout, template


def weights_size(module: torch.nn.Module, number: torch.dtype) -> int:
    """The size in bytes of a model's weights in a number format, loaded or not."""
    return sum(weights.numel() for weights in module.parameters()) * number.itemsize


def _wrapped(module, processor):
    # Without a device, transformers moves the model to the first GPU; with one, it refuses a model
    # that accelerate has placed.
    stays = {} if getattr(module, "hf_device_map", None) else {"device": module.device}
    return TransformersModel(module, task="image-text-to-text", processor=processor, **stays)


def _checked(name, revision, wrapped, processor, layout, template, server=None, commit=None):
    heads = _heads(wrapped._module.config, name)
    if server is None and sum(weights.nbytes for weights in wrapped._module.parameters()) > LARGE:
        _say("checking on a few pictures that patching its heads does what it should …")
    text = prompt(EXAMPLE_QUESTION, template)
    probed = probe(
        wrapped, processor, (heads["n_heads"], heads["d_head"]), layout, text, server, name
    )
    forms = preferred(processor.tokenizer, *probed["likeliest"])
    return Vlm(
        name=name,
        revision=revision,
        nnsight=wrapped,
        processor=processor,
        layout=layout,
        dtype=getattr(torch, probed["dtype"]),
        template=template,
        token_of=token_of,
        ahead=probed["ahead"],
        softcap=probed["softcap"],
        rounding=probed["rounding"],
        forms={text: forms},
        server=server,
        commit=commit,
        as_wrapped=None if server else as_it_is(wrapped._module),
        **heads,
    )


def _heads(config, name):
    """The fields of `Vlm` that say how many heads there are."""
    text = config.text_config
    try:
        heads = text.num_attention_heads
        return dict(
            n_layers=text.num_hidden_layers,
            n_heads=heads,
            n_kv_heads=getattr(text, "num_key_value_heads", None) or heads,
            # A head's output has the width of its values; in latent attention (DeepSeek) that
            # differs from the width of queries and keys.
            d_head=getattr(text, "v_head_dim", None)
            or getattr(text, "head_dim", None)
            or text.hidden_size // heads,
        )
    except FOREIGN as error:
        raise InputError(
            f"the configuration of {name!r} gives no number of heads and their width that hold for "
            "every layer of its language model "
            f"({text.model_type}: {first_line(error)}); {PLAIN}"
        ) from error


def _found(name) -> str:
    """A shipped model's name, a folder's absolute path, or a hub id; refuses a name that can be
    none of these."""
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(
            f"name is {name!r}; give a shipped model ({', '.join(SHIPPED)}), a folder or a hub id"
        )
    name = os.fspath(name)
    if name in SHIPPED:
        return name
    path = Path(name).expanduser()
    if path.is_dir():
        # An absolute path holds in any working directory of a later process.
        return str(path.resolve())
    if path.is_file():
        raise InputError(
            f"{name!r} is a file; give the folder that holds it ({str(path.parent)!r})"
        )
    if not {"/", "\\"} & set(name):
        known = {known.split("/")[-1]: known for known in (*SHIPPED, EXAMPLE)}
        near = difflib.get_close_matches(name.lower(), known, n=1)
        meant = f"did you mean {known[near[0]]!r}? Else give" if near else "give"
        raise InputError(
            f"no shipped model and no folder here is called {name!r}; {meant} "
            f"{' or '.join(map(repr, SHIPPED))}, a folder written by save_pretrained, or a hub id "
            f"such as {EXAMPLE!r}"
        )
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(
            f"there is no folder {name!r}, and it is no hub id either; give a shipped model "
            f"({', '.join(SHIPPED)}), a folder written by save_pretrained, or a hub id such as "
            f"{EXAMPLE!r}"
        ) from None
    return name


@contextmanager
def _source(name) -> Iterator[str]:
    """Where transformers finds the model: a folder, or the hub id itself."""
    if name in TRAINED:
        yield str(Path(__file__).parents[1] / "models" / name)
    elif name == "planted":
        from ..models.planted import planted
        from ..models.small import save

        with tempfile.TemporaryDirectory() as folder:
            model, processor, _ = planted()
            yield str(save(model, processor, folder))
    else:
        yield name


def _say(text):
    print(text, file=sys.stderr, flush=True)
