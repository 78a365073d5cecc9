"""A Hugging Face LLaVA, unmodified, wrapped in nnsight: loading, geometry, and the checks that it means what we assume."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from nnsight.modeling.transformers import TransformersModel
from transformers import AutoConfig, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

from .answers import VOTERS, form_of, preferred, read
from .capture import RESUMED, RESUMED_HALF, capture
from .errors import InputError, first_line
from .prompts import colors, inputs_of
from .rgb_game import PALETTE, prompt, rgb_trial
from .sweep import sweep

if TYPE_CHECKING:
    from .server import Server

SHIPPED = ("toy", "planted")

@dataclass(frozen=True, eq=False)
class Llava:
    """A LLaVA ready for tracing, with the geometry that head analyses need.

    Attributes:
        name: what `load` was called with.
        revision: of a hub repository: the commit that was loaded, or what a server was asked for; None for a folder.
        nnsight: the nnsight model around the unmodified ``LlavaForConditionalGeneration``.
        processor: its Hugging Face processor.
        n_layers, n_heads, n_kv_heads, d_head: of the language model; heads are numbered from 0.
        grid: (rows, columns) of image tokens.
        tile_px: side of the square of pixels behind one image token.
        dtype: number format of the language model where it runs.
        answer_form: how it writes a colour word after the game's prompt, a key of `rgb_circuit.answers.FORMS`.
        words: the palette's colour words that the game is drawn with.
        server: the NDIF server that holds the weights, or None where this process does.
        forms: prompt → the forms of answers there, the one that the model prefers first, as far as that was asked.
    """

    name: str
    revision: str | None
    nnsight: TransformersModel = field(repr=False)
    processor: LlavaProcessor = field(repr=False)
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    grid: tuple[int, int]
    tile_px: int
    dtype: torch.dtype
    answer_form: str
    words: tuple[str, ...]
    server: Server | None = None
    forms: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def layers(self):
        """The nnsight envoys of the language model's layers, first to last."""
        return self.nnsight.model.language_model.layers

    @property
    def picture_px(self) -> int:
        """Side of the square picture that the vision tower takes, in pixels."""
        return self.config.vision_config.image_size

    @property
    def config(self):
        """The Hugging Face configuration."""
        return self.nnsight._module.config

    def heads(self) -> list[tuple[int, int]]:
        """Every (layer, head), in order."""
        return [(layer, head) for layer in range(self.n_layers) for head in range(self.n_heads)]

    def token(self, word: str, after: str) -> int:
        """The id of the token that ``word`` is read at after the prompt ``after``: its first, as this model writes it there.

        Raises:
            InputError: the word cannot be written there.
        """
        return read(self, after, {"word": word}).tokens["word"]


def load(
    name: str = "toy",
    *,
    remote: bool | str = False,
    device_map: str | dict = "auto",
    dtype: str | torch.dtype = "auto",
    attn_implementation: str = "sdpa",
    revision: str | None = None,
) -> Llava:
    """Load a LLaVA and check, on one picture, that patching its heads means what it should.

    Args:
        name: a shipped model (``"toy"``, ``"planted"``), a folder written by ``save_pretrained``, or a hub id such as
            ``"llava-hf/llava-1.5-7b-hf"``. Weights are read from safetensors only and no code of the repository is run.
        remote: True to run on the NDIF server of nnsight's configuration (``NDIF_HOST``, ``NDIF_API_KEY``), or a server's URL. Only the
            configuration and the processor are loaded here; number format and devices are the server's.
        device_map: where the weights go, as in transformers; ``"auto"`` spreads them over the GPUs there are.
        dtype: number format; ``"auto"`` takes the checkpoint's own.
        attn_implementation: ``"sdpa"`` or ``"eager"``.
        revision: of a hub repository.

    Raises:
        InputError: no such model, a model that is no LLaVA, or one whose internals do not behave as the analyses need.
        ServerError: the server cannot be reached, refuses the key, or does not serve the model.
    """
    if attn_implementation not in ("sdpa", "eager"):
        raise InputError(
            f"attn_implementation is {attn_implementation!r}; use 'sdpa' or 'eager', which accept the masks that patching needs"
        )
    if str(dtype).removeprefix("torch.") not in ("auto", "float32", "float16", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}; use 'auto', 'float32', 'float16' or 'bfloat16'")
    if isinstance(device_map, str) and device_map.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device_map is {device_map!r}, but torch sees no GPU here; use 'auto' or 'cpu'")
    if remote is not False and (device_map, dtype) != ("auto", "auto"):
        raise InputError("device and number format are the server's choice; leave device_map and dtype out with remote")
    if name not in SHIPPED and Path(name).is_dir():
        # The same from wherever a later process starts.
        name = str(Path(name).resolve())
    with _folder(name) as source:
        _check_type(name, _config(name, source, revision))
        processor = _processor(name, source, revision)
        if remote is not False:
            from .server import Server

            wrapped = TransformersModel(
                source,
                task="image-text-to-text",
                processor=processor,
                revision=revision,
                attn_implementation=attn_implementation,
            )
            served = f"rgb_circuit/{name}" if name in SHIPPED else str(name)
            return _checked(name, revision, wrapped, processor, Server.of(wrapped, served, remote))
        try:
            wrapped = TransformersModel(
                source,
                task="image-text-to-text",
                processor=processor,
                revision=revision,
                device_map=device_map,
                dtype=dtype,
                attn_implementation=attn_implementation,
                use_safetensors=True,
                dispatch=True,
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot load the weights of {name!r}; they must be safetensors, for a device and number format that exist here "
                f"(device_map={device_map!r}, dtype={dtype!r}): {first_line(error)}"
            ) from error
    return _checked(name, revision, wrapped, processor)


