"""The conversation that a model was made for: what stands around a picture and a question about it."""

from transformers import PreTrainedConfig, ProcessorMixin

from .answers import once_begun
from .rgb_game import TEMPLATE

# PaliGemma has no template; its model card asks questions so.
PALIGEMMA = "<image>answer en {question}\n"


def template_of(config: PreTrainedConfig, processor: ProcessorMixin) -> str:
    """The model's own conversation, with ``<image>`` where the picture goes and ``{question}`` where the
    question does.

    It is the processor's chat template. Without one, or where that is LLaVA-1.5's but for line breaks, it is
    the literal prompt of the seed note, so that the published experiment is asked as it was published.
    """
    if not getattr(processor, "chat_template", None):
        return PALIGEMMA if config.model_type == "paligemma" else TEMPLATE
    content = [{"type": "image"}, {"type": "text", "text": "{question}"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    text = once_begun(processor.tokenizer, text).replace(processor.image_token, "<image>")
    return TEMPLATE if text.split() == TEMPLATE.split() else text
