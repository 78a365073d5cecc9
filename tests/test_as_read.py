"""What the model is asked is what was written: whole, with the picture once, in tokens that it has;
or a sentence says what is lost."""

import copy
import json
import warnings
from dataclasses import replace

import families
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vocabularies import byte_level, llama_like

import rgb_circuit as rgb
from rgb_circuit.conversation import TEMPLATE, prompt
from rgb_circuit.loading.checkpoints import skeleton
from rgb_circuit.models import small
from rgb_circuit.models.random import random_llava
from rgb_circuit.prompts import as_read, encode, inputs
from rgb_circuit.prompts.as_read import holds
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION, PALETTE

LONG = " ".join([ODD_QUESTION] * 3)


@pytest.fixture(scope="module")
def parts():
    """A random LLaVA and its processor, which a test copies before it changes anything."""
    return random_llava(layers=2)


@pytest.fixture(scope="module")
def wrapped(parts):
    return rgb.wrap(*parts, name="small")


def asking(model, question=LONG, answers=None):
    """A trial of the game's pictures under another prompt."""
    drawn = rgb.rgb_trials(model, 1)[0]
    return rgb.Trial("t", prompt(question), drawn.images, answers or drawn.answers)


# File → what training left in it. The game's prompt has 53 tokens here, the long one 79.
LEFT_OVER = {
    "a length": ("tokenizer_config.json", {"max_length": 60}),
    "a length shorter than the game's": ("tokenizer_config.json", {"max_length": 20}),
    "truncation": (
        "tokenizer_config.json",
        {"truncation": True, "model_max_length": 60, "truncation_side": "left"},
    ),
    "padding": (
        "tokenizer_config.json",
        {"padding": "max_length", "max_length": 96, "truncation": False, "padding_side": "right"},
    ),
    "padding to a multiple": ("tokenizer_config.json", {"padding": True, "pad_to_multiple_of": 64}),
    "the backend's truncation": (
        "tokenizer.json",
        {
            "truncation": {
                "direction": "Right",
                "max_length": 60,
                "strategy": "LongestFirst",
                "stride": 0,
            }
        },
    ),
    "the backend's padding": (
        "tokenizer.json",
        {
            "padding": {
                "strategy": {"Fixed": 96},
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        },
    ),
}


@pytest.mark.parametrize("setting", LEFT_OVER)
def test_what_a_tokenizer_was_trained_with_never_reaches_the_prompt(
    setting, parts, wrapped, tmp_path
):
    folder = small.save(*parts, tmp_path)
    file, left = LEFT_OVER[setting]
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | left))
    found = encode(rgb.load(folder), [(asking(wrapped), "clean")])
    want = encode(wrapped, [(asking(wrapped), "clean")])
    assert want.keys() == found.keys()
    assert all(torch.equal(want[name], found[name]) for name in want)


def test_what_is_set_in_memory_never_reaches_the_prompt_either(parts, wrapped):
    module, processor = parts[0], copy.deepcopy(parts[1])
    processor.text_kwargs = {"truncation": True, "max_length": 60, "padding": "max_length"}
    processor.tokenizer.backend_tokenizer.enable_truncation(30)
    found = encode(rgb.wrap(module, processor, name="set"), [(asking(wrapped), "clean")])
    want = encode(wrapped, [(asking(wrapped), "clean")])
    assert torch.equal(want["input_ids"], found["input_ids"])


def test_a_prompt_that_is_cut_nevertheless_is_refused_before_any_forward(
    wrapped, monkeypatch, no_forward
):
    whole = inputs.uncut

    def cutting(*given, **options):
        made = whole(*given, **options)
        return {
            name: value[:, :60] if name in ("input_ids", "attention_mask") else value
            for name, value in made.items()
        }

    monkeypatch.setattr(inputs, "uncut", cutting)
    with pytest.raises(
        rgb.InputError, match="'small' would not be asked what is written: of the prompt"
    ):
        rgb.play(wrapped, [asking(wrapped, f"{LONG} now")], progress=False)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("USER: Which color? ASSISTANT:", "holds 0 '<image>'"),
        ("USER: <image> <image> Which color? ASSISTANT:", "holds 2 '<image>'"),
    ],
)
def test_a_prompt_without_its_picture_is_refused(wrapped, no_forward, text, sentence):
    with pytest.raises(rgb.InputError, match=sentence):
        wrapped.token("red", text)


def test_a_picture_that_is_written_twice_is_refused(wrapped, monkeypatch, no_forward):
    whole = inputs.uncut

    def twice(processor, texts, images, **options):
        processor = copy.copy(processor)
        processor.replace_image_token = lambda *given, **rest: "<image>" * 72
        return whole(processor, texts, images, **options)

    monkeypatch.setattr(inputs, "uncut", twice)
    with pytest.raises(rgb.InputError, match="72 image tokens, and a picture is 36"):
        wrapped.token("red", "USER: <image> Which color? ASSISTANT:")


