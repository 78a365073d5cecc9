"""Small random vision-language models of each family: the published checkpoints' structure, nothing
learned.

Each is an ordinary Hugging Face model with its own processor: its family's tokens for a picture,
special tokens, chat template, masks and position ids, and grouped-query attention if the family has
it. As in `rgb_circuit.models.random`, weights are Gaussian with variance 1 / fan-in and
embeddings have unit size, so that every head moves the logits by far more than rounding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from rgb_circuit.models.small import save
from rgb_circuit.processor_parts import processor_class, without_video
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION, NOTHING_ODD, ODD_QUESTION, PALETTE

WIDTH, LAYERS, HEADS, KV_HEADS, D_HEAD = 32, 4, 4, 2, 8

# Without head_dim in a family's text configuration, d_head is width / heads: the same number.
TEXT = dict(
    hidden_size=WIDTH,
    intermediate_size=2 * WIDTH,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    num_key_value_heads=KV_HEADS,
    max_position_embeddings=4096,
)
WIDE_HEADS = TEXT | {"head_dim": D_HEAD}
VISION = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)


@dataclass(frozen=True)
class Family:
    """The facts about a small model that are known before it is built.

    Attributes:
        build: makes (model, not yet randomised, and processor).
        side: of a picture that is shown once and whole, in pixels.
        grid: image tokens per side of one view of it.
        tokens: the number of a picture's ids that are ``image_token_id``.
        views: the number of views of the picture.
        takes: inputs of the forward in addition to ids, attention mask and pixels.
        options: of the processor, so that it shows the picture once and whole.
        needs: an additional package that the processor needs.
        attends: which positions see later ones: ``"none"``, ``"image"`` (image tokens only) or
            ``"all"``.
        any_size: it takes pictures of any size, so ``load`` is called with ``side``.
    """

    build: Callable[[], tuple[nn.Module, hf.ProcessorMixin]]
    side: int
    grid: int
    tokens: int
    views: int = 1
    takes: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)
    needs: str | None = None
    attends: str = "none"
    any_size: bool = False

    @property
    def tiles(self) -> int | None:
        """``tiles`` for ``load`` and ``wrap``, for pictures of ``side``."""
        return self.grid if self.any_size else None


FAMILIES: dict[str, Family] = {}


def family(side: int, grid: int, tokens: int | None = None, **facts):
    """Register a builder in ``FAMILIES`` under its name."""

    def enter(build):
        FAMILIES[build.__name__] = Family(build, side, grid, tokens or grid * grid, **facts)
        return build

    return enter


def built(name: str, seed: int = 0) -> tuple[nn.Module, hf.ProcessorMixin]:
    """A family's small model with random weights, in evaluation mode, and its processor."""
    # `randomised` replaces all weights that initialisation draws.
    model, processor = FAMILIES[name].build()
    return randomised(model, seed), processor


def saved(name: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a family's small model and processor into one folder, as published, with video
    settings."""
    model, processor = built(name, seed)
    folder = save(model, processor, folder)
    add_video_part(processor, folder)
    return folder


def add_video_part(processor: hf.ProcessorMixin, folder: Path):
    """Write a published processor's video settings, for a class that needs torchvision."""
    part = VIDEO_PARTS.get(type(processor).__name__)
    if part:
        file = folder / "processor_config.json"
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"video_processor": part}, indent=2)
        )


VIDEO_PARTS = {
    "Exaone4_5_Processor": {
        "video_processor_type": "Qwen2VLVideoProcessor",
        "patch_size": 4,
        "merge_size": 2,
    },
    "Ernie4_5_VLMoeProcessor": {
        "video_processor_type": "Ernie4_5_VLMoeVideoProcessor",
        "patch_size": 4,
        "merge_size": 2,
    },
    "Glm4vProcessor": {
        "video_processor_type": "Glm4vVideoProcessor",
        "patch_size": 4,
        "merge_size": 2,
    },
    "Glm46VProcessor": {
        "video_processor_type": "Glm46VVideoProcessor",
        "patch_size": 4,
        "merge_size": 2,
    },
    "LlavaNextVideoProcessor": {"video_processor_type": "LlavaNextVideoVideoProcessor"},
    "VideoLlama3Processor": {"video_processor_type": "VideoLlama3VideoProcessor", "patch_size": 4},
    "Qwen2VLProcessor": {
        "video_processor_type": "Qwen2VLVideoProcessor",
        "patch_size": 4,
        "merge_size": 2,
    },
    "Qwen2_5_VLProcessor": {
        "video_processor_type": "Qwen2VLVideoProcessor",
        "patch_size": 4,
        "merge_size": 2,
    },
    "Qwen3VLProcessor": {
        "video_processor_type": "Qwen3VLVideoProcessor",
        "patch_size": 4,
        "merge_size": 2,
    },
    "LlavaOnevisionProcessor": {"video_processor_type": "LlavaOnevisionVideoProcessor"},
    "InternVLProcessor": {"video_processor_type": "InternVLVideoProcessor"},
    "SmolVLMProcessor": {
        "video_processor_type": "SmolVLMVideoProcessor",
        "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 48}},
    },
}