def wrap(module: LlavaForConditionalGeneration, processor: LlavaProcessor, *, name: str) -> Llava:
    """Like `load`, for a model that is in memory already; ``name`` is what figures call it.

    Raises:
        InputError: a model that is no LLaVA, or one whose internals do not behave as the analyses need.
    """
    _check_type(name, module.config)
    return _checked(name, None, TransformersModel(module, task="image-text-to-text", processor=processor), processor)


def _checked(name, revision, wrapped, processor, server=None):
    config = wrapped._module.config
    if server is None:
        # A server knows a model by what it was asked for, not by the commit that this was then.
        revision = getattr(config, "_commit_hash", None) or revision
    text, vision = config.text_config, config.vision_config
    side = vision.image_size // vision.patch_size
    geometry = dict(
        n_layers=text.num_hidden_layers,
        n_heads=text.num_attention_heads,
        n_kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        d_head=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        grid=(side, side),
        tile_px=vision.patch_size,
    )
    probed = _probe(wrapped, processor, geometry, server)
    _check_probe(name, probed, geometry)
    forms = preferred(processor.tokenizer, *probed["likeliest"])
    form = form_of(processor.tokenizer, prompt(), PALETTE, forms)
    if form is None:
        raise InputError(f"no colour word is in the vocabulary of {name!r}, so it cannot play the game; use another tokenizer")
    return Llava(
        name=name,
        revision=revision,
        nnsight=wrapped,
        processor=processor,
        dtype=getattr(torch, probed["dtype"]),
        answer_form=form,
        words=tuple(colors(processor.tokenizer, PALETTE, form)),
        server=server,
        forms={prompt(): forms},
        **geometry,
    )


@contextmanager
def _folder(name):
    """Where transformers finds the model: a folder, or the hub id itself."""
    if name == "toy":
        yield str(Path(__file__).parent / "models" / "toy")
    elif name == "planted":
        from .models.planted import planted
        from .models.small import save

        with tempfile.TemporaryDirectory() as folder:
            model, processor, _ = planted()
            yield str(save(model, processor, folder))
    else:
        yield str(name)


def _config(name, source, revision):
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read a model at {name!r}: give a shipped model ({', '.join(SHIPPED)}), a folder written by save_pretrained, "
            f"or a hub id that this machine can reach ({first_line(error)})"
        ) from error
    return config


def _processor(name, source, revision):
    try:
        processor = AutoProcessor.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name!r} has no processor ({first_line(error)}); save one beside it with processor.save_pretrained"
        ) from error
    if not isinstance(processor, LlavaProcessor):
        raise InputError(
            f"{name!r} has a {type(processor).__name__}, not a LlavaProcessor; save one beside it with processor.save_pretrained"
        )
    return processor


def _check_type(name, config):
    if config.model_type != "llava":
        raise InputError(
            f"{name!r} is a {config.model_type!r} model, not a LLaVA; give a checkpoint whose model_type is 'llava', "
            "such as llava-hf/llava-1.5-7b-hf"
        )


