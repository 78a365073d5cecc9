"""A folder laid out like the hub's llava-hf/llava-1.5-7b-hf, a typical published checkpoint."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor

# Prefixes of tensors: today's → those of the published checkpoints.
OLD_PREFIXES = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}


def write_hub_folder(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: str | Path
) -> Path:
    """Write a LLaVA with a CLIP tower in the form of its repository on the hub.

    Half precision, old tensor names in two shards with an index, tables that are computed anew at
    loading, and three files of settings instead of the one that ``save_pretrained`` writes. The
    vocabulary is padded if ``model`` was built so.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.config.to_json_string())
    config.pop("image_token_id", None)
    config.pop("dtype", None)
    config |= {
        "architectures": ["LlavaForConditionalGeneration"],
        "image_token_index": model.config.image_token_id,
        "torch_dtype": "float16",
        "transformers_version": "4.36.0.dev0",
    }
    _write(folder / "config.json", config)
    special = {
        name: config["text_config"][name]
        for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    _write(folder / "generation_config.json", {"_from_model_config": True, **special})

    tensors = {
        old_name(name): weights.half().contiguous() for name, weights in model.state_dict().items()
    }
    patches = model.config.vision_config.image_size // model.config.vision_config.patch_size
    tensors["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(patches**2 + 1)[
        None
    ]
    for layer in range(model.config.text_config.num_hidden_layers):
        tensors[f"language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(
            4
        )
    names, where = sorted(tensors), {}
    for index, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{index:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    size = sum(weights.nbytes for weights in tensors.values())
    _write(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": size}, "weight_map": where},
    )

    processor.tokenizer.save_pretrained(folder)
    change(folder / "tokenizer_config.json", processor_class="LlavaProcessor")
    side = model.config.vision_config.image_size
    reads = processor.image_processor
    _write(
        folder / "preprocessor_config.json",
        {
            "crop_size": {"height": side, "width": side},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": list(reads.image_mean),
            "image_processor_type": "CLIPImageProcessor",
            "image_std": list(reads.image_std),
            "processor_class": "LlavaProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"shortest_edge": side},
        },
    )
    _write(
        folder / "processor_config.json",
        {
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": model.config.vision_config.patch_size,
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": model.config.vision_feature_select_strategy,
        },
    )
    return folder


def old_name(name: str) -> str:
    """The name in the published files of a tensor of today's module."""
    for new, old in OLD_PREFIXES.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    raise ValueError(name)


def change(file: str | Path, **entries) -> None:
    """Set entries of a JSON file; None removes an entry."""
    held = json.loads(Path(file).read_text()) | entries
    _write(Path(file), {name: entry for name, entry in held.items() if entry is not None})


def _write(file, content):
    file.write_text(json.dumps(content, indent=2))