@torch.no_grad()
def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill a model in place: tables and single vectors at unit size, biases at 0.3, matrices at 1 /
    √fan-in.

    Norms and layer scales stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    # Gemma scales its embeddings when it reads them.
    scale = {
        id(each.weight): getattr(each, "embed_scale", 1.0)
        for each in model.modules()
        if isinstance(each, nn.Embedding)
    }
    for name, parameter in model.named_parameters():
        kind = name.rpartition(".")[2]
        drawn = torch.randn(parameter.shape, generator=generator)
        if id(parameter) in scale or kind in LOOSE:
            parameter.copy_(drawn / scale.get(id(parameter), 1.0))
        elif parameter.ndim >= 2:
            # Experts are stacked along the first axis.
            own = parameter[0, 0] if ".experts." in name else parameter[0]
            parameter.copy_(drawn / own.numel() ** 0.5)
        elif kind == "bias" and "norm" not in name:
            parameter.copy_(0.3 * drawn)
    return model.eval()


# Parameters that are vectors of the stream itself, not matrices.
LOOSE = ("class_embedding", "cls_token", "position_embeddings", "image_newline")


def prompt(processor: hf.ProcessorMixin, question: str = ODD_QUESTION) -> str:
    """A question about one picture in the family's own chat template (PaliGemma has none)."""
    if processor.chat_template is None:
        return f"<image>{question}"
    conversation = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    ]
    return processor.apply_chat_template(conversation, add_generation_prompt=True)


def inputs(
    name: str,
    processor: hf.ProcessorMixin,
    pictures: list[Image.Image],
    question: str = ODD_QUESTION,
) -> dict:
    """Inputs of the family's forward, one row per picture, each shown once and whole."""
    text = [prompt(processor, question)] * len(pictures)
    made = processor(
        text=text,
        images=[[picture] for picture in pictures],
        return_tensors="pt",
        **FAMILIES[name].options,
    )
    taken = ("input_ids", "attention_mask", "pixel_values", *FAMILIES[name].takes)
    return {key: made[key] for key in taken}


def tokenizer(
    specials: tuple[str, ...],
    *,
    begin: str | None = "<s>",
    end: str = "</s>",
    writes_begin: bool = True,
    **named: str,
) -> hf.PreTrainedTokenizerFast:
    """A word-level tokenizer for both questions, the palette in both cases and a family's special
    tokens.

    Args:
        specials: tokens that are never split.
        begin: the token that texts begin with; None for a family without one.
        writes_begin: put it in front of every text, even after a template's.
        named: attributes such as ``image_token``, for processors that read them.
    """
    split = pre_tokenizers.Whitespace()
    colors = [
        form(word) for word in (*PALETTE, NOTHING_ODD) for form in (str.lower, str.capitalize)
    ]
    texts = [ODD_QUESTION, BACKGROUND_QUESTION, " ".join(colors), ROLES]
    words = [word for text in texts for word, _ in split.pre_tokenize_str(text)]
    marks = [mark for mark in ("<pad>", begin, end, "<unk>") if mark]
    vocabulary = {
        word: index for index, word in enumerate(dict.fromkeys((*marks, *specials, *words)))
    }
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokens.pre_tokenizer = split
    if begin and writes_begin:
        tokens.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, vocabulary[begin])]
        )
    made = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<pad>",
        bos_token=begin,
        eos_token=end,
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens=named,
    )
    made.add_special_tokens(
        {"additional_special_tokens": list(specials)}, replace_extra_special_tokens=False
    )
    return made


# Words that templates write around a question, and punctuation.
ROLES = (
    "USER ASSISTANT Human user assistant system model User Assistant You are a helpful . : , "
    "? ! # ###"
)


def ids(tokens: hf.PreTrainedTokenizerFast, **settings) -> dict:
    """A text configuration's entries from its tokenizer."""
    return dict(
        vocab_size=len(tokens),
        pad_token_id=tokens.pad_token_id,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        **settings,
    )


def square(side: int) -> dict:
    return {"height": side, "width": side}


def chat(before: str, picture: str, after: str, end: str, start: str = "") -> str:
    """A chat template: ``start``, each message between ``before`` and ``after``, and ``end`` to
    prompt for an answer."""
    return (
        start
        + "{% for message in messages %}"
        + before
        + "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        + picture
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
        + after
        + "{% endfor %}{% if add_generation_prompt %}"
        + end
        + "{% endif %}"
    )


ROLE = "{{ message['role'] }}"
LLAVA_CHAT = chat("USER: ", "<image>\n", " ", "ASSISTANT:")
HUMAN_CHAT = chat("###Human: ", "<image>\n", "", "###Assistant:")
IM = ("<|im_start|>", "<|im_end|>")


def chatml(picture: str) -> str:
    return chat(f"<|im_start|>{ROLE}\n", picture, "<|im_end|>\n", "<|im_start|>assistant\n")


def llava_processor(
    tokens, tower, template, *, strategy="default", extra=1, patch=4
) -> hf.LlavaProcessor:
    return hf.LlavaProcessor(
        image_processor=tower,
        tokenizer=tokens,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=extra,
        chat_template=template,
    )


def clip_pictures(side: int) -> hf.CLIPImageProcessorPil:
    return hf.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=square(side))


def clip_tower(side: int = 24, **settings) -> hf.CLIPVisionConfig:
    return hf.CLIPVisionConfig(image_size=side, patch_size=4, **VISION | settings)


def clip_llava(text: hf.PreTrainedConfig, tokens, template=LLAVA_CHAT, strategy="default"):
    """A LLaVA with a CLIP tower of 6 × 6 patches and a class token."""
    processor = llava_processor(tokens, clip_pictures(24), template, strategy=strategy)
    config = hf.LlavaConfig(
        vision_config=clip_tower(),
        text_config=text,
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        image_seq_length=36,
        vision_feature_select_strategy=strategy,
        vision_feature_layer=-2,
    )
    return hf.LlavaForConditionalGeneration(config), processor


