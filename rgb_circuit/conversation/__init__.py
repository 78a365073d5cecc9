"""The conversation that a model was made for: the text around a picture and a question about it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import InputError, first_line
from ..files.table_text import shortened
from ..warning import warn
from .answers import once_begun, picture_mark

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, ProcessorMixin

# LLaVA-1.5's conversation, as the published experiment wrote it.
TEMPLATE = "USER: <image>\n{question}\nASSISTANT:"

# A typical question, with a one-word answer; each model is tried with it when it is loaded.
EXAMPLE_QUESTION = "Which color is the odd color out? Respond in one word"

# PaliGemma has no template; its model card writes questions like this.
PALIGEMMA = "<image>answer en {question}\n"


def prompt(question: str, template: str = TEMPLATE) -> str:
    """The prompt for a question about one picture, in a conversation.

    Raises:
        InputError: a question that is not text.

    Examples:
        >>> prompt("What is this?")
        'USER: <image>\\nWhat is this?\\nASSISTANT:'
    """
    if not isinstance(question, str):
        raise InputError(
            f"the question is {shortened(question)} ({type(question).__name__}); give it as text"
        )
    return template.replace("{question}", question)


def question_of(text: str, template: str = TEMPLATE) -> str | None:
    """The question in a prompt of a conversation; None if the prompt is not from that conversation.

    Examples:
        >>> question_of("USER: <image>\\nWhat is this?\\nASSISTANT:")
        'What is this?'
    """
    before, _, after = template.partition("{question}")
    inside = (
        text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)
    )
    return text[len(before) : len(text) - len(after)] if inside else None


def template_of(name: str, config: PreTrainedConfig, processor: ProcessorMixin) -> str:
    """The model's own conversation, with ``<image>`` in place of the picture and ``{question}`` in
    place of the question.

    It is the processor's chat template or, if there is none, the tokenizer's, where older
    repositories keep it. Without either, or if it equals LLaVA-1.5's except for line breaks, it is
    the literal prompt of the seed note, so that the published experiment is asked as published. A
    tokenizer's template may be that of the language model alone, which knows no pictures. Then it
    counts as missing, and a warning says so.

    Raises:
        InputError: a chat template of the processor that fails, or that does not write the question
            unchanged and the picture once.
    """
    if getattr(processor, "chat_template", None):
        written = processor.apply_chat_template
    elif config.model_type == "paligemma":
        return PALIGEMMA
    elif getattr(processor.tokenizer, "chat_template", None):
        written = partial(processor.tokenizer.apply_chat_template, tokenize=False)
    else:
        return TEMPLATE
    template, trouble = _template(processor, written)
    if template is not None:
        return TEMPLATE if template.split() == TEMPLATE.split() else template
    if getattr(processor, "chat_template", None):
        raise InputError(
            f"the chat template of {name!r} {trouble}; give its processor one that writes "
            "content[i]['text'] and an image token, such as that of llava-hf/llava-1.5-7b-hf, or "
            "none (processor.chat_template, chat_template.jinja), to be asked in the words of "
            "LLaVA-1.5"
        )
    warn(
        f"{name!r} is asked in the words of LLaVA-1.5: its processor has no chat template, and "
        f"that of its tokenizer {trouble}; if it was made for other words, give its processor one "
        "that writes them (processor.chat_template, chat_template.jinja)"
    )
    return TEMPLATE


def _template(processor, written):
    """A chat template as a template, or None and why that fails; ``written`` applies the chat
    template to a conversation."""
    # A typical question, since a template may treat a placeholder differently.
    content = [{"type": "image"}, {"type": "text", "text": EXAMPLE_QUESTION}]
    try:
        text = written([{"role": "user", "content": content}], add_generation_prompt=True)
    # A template may raise anything.
    except Exception as error:
        return None, f"fails on a question about a picture ({first_line(error)})"
    text = once_begun(processor.tokenizer, text).replace(picture_mark(processor), "<image>")
    if text.count(EXAMPLE_QUESTION) != 1 or "{question}" in text:
        return None, f"does not write a question once, as it is asked (it writes {text!r})"
    if (times := text.count("<image>")) != 1:
        return None, f"writes the picture {times} times, not once (it writes {text!r})"
    return text.replace(EXAMPLE_QUESTION, "{question}"), None
