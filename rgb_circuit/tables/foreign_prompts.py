"""Questions as tables hold them: bare, or inside a whole prompt of some model's conversation.

A table made for one model holds that model's conversation around every question. Another model
would read it as text, so the question is cut out and put into the conversation of the present
model. Known are the markers of Vicuna and LLaVA (``USER: … ASSISTANT:``), ChatML (Qwen), Llama 2
and Mistral (``[INST]``), Llama 3, Gemma, and Phi.

Texts that no model can answer about one picture are refused: a caption, which asks nothing, and a
question about two pictures.
"""

import re

from ..errors import InputError
from ..files.table_text import shortened

# The beginning and the end of a user's turn.
TURNS = (
    (r"<\|im_start\|>user\n", r"<\|im_end\|>"),
    (r"<\|start_header_id\|>user<\|end_header_id\|>\s*", r"<\|eot_id\|>"),
    (r"<start_of_turn>user\n", r"<end_of_turn>"),
    (r"<\|user\|>\s*", r"<\|end\|>"),
    (r"\[INST\]", r"\[/INST\]"),
    (r"(?<!\w)USER:", r"ASSISTANT:"),
    (r"### ?Human:", r"### ?Assistant:"),
)

# Placeholders of a picture, each alone; several tokens of one picture count as one.
PICTURE = re.compile(
    r"<\|vision_start\|>(?:<\|image_pad\|>|<\|video_pad\|>)+<\|vision_end\|>"
    r"|<\|image_\d+\|>|(?:<\|image_pad\|>)+|<\|image\|>|<start_of_image>|(?:<image_soft_token>)+"
    r"|<image(?: ?\d+)?>|<ImageHere>|<img>(?:</img>)?|\[IMG\]"
)
# The first and last tokens of a conversation as text, for some tokenizers.
_ENDS = re.compile(r"^\s*<s>|</s>\s*$")

# A text asks something if one of its sentences begins with one of these words.
_ASKS = re.compile(
    r"(?:^|[.!:;,\n]\s*)(?:please\s+)?(?:what|which|who|whose|where|when|why|how|is|are|was|were|does|do|did|"
    r"can|could|has|have|would|will|should|answer|respond|reply|describe|name|say|tell|state|list|count|"
    r"choose|select|pick|identify|complete|give|estimate|locate|classify|compare|point|find|read|decide|"
    r"judge|true|yes)\b",
    re.IGNORECASE,
)
_TWO = re.compile(
    r"\b(?:first or (?:the )?second|which|both|these two|the two)\s+(?:images?|pictures?|photos?)\b"
    r"|\b(?:first|second) (?:image|picture|photo)\b",
    re.IGNORECASE,
)


def question_in(text: str) -> tuple[str, bool]:
    """The question of a text without the conversation and the picture's placeholder; and whether
    anything was cut off.

    Raises:
        InputError: a conversation of several turns, several pictures, or no question.

    Examples:
        >>> question_in("<|im_start|>user\\n<image>How many?<|im_end|>\\n<|im_start|>assistant\\n")
        ('How many?', True)
        >>> question_in("How many?")
        ('How many?', False)
    """
    turns = next((found for begin, end in TURNS if (found := _turns(text, begin, end))), [text])
    if len(turns) > 1:
        raise InputError(
            f"the prompt {shortened(text)} has {len(turns)} turns of a user, and a trial asks one "
            "question; leave the last"
        )
    (turn,) = turns
    pictures = len(PICTURE.findall(text))
    if pictures > 1:
        raise InputError(_two(text, f"shows {pictures} pictures"))
    question = _ENDS.sub("", PICTURE.sub("", turn)).strip()
    if not question:
        raise InputError(
            f"the prompt {shortened(text)} asks nothing; give a question about the picture"
        )
    return question, question != text.strip()


def check_asks(question: str, column: str) -> None:
    """Refuse a text in a column of questions that asks nothing, or asks about two pictures.

    Args:
        column: its column, for the message.

    Raises:
        InputError: such a text, with how to ask instead.

    Examples:
        >>> check_asks("Is there a dog in the picture?", "text")
        >>> try:
        ...     check_asks("A dog on a sofa.", "caption")
        ... except InputError as error:
        ...     print(str(error)[:49])
        'A dog on a sofa.' is a caption and asks nothing;
    """
    if _TWO.search(question):
        raise InputError(_two(question, "asks about two pictures"))
    if "?" in question or not question.isascii() or _ASKS.search(question):
        return
    raise InputError(
        f"{shortened(question)} is a caption and asks nothing; ask about it, such as "
        f'question="Is this true of the picture: {{{column}}} Answer yes or no.", or write '
        f'question="{{{column}}}" if it is a question'
    )


def _turns(text, begin, end):
    """The texts of a user's turns; a turn without an end takes the rest of the text."""
    return re.findall(f"{begin}(.*?)(?:{end}|$)", text, re.DOTALL) if re.search(begin, text) else []


def _two(text, what):
    return (
        f"the prompt {shortened(text)} {what}, and a trial shows one at a time; make each picture "
        "a condition (images={'clean': …, 'other': …}) and ask about one, such as "
        'question="Does this picture show {caption}? Answer yes or no."'
    )
