"""The conversation that a model was made for: what stands around a picture and a question about
it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError, first_line
from ..files.table_text import shortened
from .answers import once_begun

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, ProcessorMixin

# LLaVA-1.5's conversation, as the published experiment wrote it.
TEMPLATE = "USER: <image>\n{question}\nASSISTANT:"

# A question as people ask it, answered in a word; a model is tried with it when it is loaded.
EXAMPLE_QUESTION = "Which color is the odd color out? Respond in one word"

# PaliGemma has no template; its model card asks questions so.
PALIGEMMA = "<image>answer en {question}\n"


def prompt(question: str, template: str = TEMPLATE) -> str:
    """The question about one picture, in a conversation.

    Raises:
        InputError: a question that is no text.

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
    """The question of a prompt in a conversation; None where the prompt is not of that
    conversation.

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
    """The model's own conversation, with ``<image>`` where the picture goes and ``{question}``
    where the question does.

    It is the processor's chat template. Without one, or where that is LLaVA-1.5's but for line
    breaks, it is the literal prompt of the seed note, so that the published experiment is asked as
    it was published.

    Raises:
        InputError: a chat template that fails, or that does not write the question as it is and the
            picture once.
    """
    if not getattr(processor, "chat_template", None):
        return PALIGEMMA if config.model_type == "paligemma" else TEMPLATE
    # A question as people ask it: a template may do other things to a placeholder.
    content = [{"type": "image"}, {"type": "text", "text": EXAMPLE_QUESTION}]
    try:
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
    # A template raises whatever it likes.
    except Exception as error:
        raise _refusal(
            name, f"fails on a question about a picture ({first_line(error)})"
        ) from error
    text = once_begun(processor.tokenizer, text).replace(processor.image_token, "<image>")
    if text.count(EXAMPLE_QUESTION) != 1 or "{question}" in text:
        raise _refusal(name, f"does not write a question once, as it is asked (it writes {text!r})")
    if text.count("<image>") != 1:
        times = text.count("<image>")
        raise _refusal(name, f"writes the picture {times} times, not once (it writes {text!r})")
    template = text.replace(EXAMPLE_QUESTION, "{question}")
    return TEMPLATE if template.split() == TEMPLATE.split() else template


def _refusal(name, what):
    return InputError(
        f"the chat template of {name!r} {what}; give its processor one that writes "
        "content[i]['text'] and an image token, such as that of llava-hf/llava-1.5-7b-hf, or none "
        "(processor.chat_template, chat_template.jinja), to be asked in the words of LLaVA-1.5"
    )