@family(24, 6)
def llava_llama():
    tokens = tokenizer(("<image>",))
    # As in LLaVA-1.5, every head has its own keys and values.
    return clip_llava(
        hf.LlamaConfig(**ids(tokens, **WIDE_HEADS | {"num_key_value_heads": HEADS})), tokens
    )


@family(24, 6)
def llava_llama3():
    marks = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokens = tokenizer(("<image>", *marks), begin="<|begin_of_text|>", end="<|end_of_text|>")
    turn = f"<|start_header_id|>{ROLE}<|end_header_id|>\n\n"
    template = chat(
        turn, "<image>\n", "<|eot_id|>", turn.replace(ROLE, "assistant"), start="{{ bos_token }}"
    )
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    return clip_llava(
        hf.LlamaConfig(**ids(tokens, **WIDE_HEADS, rope_parameters=rope)), tokens, template
    )


@family(26, 6)
def llava_qwen2():
    """With a SigLIP tower, as llava-interleave: 2 px on the right and at the bottom have no token,
    like 6 px of 384."""
    tokens = tokenizer(("<image>", *IM), begin=None, end="<|endoftext|>")
    tower = hf.SiglipImageProcessorPil(size=square(26))
    processor = llava_processor(tokens, tower, chatml("<image>\n"), strategy="full", extra=0)
    config = hf.LlavaConfig(
        vision_config=siglip_tower(26),
        text_config=hf.Qwen2Config(**ids(tokens, **TEXT)),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return hf.LlavaForConditionalGeneration(config), processor


def siglip_tower(side: int, **settings) -> hf.SiglipVisionConfig:
    return hf.SiglipVisionConfig(
        image_size=side, patch_size=4, vision_use_head=False, **VISION | settings
    )


@family(24, 6)
def llava_mistral():
    """With an attention window over the question and half of the picture."""
    tokens = tokenizer(("<image>",))
    return clip_llava(hf.MistralConfig(**ids(tokens, **WIDE_HEADS), sliding_window=32), tokens)


@family(24, 6, tokens=37)
def llava_full():
    """The language model also sees the class token, before the patches."""
    tokens = tokenizer(("<image>",))
    return clip_llava(hf.LlamaConfig(**ids(tokens, **WIDE_HEADS)), tokens, strategy="full")


@family(24, 6, takes=("image_sizes",), any_size=True)
def llava_pixtral():
    tokens = tokenizer(PIXTRAL_MARKS)
    config = hf.LlavaConfig(
        vision_config=pixtral_tower(),
        text_config=hf.MistralConfig(**ids(tokens, **WIDE_HEADS), sliding_window=None),
        image_token_index=tokens.convert_tokens_to_ids("[IMG]"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return hf.LlavaForConditionalGeneration(config), pixtral_processor(tokens)


PIXTRAL_MARKS = ("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
PIXTRAL_CHAT = chat("[INST]", "[IMG]", "[/INST]", "", start="{{ bos_token }}")


def pixtral_tower() -> hf.PixtralVisionConfig:
    """A tower for pictures of any size up to 48 px."""
    return hf.PixtralVisionConfig(image_size=48, patch_size=4, head_dim=8, **VISION)


def pixtral_processor(tokens, merge: int = 1):
    pictures = hf.PixtralImageProcessorPil(size={"longest_edge": 48}, patch_size=square(4 * merge))
    return processor_class("PixtralProcessor")(
        pictures, tokens, patch_size=4, spatial_merge_size=merge, chat_template=PIXTRAL_CHAT
    )


@family(24, 6)
def vipllava():
    """Features are concatenated from five layers of the tower, without the class token."""
    tokens = tokenizer(("<image>",))
    config = hf.VipLlavaConfig(
        vision_config=clip_tower(num_hidden_layers=4),
        text_config=hf.LlamaConfig(**ids(tokens, **WIDE_HEADS | {"num_key_value_heads": HEADS})),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        vision_feature_layer=(-2, -3, -4, -5, 2),
        image_seq_length=36,
    )
    return hf.VipLlavaForConditionalGeneration(config), llava_processor(
        tokens, clip_pictures(24), HUMAN_CHAT
    )


def anyres(side: int) -> list[list[int]]:
    """The sizes in which LLaVA-NeXT may tile a picture."""
    return [
        [side, 2 * side],
        [2 * side, side],
        [2 * side, 2 * side],
        [3 * side, side],
        [side, 3 * side],
    ]


@family(24, 6, tokens=36 + 6 * 7, views=2, takes=("image_sizes",))
def llava_next():
    """The whole picture, and again in tiles with a newline token after every row."""
    tokens = tokenizer(("<image>", "[INST]", "[/INST]"))
    pictures = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 24}, crop_size=square(24), image_grid_pinpoints=anyres(24)
    )
    processor = hf.LlavaNextProcessor(
        pictures,
        tokens,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat("[INST] ", "<image>\n", " [/INST]", ""),
    )
    config = hf.LlavaNextConfig(
        vision_config=clip_tower(),
        text_config=hf.MistralConfig(**ids(tokens, **WIDE_HEADS), sliding_window=None),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=anyres(24),
        image_seq_length=36,
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


@family(24, 6, tokens=36 + 6 * 7, views=2, takes=("image_sizes",))
def llava_next_video():
    tokens = tokenizer(("<image>", "<video>"))
    pictures = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 24}, crop_size=square(24), image_grid_pinpoints=anyres(24)
    )
    processor = without_video(hf.LlavaNextVideoProcessor)(
        video_processor=None,
        image_processor=pictures,
        tokenizer=tokens,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_CHAT,
    )
    config = hf.LlavaNextVideoConfig(
        vision_config=clip_tower(),
        text_config=hf.LlamaConfig(**ids(tokens, **WIDE_HEADS)),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=anyres(24),
        image_seq_length=36,
    )
    return hf.LlavaNextVideoForConditionalGeneration(config), processor


@family(26, 6, tokens=36 + 6 * 7, views=2, takes=("image_sizes", "batch_num_images"))
def llava_onevision():
    tokens = tokenizer(("<image>", "<video>", *IM), begin=None, end="<|endoftext|>")
    sizes = [[26 * rows, 26 * columns] for rows in range(1, 4) for columns in range(1, 4)]
    processor = without_video(hf.LlavaOnevisionProcessor)(
        hf.LlavaOnevisionImageProcessorPil(size=square(26), image_grid_pinpoints=sizes),
        tokens,
        video_processor=None,
        num_image_tokens=36,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>\n"),
    )
    config = hf.LlavaOnevisionConfig(
        vision_config=siglip_tower(26),
        text_config=hf.Qwen2Config(**ids(tokens, **TEXT)),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=sizes,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


QWEN_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", *IM)
QWEN_TAKES = ("image_grid_thw", "mm_token_type_ids")
# A head's four rotary pairs are split between the angles of time, row and column.
MROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
QWEN_VISION = dict(patch_size=4, spatial_merge_size=2, temporal_patch_size=2, num_heads=2)


def qwen_pictures(kind=hf.Qwen2VLImageProcessorPil, merge: int = 2, frames: int = 2):
    """Flat patches of pictures at their own size: 2 × 2 to 12 × 12 tokens of 8 px."""
    size = {"shortest_edge": 16 * 16, "longest_edge": 96 * 96 * frames}
    return kind(patch_size=4, merge_size=merge, temporal_patch_size=frames, size=size)


def qwen(processor_kind, config_kind, model_kind, vision, text, **parts):
    tokens = tokenizer(QWEN_MARKS, begin=None, end="<|endoftext|>")
    processor = without_video(processor_kind)(
        qwen_pictures(),
        tokens,
        video_processor=None,
        chat_template=chatml("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    named = ("vision_start", "vision_end", "image_pad", "video_pad")
    start, end, image, video = tokens.convert_tokens_to_ids([f"<|{mark}|>" for mark in named])
    config = config_kind(
        text_config=ids(tokens, **{"rope_parameters": MROPE} | text),
        vision_config=QWEN_VISION | vision,
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    return model_kind(config), processor


@family(48, 6, takes=QWEN_TAKES, any_size=True)
def qwen2_vl():
    vision = dict(depth=2, embed_dim=16, hidden_size=WIDTH, mlp_ratio=2)
    return qwen(
        hf.Qwen2VLProcessor, hf.Qwen2VLConfig, hf.Qwen2VLForConditionalGeneration, vision, TEXT
    )


@family(48, 6, takes=QWEN_TAKES, any_size=True)
def qwen2_5_vl():
    """Its tower attends within windows of 2 × 2 tokens in all layers but the last."""
    vision = dict(
        depth=2,
        hidden_size=16,
        intermediate_size=32,
        out_hidden_size=WIDTH,
        window_size=16,
        fullatt_block_indexes=[1],
    )
    return qwen(
        hf.Qwen2_5_VLProcessor,
        hf.Qwen2_5_VLConfig,
        hf.Qwen2_5_VLForConditionalGeneration,
        vision,
        TEXT,
    )


@family(48, 6, takes=QWEN_TAKES, any_size=True)
def qwen3_vl():
    """DeepStack: features from two layers of the tower are added after the first two language
    layers."""
    vision = dict(
        depth=3,
        hidden_size=16,
        intermediate_size=32,
        out_hidden_size=WIDTH,
        num_position_embeddings=144,
        deepstack_visual_indexes=[0, 1],
    )
    return qwen(
        hf.Qwen3VLProcessor,
        hf.Qwen3VLConfig,
        hf.Qwen3VLForConditionalGeneration,
        vision,
        WIDE_HEADS,
    )


@family(48, 6, takes=QWEN_TAKES, any_size=True)
def qwen3_vl_moe():
    """As Qwen3-VL, with four experts, two per token."""
    vision = dict(
        depth=3,
        hidden_size=16,
        intermediate_size=32,
        out_hidden_size=WIDTH,
        num_position_embeddings=144,
        deepstack_visual_indexes=[0, 1],
    )
    experts = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=WIDTH)
    return qwen(
        hf.Qwen3VLProcessor,
        hf.Qwen3VLMoeConfig,
        hf.Qwen3VLMoeForConditionalGeneration,
        vision,
        WIDE_HEADS | experts,
    )


@family(48, 6, takes=("image_grid_thw",), any_size=True)
def exaone4_5():
    """Norms after the blocks and none before; a window in three layers, no rotary angles in the
    fourth."""
    vision = dict(
        depth=2,
        hidden_size=16,
        intermediate_size=32,
        out_hidden_size=WIDTH,
        window_size=16,
        fullatt_block_indexes=[1],
        num_key_value_heads=1,
    )
    layers = dict(sliding_window=24, layer_types=["sliding_attention"] * 3 + ["full_attention"])
    rope = {"rope_type": "default", "rope_theta": 1e6}
    return qwen(
        hf.Exaone4_5_Processor,
        hf.Exaone4_5_Config,
        hf.Exaone4_5_ForConditionalGeneration,
        vision,
        WIDE_HEADS | layers | {"model_type": "exaone4", "rope_parameters": rope},
    )


def glm(processor_kind, pictures_kind, config_kind, model_kind):
    marks = ("image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video")
    roles = ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>")
    tokens = tokenizer(
        (*(f"<|{mark}|>" for mark in marks), *roles), begin=None, end="<|endoftext|>"
    )
    template = chat(
        f"<|{ROLE}|>\n",
        "<|begin_of_image|><|image|><|end_of_image|>",
        "",
        "<|assistant|>\n",
        "[gMASK]<sop>",
    )
    processor = without_video(processor_kind)(
        qwen_pictures(pictures_kind), tokens, video_processor=None, chat_template=template
    )
    found = tokens.convert_tokens_to_ids([f"<|{mark}|>" for mark in marks])
    image, video, image_start, image_end, video_start, video_end = found
    vision = dict(
        model_type="glm4v_vision",
        depth=2,
        num_heads=2,
        hidden_size=16,
        intermediate_size=32,
        out_hidden_size=WIDTH,
        image_size=24,
        patch_size=4,
    )
    config = config_kind(
        text_config=ids(tokens, **TEXT, model_type="glm4v_text", rope_parameters=MROPE),
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        image_start_token_id=image_start,
        image_end_token_id=image_end,
        video_start_token_id=video_start,
        video_end_token_id=video_end,
    )
    return model_kind(config), processor


@family(48, 6, takes=QWEN_TAKES, any_size=True)
def glm4v():
    """GLM-4.1V: norms before and after the blocks."""
    return glm(
        hf.Glm4vProcessor,
        hf.Glm4vImageProcessorPil,
        hf.Glm4vConfig,
        hf.Glm4vForConditionalGeneration,
    )


@family(48, 6, takes=QWEN_TAKES, any_size=True)
def glm46v():
    """GLM-4.6V."""
    return glm(
        hf.Glm46VProcessor,
        hf.Glm46VImageProcessorPil,
        hf.Glm46VConfig,
        hf.Glm46VForConditionalGeneration,
    )


@family(24, 6, takes=("image_grid_thw", "image_merge_sizes"), any_size=True)
def video_llama_3():
    """Every patch is a token; the forward computes logits at all positions."""
    tokens = tokenizer(("<|image_pad|>", "<|video_pad|>", *IM), begin=None, end="<|endoftext|>")
    processor = without_video(hf.VideoLlama3Processor)(
        qwen_pictures(hf.VideoLlama3ImageProcessorPil, merge=1, frames=1),
        tokens,
        video_processor=None,
        chat_template=chatml("<|image_pad|>\n"),
    )
    config = hf.VideoLlama3Config(
        text_config=hf.Qwen2Config(**ids(tokens, **TEXT)),
        vision_config=hf.VideoLlama3VisionConfig(patch_size=4, **VISION),
        image_token_id=tokens.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
    )
    return hf.VideoLlama3ForConditionalGeneration(config), processor


GEMMA_TURN = chat(
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n",
    "<start_of_image>",
    "<end_of_turn>\n",
    "<start_of_turn>model\n",
    start="{{ bos_token }}",
)


@family(32, 4, takes=("token_type_ids",), attends="image")
def gemma3():
    """64 patches are pooled into 16 tokens; layers alternate between a window and all positions."""
    named = dict(
        boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    tokens = tokenizer(("<start_of_turn>", "<end_of_turn>"), begin="<bos>", end="<eos>", **named)
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessorPil(size=square(32)),
        tokens,
        chat_template=GEMMA_TURN,
        image_seq_length=16,
    )
    text = hf.Gemma3TextConfig(
        **ids(tokens, **WIDE_HEADS),
        sliding_window=24,
        layer_types=["sliding_attention", "full_attention"] * 2,
        query_pre_attn_scalar=D_HEAD,
    )
    config = hf.Gemma3Config(
        text_config=text,
        vision_config=siglip_tower(32),
        mm_tokens_per_image=16,
        boi_token_index=tokens.boi_token_id,
        eoi_token_index=tokens.eoi_token_id,
        image_token_index=tokens.image_token_id,
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


def gemma_sees(text_kind, **settings):
    tokens = tokenizer((), begin="<bos>", end="<eos>", image_token="<image>")
    pictures = hf.SiglipImageProcessorPil(size=square(24))
    pictures.image_seq_length = 36
    # This processor adds its own tokens to the tokenizer.
    processor = hf.PaliGemmaProcessor(pictures, tokens)
    config = hf.PaliGemmaConfig(
        vision_config=siglip_tower(24, projection_dim=WIDTH),
        text_config=text_kind(**ids(tokens, **WIDE_HEADS | settings)),
        image_token_index=tokens.image_token_id,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor


@family(24, 6, takes=("token_type_ids",), attends="all")
def paligemma():
    return gemma_sees(hf.GemmaConfig, num_key_value_heads=1)


@family(24, 6, takes=("token_type_ids",), attends="all")
def paligemma2():
    """On Gemma 2: softcapped scores and logits, norms after the blocks."""
    return gemma_sees(hf.Gemma2Config, query_pre_attn_scalar=D_HEAD, sliding_window=4096)


IDEFICS_MARKS = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
IDEFICS_CHAT = chat(
    "{{ message['role'] | capitalize }}:",
    "<image>",
    "<end_of_utterance>\n",
    "Assistant:",
    start="{{ bos_token }}",
)


def whole(side: int) -> dict:
    """Options against splitting, and against the enlargement before it."""
    return {"do_image_splitting": False, "size": {"longest_edge": side}}


def idefics(
    side, config_kind, vision_kind, model_kind, processor_kind, pictures_kind, tokens, **parts
):
    """Pixel shuffle makes 36 tokens of 144 patches; larger pictures would be split."""
    processor = without_video(processor_kind)(
        pictures_kind(size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side}),
        tokens,
        image_seq_len=36,
        chat_template=IDEFICS_CHAT,
        **parts,
    )
    config = config_kind(
        text_config=hf.LlamaConfig(**ids(tokens, **WIDE_HEADS)),
        vision_config=vision_kind(image_size=side, patch_size=4, **VISION),
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        pad_token_id=tokens.pad_token_id,
        scale_factor=2,
    )
    return model_kind(config), processor


@family(48, 6, takes=("pixel_attention_mask",), options=whole(48))
def idefics3():
    return idefics(
        48,
        hf.Idefics3Config,
        hf.Idefics3VisionConfig,
        hf.Idefics3ForConditionalGeneration,
        hf.Idefics3Processor,
        hf.Idefics3ImageProcessorPil,
        tokenizer(IDEFICS_MARKS, begin="<|begin_of_text|>", end="<|end_of_text|>"),
    )


@family(50, 6, takes=("pixel_attention_mask",), options=whole(50), needs="num2words")
def smolvlm():
    """2 px on the right and at the bottom have no token, like 6 px of 384."""
    return idefics(
        50,
        hf.SmolVLMConfig,
        hf.SmolVLMVisionConfig,
        hf.SmolVLMForConditionalGeneration,
        hf.SmolVLMProcessor,
        hf.SmolVLMImageProcessorPil,
        # Its template writes the first token, its tokenizer does not.
        tokenizer(IDEFICS_MARKS, begin="<|im_start|>", end="<|endoftext|>", writes_begin=False),
        video_processor=None,
    )


@family(48, 6, options={"crop_to_patches": False})
def internvl():
    """144 patches are shuffled into 36 tokens; larger pictures would be cut into tiles."""
    named = dict(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    tokens = tokenizer(IM, begin=None, end="<|endoftext|>", **named)
    processor = without_video(hf.InternVLProcessor)(
        hf.GotOcr2ImageProcessorPil(size=square(48), crop_to_patches=True),
        tokens,
        video_processor=None,
        image_seq_length=36,
        chat_template=chatml("<IMG_CONTEXT>\n"),
    )
    config = hf.InternVLConfig(
        vision_config=hf.InternVLVisionConfig(image_size=[48, 48], patch_size=[4, 4], **VISION),
        text_config=hf.Qwen2Config(**ids(tokens, **TEXT)),
        image_token_id=tokens.context_image_token_id,
        image_seq_length=36,
        downsample_ratio=0.5,
    )
    return hf.InternVLForConditionalGeneration(config), processor


@family(48, 6, takes=("image_sizes",), any_size=True)
def mistral3():
    """A Pixtral tower whose patches are merged two by two; every row ends in a token of its own."""
    tokens = tokenizer(PIXTRAL_MARKS)
    config = hf.Mistral3Config(
        vision_config=pixtral_tower(),
        text_config=hf.MistralConfig(**ids(tokens, **WIDE_HEADS), sliding_window=None),
        image_token_index=tokens.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    return hf.Mistral3ForConditionalGeneration(config), pixtral_processor(tokens, merge=2)


COHERE_TURN = (
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
)


def cohere_chat(picture: str) -> str:
    return chat(
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
        picture,
        "<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        start="{{ bos_token }}",
    )


def cohere_text(tokens) -> hf.Cohere2Config:
    """Attention beside MLP, three layers with a window to one without rotary angles."""
    return hf.Cohere2Config(
        **ids(tokens, **TEXT),
        head_dim=D_HEAD,
        sliding_window=24,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        logit_scale=1.0,
    )


@family(48, 6, options={"crop_to_patches": False})
def aya_vision():
    """On Cohere 2."""
    pictured = (
        "<image>",
        "<|START_OF_IMG|>",
        "<|END_OF_IMG|>",
        "<|IMG_PATCH|>",
        "<|IMG_LINE_BREAK|>",
        "TILE",
        "TILE_GLOBAL",
    )
    tokens = tokenizer((*pictured, *COHERE_TURN), begin="<BOS_TOKEN>", end="<EOS_TOKEN>")
    processor = hf.AyaVisionProcessor(
        hf.GotOcr2ImageProcessorPil(size=square(48), crop_to_patches=True),
        tokens,
        patch_size=4,
        downsample_factor=2,
        img_size=48,
        chat_template=cohere_chat("<image>"),
    )
    config = hf.AyaVisionConfig(
        vision_config=siglip_tower(48),
        text_config=cohere_text(tokens),
        downsample_factor=2,
        alignment_intermediate_size=2 * WIDTH,
        image_token_index=tokens.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return hf.AyaVisionForConditionalGeneration(config), processor


@family(48, 6, options={"crop_to_patches": False})
def cohere2_vision():
    """As Aya Vision. Its own image processor wants torchvision; this one cuts pictures in the same
    way."""
    named = dict(
        boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>",
        image_token="<|IMG_PATCH|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )
    tokens = tokenizer(COHERE_TURN, begin="<BOS_TOKEN>", end="<EOS_TOKEN>", **named)
    pictures = hf.GotOcr2ImageProcessorPil(size=square(48), crop_to_patches=True)
    # What it calls so are tokens per side.
    pictures.patch_size = 6
    processor = hf.Cohere2VisionProcessor(
        pictures, tokens, chat_template=cohere_chat("<|IMG_PATCH|>")
    )
    config = hf.Cohere2VisionConfig(
        vision_config=siglip_tower(48),
        text_config=cohere_text(tokens),
        downsample_factor=2,
        alignment_intermediate_size=2 * WIDTH,
        image_token_id=tokens.image_token_id,
    )
    return hf.Cohere2VisionForConditionalGeneration(config), processor


@family(24, 6)
def deepseek_vl():
    tokens = tokenizer((), image_token="<image_placeholder>")
    processor = hf.DeepseekVLProcessor(
        hf.DeepseekVLImageProcessorPil(size=square(24)),
        tokens,
        chat_template=chat("User: ", "<image_placeholder>", "\n\n", "Assistant:"),
        num_image_tokens=36,
    )
    config = hf.DeepseekVLConfig(
        vision_config=siglip_tower(24),
        text_config=hf.LlamaConfig(**ids(tokens, **WIDE_HEADS)),
        image_token_id=tokens.image_token_id,
    )
    return hf.DeepseekVLForConditionalGeneration(config), processor


@family(48, 6, takes=("image_sizes",), any_size=True)
def lighton_ocr():
    """A Pixtral tower with Qwen 3; patches are merged two by two, without row-end tokens."""
    named = dict(
        image_token="<|image_pad|>",
        image_break_token="<|vision_pad|>",
        image_end_token="<|vision_end|>",
    )
    tokens = tokenizer(IM, begin=None, end="<|endoftext|>", **named)
    processor = hf.LightOnOcrProcessor(
        hf.PixtralImageProcessorPil(size={"longest_edge": 48}, patch_size=square(8)),
        tokens,
        patch_size=4,
        spatial_merge_size=2,
        chat_template=chatml("<|image_pad|>"),
    )
    config = hf.LightOnOcrConfig(
        vision_config=pixtral_tower(),
        text_config=hf.Qwen3Config(**ids(tokens, **WIDE_HEADS)),
        spatial_merge_size=2,
        image_token_id=tokens.image_token_id,
    )
    return hf.LightOnOcrForConditionalGeneration(config), processor


@family(48, 6, takes=QWEN_TAKES, any_size=True)
def paddleocr_vl():
    tokens = tokenizer(("<|IMAGE_START|>", "<|IMAGE_END|>"), image_token="<|IMAGE_PLACEHOLDER|>")
    processor = hf.PaddleOCRVLProcessor(
        qwen_pictures(hf.PaddleOCRVLImageProcessorPil, frames=1),
        tokens,
        chat_template=chat(
            "User: ",
            "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
            " ",
            "Assistant:",
        ),
    )
    start, end = tokens.convert_tokens_to_ids(["<|IMAGE_START|>", "<|IMAGE_END|>"])
    config = hf.PaddleOCRVLConfig(
        text_config=ids(tokens, **WIDE_HEADS, rope_parameters=MROPE),
        vision_config=dict(image_size=48, patch_size=4, **VISION),
        image_token_id=tokens.image_token_id,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    return hf.PaddleOCRVLForConditionalGeneration(config), processor


@family(48, 6, takes=(*QWEN_TAKES, "moe_mm_token_type_ids"), any_size=True)
def ernie4_5_vl_moe():
    """Image tokens and words use different experts; layers get the type of every position."""
    marks = ("image", "image_start", "image_end", "video", "video_start", "video_end")
    tokens = tokenizer((), **{f"{mark}_token": f"<|{mark}|>" for mark in marks})
    processor = without_video(hf.Ernie4_5_VLMoeProcessor)(
        qwen_pictures(hf.Ernie4_5_VLMoeImageProcessorPil, frames=1),
        tokens,
        video_processor=None,
        chat_template=chat(
            "User: ",
            "<|image_start|><|image|><|image_end|>",
            " ",
            "Assistant:",
            start="{{ bos_token }}",
        ),
    )
    experts = dict(
        moe_intermediate_size=[16, 8],
        moe_k=2,
        moe_num_experts=4,
        moe_num_shared_experts=1,
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
    )
    vision = dict(depth=2, hidden_size=16, intermediate_size=32, num_heads=2, patch_size=4)
    config = hf.Ernie4_5_VLMoeConfig(
        text_config=ids(tokens, **WIDE_HEADS, **experts, rope_parameters=MROPE),
        vision_config=vision,
        **{f"{mark}_token_id": getattr(tokens, f"{mark}_token_id") for mark in marks},
    )
    return hf.Ernie4_5_VLMoeForConditionalGeneration(config), processor


@family(24, 6)
def janus():
    """Only its tower reads pictures; its image generator takes no part in an answer."""
    named = dict(
        image_token="<image_placeholder>",
        boi_token="<begin_of_image>",
        eoi_token="<end_of_image>",
    )
    tokens = tokenizer((), **named)
    processor = hf.JanusProcessor(
        hf.JanusImageProcessorPil(size=square(24)),
        tokens,
        chat_template=chat("User: ", "<image_placeholder>\n", " ", "Assistant:"),
        num_image_tokens=36,
    )
    drawing = dict(
        base_channels=32,
        channel_multiplier=[1],
        num_res_blocks=1,
        latent_channels=32,
        num_embeddings=16,
        projection_dim=WIDTH,
        image_token_embed_dim=WIDTH,
    )
    config = hf.JanusConfig(
        text_config=hf.LlamaConfig(**ids(tokens, **WIDE_HEADS)).to_dict(),
        vision_config=dict(image_size=24, patch_size=4, projection_dim=WIDTH, **VISION),
        vq_config=drawing,
        image_token_id=tokens.image_token_id,
    )
    return hf.JanusForConditionalGeneration(config), processor


@family(24, 6)
def ovis2():
    """A picture's tokens are mixtures of the rows of a visual vocabulary."""
    indicators = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
    tokens = tokenizer(("<image>", "<IMG_ATOM>", *indicators, *IM), begin=None, end="<|endoftext|>")
    processor = hf.Ovis2Processor(
        hf.Ovis2ImageProcessorPil(size=square(24)),
        tokens,
        chat_template=chatml("<image>\n"),
        image_seq_length=36,
    )
    words = dict(hidden_stride=1, vocab_size=32, num_visual_indicator_tokens=len(indicators))
    config = hf.Ovis2Config(
        vision_config=dict(image_size=24, patch_size=4, **VISION | words),
        text_config=hf.Qwen2Config(**ids(tokens, **TEXT)).to_dict(),
        image_token_id=tokens.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokens.convert_tokens_to_ids(list(indicators)),
        hidden_size=WIDTH,
    )
    return hf.Ovis2ForConditionalGeneration(config), processor


@family(48, 6, options={"crop_to_patches": False})
def qianfan_ocr():
    """Its prompts have a word of their own for a picture, which its processor replaces."""
    named = dict(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>"
    )
    tokens = tokenizer(("<image>", *IM), begin=None, end="<|endoftext|>", **named)
    processor = hf.QianfanOCRProcessor(
        hf.GotOcr2ImageProcessorPil(size=square(48), crop_to_patches=True),
        tokens,
        image_seq_length=36,
        chat_template=chatml("<image>\n"),
    )
    config = hf.QianfanOCRConfig(
        vision_config=dict(image_size=[48, 48], patch_size=[4, 4], **VISION),
        text_config=hf.Qwen3Config(**ids(tokens, **WIDE_HEADS)),
        image_token_id=tokens.context_image_token_id,
        image_seq_length=36,
    )
    return hf.QianfanOCRForConditionalGeneration(config), processor


@family(32, 4, tokens=16 + 4 * 5, views=2, takes=("image_sizes",))
def granite4_vision():
    """Features of the tower are added before every layer, to both views; what layers give is
    scaled."""
    tokens = tokenizer(("<image>",))
    pictures = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 32}, crop_size=square(32), image_grid_pinpoints=anyres(32)
    )
    processor = hf.Granite4VisionProcessor(
        pictures,
        tokens,
        patch_size=4,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=LLAVA_CHAT,
    )
    scales = dict(
        attention_multiplier=D_HEAD**-0.5, residual_multiplier=0.7, embedding_multiplier=2.0
    )
    # The projector's heads are 64 wide.
    tower = siglip_tower(32, hidden_size=64)
    config = hf.Granite4VisionConfig(
        vision_config=tower,
        text_config=ids(tokens, **TEXT, **scales, model_type="granite4_vision_text"),
        qformer_config=dict(
            model_type="blip_2_qformer",
            num_hidden_layers=1,
            intermediate_size=32,
            cross_attention_frequency=1,
            use_qformer_text_input=False,
        ),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=anyres(32),
        image_seq_length=16,
        downsample_rate="1/2",
        deepstack_layer_map=[[-1, 0], [-2, 2]],
        spatial_target_layers=[0, 1, 2, 3],
    )
    return hf.Granite4VisionForConditionalGeneration(config), processor


# The families that can be built with the installed packages.
NAMES = [
    name for name, family in FAMILIES.items() if family.needs is None or find_spec(family.needs)
]


def at_hand(*names: str) -> list[str]:
    return [name for name in names if name in NAMES]


# One family for each way in which the engine is used.
KINDS = at_hand(
    "llava_llama",  # keys and values for every head
    "llava_mistral",  # heads that share keys and values; a window in all layers
    "llava_next",  # a picture shown twice
    "qwen2_5_vl",  # angles of time, row and column; pictures of any size
    "qwen3_vl",  # features added between layers
    "qwen3_vl_moe",  # experts
    "ernie4_5_vl_moe",  # experts for image tokens and others for words
    "glm4v",  # norms before and behind the blocks
    # Norms only after the blocks; a window in three layers, no rotary angles in the fourth.
    "exaone4_5",
    "video_llama_3",  # logits of all positions
    "gemma3",  # image tokens that see each other; a window in every other layer
    "paligemma",  # all tokens of the prompt see each other
    "paligemma2",  # these with soft caps
    "smolvlm",  # layers that stand elsewhere in the model
    "aya_vision",  # attention beside the MLP; windows, and layers without angles
)
# The subset for tests crossed with kernels or positions: these depend only on masks, rotary angles
# and places of tokens, which each of these families makes differently.
FEW = at_hand(
    "llava_llama",  # a causal mask alone
    "llava_mistral",  # a window that cuts the picture
    "llava_next",  # two places of a tile
    "qwen3_vl",  # angles of three kinds; what is added between layers
    "gemma3",  # masks of two kinds; image tokens that see later ones
    "paligemma2",  # a prompt whose end is seen by what stands before it
)
