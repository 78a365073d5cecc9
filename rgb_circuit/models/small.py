"""The frame shared by the small LLaVAs: an ordinary Hugging Face LLaVA and processor, built from
scratch.

What fills the weights differs: training (`train_toy`, `train_talker`), a design (`planted`), or
chance (`random`).
"""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from ..conversation import prompt
from ..stimuli.tasks.rgb import BACKGROUND_QUESTION, NOTHING_ODD, ODD_QUESTION

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
# The colour words that these models know, in the order of their tokens. The palette has more, for
# other tokenizers.
COLORS = ("red", "green", "blue", "yellow", "cyan", "purple", "orange", "black")


def tokenizer(extra_words: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows the game's two questions, ``COLORS``, and the words of
    further texts."""
    split = pre_tokenizers.Whitespace()
    texts = [prompt(ODD_QUESTION), prompt(BACKGROUND_QUESTION), *COLORS, NOTHING_ODD, *extra_words]
    words = [
        word for text in texts for word, _ in split.pre_tokenize_str(text.replace("<image>", " "))
    ]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys((*SPECIAL, *words)))}
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokens.pre_tokenizer = split
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
        padding_side="left",
    )


def processor(
    grid: int, tile_px: int, vocabulary: PreTrainedTokenizerBase | None = None
) -> LlavaProcessor:
    """A LLaVA processor for ``grid`` × ``grid`` tiles of ``tile_px`` pixels, each one image token.

    Args:
        vocabulary: a tokenizer that has ``<image>``; by default the small one above.
    """
    side = grid * tile_px
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=vocabulary or tokenizer(),
        patch_size=tile_px,
        vision_feature_select_strategy="default",
        # The class token, which "default" drops again.
        num_additional_image_tokens=1,
        image_token="<image>",
    )


def config(
    grid: int, tile_px: int, vocabulary: PreTrainedTokenizerBase, vision: dict, text: dict, **llava
) -> LlavaConfig:
    """A LLaVA configuration; ``vision`` and ``text`` are passed on to CLIPVisionConfig and
    LlamaConfig."""
    return LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=grid * tile_px, patch_size=tile_px, **vision),
        text_config=LlamaConfig(
            vocab_size=len(vocabulary),
            pad_token_id=vocabulary.pad_token_id,
            bos_token_id=vocabulary.bos_token_id,
            eos_token_id=vocabulary.eos_token_id,
            **text,
        ),
        image_token_index=vocabulary.convert_tokens_to_ids("<image>"),
        image_seq_length=grid * grid,
        vision_feature_select_strategy="default",
        **llava,
    )


def save(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: str | Path
) -> Path:
    """Write model (safetensors) and processor into one folder that `rgb_circuit.load` reads."""
    folder = Path(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file in folder.iterdir():
        # safetensors writes files that only their owner can read.
        file.chmod(0o644)
    return folder
