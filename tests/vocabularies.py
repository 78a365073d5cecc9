"""Small tokenizers of the kinds in real checkpoints, which differ in how they split words."""

from itertools import pairwise

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION, ODD_QUESTION

# As in the vocabulary of Llama 2 and LLaVA-1.5: capitalised colours after a space are one token or
# two.
LLAMA_WHOLE = (
    "Red Green Blue Orange Black White Brown Gray Yes No "
    "red green blue yellow orange black white brown gray yes no"
).split()
LLAMA_SPLIT = {
    "Yellow": "Y ellow",
    "Purple": "Pur ple",
    "Cyan": "Cy an",
    "purple": "pur ple",
    "cyan": "cy an",
}
# Byte-level vocabularies have most words twice, with and without a space in front.
BYTE_WHOLE = [*LLAMA_WHOLE, "Yellow", "Purple", "Cyan", "purple", "cyan"]

QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor "
    "%}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3_TEMPLATE = "{{ bos_token }}" + QWEN_TEMPLATE


def llama_like() -> PreTrainedTokenizerFast:
    """Sentencepiece-style BPE: "▁" for a space, single digits, line breaks as bytes, a beginning
    token in front."""
    # Split words come first: earlier merges take precedence over those that would join the words.
    wanted = (
        [f"▁{split}" for split in LLAMA_SPLIT.values()]
        + [f"▁{word}" for word in LLAMA_WHOLE]
        + LLAMA_WHOLE
    )
    wanted += [f"▁{word}" for word in f"{ODD_QUESTION} {BACKGROUND_QUESTION}".split()] + [
        "ASS IST ANT"
    ]
    # Bytes for characters without a piece, such as the line break; the last piece is a single "▁".
    letters = [*(f"<0x{byte:02X}>" for byte in range(256)), *map(chr, range(33, 127)), "▁"]
    tokenizer = Tokenizer(
        _bpe(
            ["<unk>", "<s>", "</s>"],
            letters,
            wanted,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
    )


def byte_level(*, begin: bool = False, end: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a chat template, as Qwen's (``begin=False``) or Llama 3's
    (``begin=True``), which begins with its own token.

    Args:
        end: put an end token after every text.
    """
    wanted = [mark + word for word in BYTE_WHOLE for mark in ("", "Ġ")]
    wanted += [f"Ġ{word}" for word in f"{ODD_QUESTION} {BACKGROUND_QUESTION}".split()]
    specials = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(_bpe(specials, sorted(pre_tokenizers.ByteLevel.alphabet()), wanted))
    # Digits are single, and a word includes the space before it.
    words = Regex(r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if begin or end:
        single = "<|begin|> " * begin + "$A" + " <|end|>" * end
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("<|begin|>", 0), ("<|end|>", 1)]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>" if begin else None,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
    )
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = LLAMA3_TEMPLATE if begin else QWEN_TEMPLATE
    return made


def chat(question: str, begin: str = "") -> str:
    """The prompt that the chat templates above make from a picture and a question."""
    return f"{begin}<|im_start|>user\n<image>\n{question}<|im_end|>\n<|im_start|>assistant\n"


def _bpe(specials, letters, wanted, **options):
    """A BPE that makes each of ``wanted`` one token, or the pieces between its spaces."""
    merges = []
    for spelled in wanted:
        for piece in spelled.split():
            parts = _merged(list(piece), merges)
            while len(parts) > 1:
                merges.append((parts[0], parts[1]))
                parts = _merged(parts, merges)
    pieces = [*specials, *letters, *dict.fromkeys(one + other for one, other in merges)]
    return models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges, **options
    )


def _merged(parts, merges):
    """Pieces after BPE: apply the earliest possible merge again and again."""
    rank = {pair: index for index, pair in reversed(list(enumerate(merges)))}
    while pairs := [pair for pair in pairwise(parts) if pair in rank]:
        best = min(pairs, key=rank.__getitem__)
        at = next(index for index, pair in enumerate(pairwise(parts)) if pair == best)
        parts = [*parts[:at], "".join(best), *parts[at + 2 :]]
    return parts