@torch.no_grad()
def _probe(wrapped, processor, geometry, server):
    """What `_probed` finds on one picture, wherever the model is."""
    rows, _ = geometry["grid"]
    trial = rgb_trial(tile=(rows // 2, rows // 2), grid=rows, tile_px=geometry["tile_px"])
    inputs = inputs_of(processor, [trial.prompt], [trial.images["clean"]])
    heads = geometry["n_heads"], geometry["d_head"]
    if server:
        return server.run(wrapped, _probed, (heads, inputs, VOTERS, None))
    on_device = {key: tensor.to(wrapped.device) for key, tensor in inputs.items()}
    return _probed(wrapped, heads, inputs, VOTERS, wrapped._module(**on_device, logits_to_keep=1).logits[0, -1].float())


def _probed(wrapped, heads, inputs, most, bare):
    """Program: what shows whether heads are slices of ``o_proj``'s input, and a forward can go on from another's cache.

    Args:
        heads: (number of heads, d_head).
        most: how many of the likeliest tokens to tell.
        bare: logits of the forward outside of any trace, (vocabulary,), or None.

    Returns:
        ``likeliest`` tokens at [end] as `answers.preferred` takes them, ``finite``, ``dtype``, ``widths`` of what each ``o_proj`` reads. Then, as fractions
        of the largest logit, how far they move: ``traced`` inside a trace, ``rewritten`` with each z written back, ``zeroed`` with z
        zeroed, ``resumed`` with the last tokens run alone. ``o_proj``: how far ``o_proj`` of z is from what the attention block returns,
        as a fraction of that.
    """
    layers = wrapped.model.language_model.layers
    with wrapped.trace(**inputs, logits_to_keep=1):
        kept, widths, gaps = [], [], []
        for layer in layers:
            z = layer.self_attn.o_proj.input
            kept.append(z.clone())
            widths.append(z.shape[-1])
            returned = layer.self_attn.output[0]
            gaps.append((layer.self_attn.o_proj(z) - returned).abs().max() / returned.abs().max().clamp_min(1e-6))
        kept.save(), widths.save(), gaps.save()
        plain = wrapped.output.logits[0, -1].float().save()
    with wrapped.trace(**inputs, logits_to_keep=1):
        for layer, z in zip(layers, kept):
            layer.self_attn.o_proj.input = z
        rewritten = wrapped.output.logits[0, -1].float().save()
    with wrapped.trace(**inputs, logits_to_keep=1):
        for layer, z in zip(layers, kept):
            layer.self_attn.o_proj.input = torch.zeros_like(z)
        zeroed = wrapped.output.logits[0, -1].float().save()
    largest = plain.abs().max()
    likeliest = plain.softmax(-1).topk(min(most, len(plain)))
    ids = likeliest.indices.tolist()
    resumed = _resumed(wrapped, heads, inputs, ids) if set(widths) == {heads[0] * heads[1]} else 0.0
    return {
        "likeliest": [int(inputs["input_ids"][0, -1]), ids, likeliest.values.tolist()],
        "finite": bool(torch.isfinite(plain).all()),
        "dtype": str(kept[0].dtype).removeprefix("torch."),
        "widths": widths,
        "traced": 0.0 if bare is None else float((plain - bare).abs().max() / largest),
        "rewritten": float((rewritten - plain).abs().max() / largest),
        "zeroed": float((zeroed - plain).abs().max() / largest),
        "resumed": resumed,
        "o_proj": max(float(gap) for gap in gaps),
    }


def _resumed(wrapped, heads, inputs, ids):
    """How far the logits of ``ids`` move, as a fraction of the largest, where the last token, or the last two, run alone with one head
    given its own z."""
    moved = []
    for start in (-1, -2):
        captured = capture(wrapped, heads, inputs, inputs["input_ids"].shape[1] + start, True, False)
        own = {"own": (captured.z, torch.tensor([0]))}
        edits = [[(0, 0, "own", "last")]]
        spots = [{"last": range(captured.start, captured.length)}]
        done = sweep(wrapped, heads, captured, [0], edits, own, spots, torch.tensor([ids]), 1)
        moved += [done["drift"], float(done["effects"].abs().max() / captured.logits.abs().max())]
    return max(moved)


def _check_probe(name, probed, geometry):
    """Refuse a model whose heads are not slices of ``o_proj``'s input, from what `_probed` found."""

    def refuse(reason):
        raise InputError(
            f"{name!r} cannot be analysed: {reason}; use a LLaVA whose language model is a plain Llama-style decoder"
        )

    if not probed["finite"]:
        refuse("its logits are not finite on a plain picture")
    if set(probed["widths"]) != {geometry["n_heads"] * geometry["d_head"]}:
        heads = f"{geometry['n_heads']} heads × {geometry['d_head']}"
        refuse(f"o_proj reads {sorted(set(probed['widths']))} numbers per position, not {heads}")
    if probed["traced"] > 2e-3:
        refuse("its logits inside a trace differ from the bare forward")
    if probed["rewritten"] > 2e-3:
        refuse("writing the heads' own outputs back changes its logits")
    if probed["zeroed"] < 1e-6:
        refuse("zeroing every head leaves its logits unchanged")
    if probed["o_proj"] > 1e-2:
        refuse("o_proj of the heads' outputs is not what its attention block returns")
    if probed["resumed"] > (RESUMED if probed["dtype"] == "float32" else RESUMED_HALF):
        refuse("its logits change where a forward goes on from the keys and values of another")