def backend(model, normalizer=None, **named):
    tokens = Tokenizer(model)
    tokens.normalizer = normalizer or normalizers.Sequence([])
    if isinstance(model, models.WordLevel):
        tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokens, **named)


def spelling(letters, normalizer=None):
    """A vocabulary of single letters that drops every other letter without a trace."""
    return backend(
        models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]),
        normalizer,
    )


LATIN = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ?"
WORDS = models.WordLevel(
    {word: place for place, word in enumerate("<unk> which color grosse".split())}
)
# Tokenizer, text, whether its tokens hold the text.
HOLD = {
    "bytes": (byte_level(), "Größer 这是什么颜色? ½ 🙂", True),
    "byte fallback": (llama_like(), "Größer 这是什么颜色? ½ 🙂", True),
    "words": (small.tokenizer(), ODD_QUESTION, True),
    "unknown words": (small.tokenizer(), "Which mauve tile is odd, of 3?", True),
    "lower case": (
        backend(WORDS, normalizers.Lowercase(), unk_token="<unk>"), "WHICH Color", True
    ),
    "accents stripped": (
        backend(
            WORDS,
            normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(),
            normalizers.Lowercase()]),
            unk_token="<unk>",
        ),
        "Which große",
        True,
    ),
    "compatible letters": (spelling(LATIN, normalizers.NFKC()), "of ﬁne ﬂour?", True),
    "letters replaced": (spelling(LATIN, normalizers.Replace("æ", "ae")), "æon", True),
    "letters dropped": (spelling(LATIN), "Größer?", False),
    "all dropped": (spelling(LATIN), "这是什么颜色?", False),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOLD)
