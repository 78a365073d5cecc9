"""The conversation that a model was made for: what stands around a picture and a question about it."""

from transformers import PreTrainedConfig, ProcessorMixin

from .answers import once_begun
from .errors import InputError, first_line
from .rgb_game import ODD_QUESTION, TEMPLATE

# PaliGemma has no template; its model card asks questions so.
PALIGEMMA = "<image>answer en {question}\n"


def template_of(name: str, config: PreTrainedConfig, processor: ProcessorMixin) -> str:
    """The model's own conversation, with ``<image>`` where the picture goes and ``{question}`` where the
    question does.

    It is the processor's chat template. Without one, or where that is LLaVA-1.5's but for line breaks, it is
    the literal prompt of the seed note, so that the published experiment is asked as it was published.

    Raises:
        InputError: a chat template that fails, or that does not write the question as it is and the picture
            once.
    """
    if not getattr(processor, "chat_template", None):
        return PALIGEMMA if config.model_type == "paligemma" else TEMPLATE
    # A question as people ask it: a template may do other things to a placeholder.
    content = [{"type": "image"}, {"type": "text", "text": ODD_QUESTION}]
    try:
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
    # A template raises whatever it likes.
    except Exception as error:
        raise _refusal(name, f"fails on a question about a picture ({first_line(error)})") from error
    text = once_begun(processor.tokenizer, text).replace(processor.image_token, "<image>")
    if text.count(ODD_QUESTION) != 1 or "{question}" in text:
        raise _refusal(name, f"does not write a question once, as it is asked (it writes {text!r})")
    if text.count("<image>") != 1:
        times = text.count("<image>")
        raise _refusal(name, f"writes the picture {times} times, not once (it writes {text!r})")
    template = text.replace(ODD_QUESTION, "{question}")
    return TEMPLATE if template.split() == TEMPLATE.split() else template


def _refusal(name, what):
    return InputError(
        f"the chat template of {name!r} {what}; give its processor one that writes "
        "content[i]['text'] and an image token, such as that of llava-hf/llava-1.5-7b-hf, or none "
        "(processor.chat_template, chat_template.jinja), to be asked in the words of LLaVA-1.5"
    )