def test_tokens_hold_a_text_however_it_is_spelled_and_not_when_a_piece_is_gone(kind):
    tokenizer, text, whole = HOLD[kind]
    ids = tokenizer(text)["input_ids"]
    assert holds(tokenizer, ids, text) is whole
    assert not holds(tokenizer, ids[: len(ids) // 2], text)


def test_a_question_whose_letters_the_tokenizer_drops_is_refused():
    vocabulary = spelling(LATIN + ":\n")
    vocabulary.add_special_tokens({"additional_special_tokens": ["<image>"]})
    model = rgb.wrap(*random_llava(layers=2, vocabulary=vocabulary), name="latin")
    with pytest.raises(rgb.InputError, match="would not be asked what is written"):
        model.token("red", model.prompt("Какой цвет?"))


def test_unknown_words_are_said_once_and_not_refused(parts):
    model = rgb.wrap(*parts, name="small")
    trial = asking(model, "Which mauve tile is odd?")
    with pytest.warns(
        UserWarning, match="small has no tokens for some words of 1 of 1 questions and reads"
    ):
        rgb.play(model, [trial], ["clean"], progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rgb.play(model, [trial], ["clean"], progress=False)


@pytest.fixture(scope="module")
def more_tokens(parts):
    """The same with a tokenizer that got tokens which the model did not."""
    module, processor = parts[0], copy.deepcopy(parts[1])
    processor.tokenizer.add_tokens(["mauve", "teal", "brown"])
    return rgb.wrap(module, processor, name="more")


ENTRIES = {
    "play": lambda model, trial: rgb.play(model, [trial], progress=False),
    "patch_heads": lambda model, trial: rgb.patch_heads(
        model, [trial], target="erased", progress=False
    ),
    "knockout": lambda model, trial: rgb.knockout(model, [trial], queries="end", keys="image"),
    "attribute": lambda model, trial: rgb.attribute(model, [trial], progress=False),
    "direct_effects": lambda model, trial: rgb.direct_effects(model, [trial], progress=False),
    "lens": lambda model, trial: rgb.lens(model, [trial], progress=False),
    "patch_layers": lambda model, trial: rgb.patch_layers(
        model, [trial], target="erased", positions="end"
    ),
    "answer_pieces": lambda model, trial: rgb.answer_pieces(model, [trial], progress=False),
    "generate": lambda model, trial: rgb.generate(model, trial),
    "token": lambda model, trial: model.token(trial.answers["odd"], trial.prompt),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_tokens_that_the_model_was_not_given_are_refused_before_any_forward(
    entry, more_tokens, no_forward
):
    asks, says = (
        asking(more_tokens, "Which mauve color?"),
        asking(more_tokens, answers={"odd": "mauve"}),
    )
    with pytest.raises(
        rgb.InputError, match="'mauve' of the prompt .* is token 29, .* has 29 rows"
    ):
        ENTRIES[entry](more_tokens, asks)
    with pytest.raises(rgb.InputError, match="answer 'mauve' begins with token 29, .* has 29 rows"):
        # Only an answer is left to refuse where the prompt is known.
        ENTRIES[entry](more_tokens, replace(says, prompt=more_tokens.prompt(ODD_QUESTION)))


def test_colors_that_the_model_was_not_given_are_not_drawn(more_tokens, wrapped):
    assert (
        "brown" in PALETTE
        and words_for(more_tokens, find("rgb")) == words_for(wrapped, find("rgb")) != ()
    )


def test_the_configuration_alone_says_what_a_model_on_a_server_was_given(more_tokens):
    empty = skeleton("more", more_tokens.config)
    with pytest.raises(rgb.InputError, match="embedding of 'more' has 29 rows"):
        as_read.read_ids(
            "more", empty, more_tokens.processor, more_tokens.layout, prompt("Which teal color?")
        )


def test_what_a_replaced_forward_hands_on_is_given_to_it(monkeypatch):
    """Fused losses replace the forward of a class by one that names less."""
    family = families.FAMILIES["qwen2_5_vl"]
    module, processor = families.built("qwen2_5_vl")
    model = rgb.wrap(module, processor, name="plain", tiles=family.tiles)
    trials = rgb.rgb_trials(model, 1)
    want = rgb.play(model, trials, ["clean"], progress=False)
    kind = type(module)
    original = kind.forward

    def fused(self, input_ids=None, attention_mask=None, pixel_values=None, labels=None, **others):
        return original(
            self,
            input_ids=input_ids,
            attention_mask=attention_mask,
            pixel_values=pixel_values,
            **others,
        )

    monkeypatch.setattr(kind, "forward", fused)
    replaced = rgb.wrap(module, processor, name="fused", tiles=family.tiles)
    assert {"mm_token_type_ids", "image_grid_thw"} <= replaced.layout.takes
    assert "labels" not in replaced.layout.takes and "others" not in replaced.layout.takes
    found = rgb.play(replaced, trials, ["clean"], progress=False)
    assert list(found["logit_odd"]) == pytest.approx(list(want["logit_odd"]), abs=1e-5)


EACH = "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}"
REST = "{% endif %}{% endfor %}{{ '\n' }}ASSISTANT:{% endfor %}"
# Chat template → what the sentence says of it.
LOSING = {
    "content is a string": (
        "{% for m in messages %}{{ 'USER: ' + m['content'] }}{% endfor %}", "fails on a question"
    ),
    "content is printed": (
        "{% for m in messages %}USER: {{ m['content'] }} ASSISTANT:{% endfor "
        "%}", "the picture 0 times"
    ),
    "the picture twice": (
        EACH + "<image><image>{% else %}{{ c['text'] }}" + REST, "the picture 2 times"
    ),
    "no picture": (EACH + "{% else %}{{ c['text'] }}" + REST, "the picture 0 times"),
    "another "
    "key": (EACH + "<image>{% else %}{{ c['content'] }}" + REST, "does not write a question once"),
    "capitals": (EACH + "<image>{% else %}{{ c['text'] | upper "
                        "}}" + REST, "does not write a question once"),
    "a "
    "placeholder": (EACH + "<image>{% else %}{question}" + REST, "does not write a question once"),
    "twice": (
        EACH + "<image>{% else %}{{ c['text'] }} {{ c['text'] "
               "}}" + REST, "does not write a question once"
    ),
    "raises": ("{{ raise_exception('give a system message') "
               "}}", "fails on .*give a system message"),
    "broken": ("{% for m in messages "
               "%}USER:", "fails on a question about a picture .*Unexpected end"),
    "several, none by default": ({"tools": "USER:"}, "fails on a question about a picture"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOSING)
def test_a_chat_template_that_loses_something_is_named(kind, parts, no_forward):
    module, processor = parts[0], copy.deepcopy(parts[1])
    processor.chat_template, sentence = LOSING[kind]
    with pytest.raises(rgb.InputError, match=f"the chat template of 'lost' .*{sentence}"):
        rgb.wrap(module, processor, name="lost")


def test_a_chat_template_that_writes_both_is_asked_in(parts):
    module, processor = parts[0], copy.deepcopy(parts[1])
    processor.chat_template = EACH + "<image> {% else %}: {{ c['text'] | trim }} ?" + REST
    model = rgb.wrap(module, processor, name="both")
    assert model.template == "USER: <image> : {question} ?\nASSISTANT:"
    assert model.prompt("Which {color}?") == "USER: <image> : Which {color}? ?\nASSISTANT:"


def test_a_chat_template_that_stands_with_the_tokenizer_alone_is_asked_in(parts):
    module, processor = parts[0], copy.deepcopy(parts[1])
    processor.chat_template = None
    processor.tokenizer.chat_template = EACH + "<image> {% else %}: {{ c['text'] }}" + REST
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = rgb.wrap(module, processor, name="older")
    assert model.template == "USER: <image> : {question}\nASSISTANT:"


@pytest.mark.parametrize("kind", ["content is a string", "no picture"])
def test_a_language_models_own_chat_template_is_told_and_left(kind, parts):
    module, processor = parts[0], copy.deepcopy(parts[1])
    processor.chat_template = None
    processor.tokenizer.chat_template, sentence = LOSING[kind]
    said = f"asked in the words of LLaVA-1.5: .*that of its tokenizer .*{sentence}"
    with pytest.warns(UserWarning, match=said):
        assert rgb.wrap(module, processor, name="lost").template == TEMPLATE
