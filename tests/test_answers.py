"""An answer is read at the token with which the model gives it, whatever its vocabulary and the
prompt's end."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from vocabularies import byte_level, chat, llama_like

import rgb_circuit as rgb
from rgb_circuit.conversation import prompt
from rgb_circuit.conversation.answers import drawable, preferred, written
from rgb_circuit.models.random import random_llava
from rgb_circuit.module.layout import layout_of
from rgb_circuit.prompts import encode
from rgb_circuit.prompts.inputs import inputs_of
from rgb_circuit.stimuli.drawing import form_at, words_for
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION, rgb_trial

GAME = prompt(ODD_QUESTION)
VOCABULARIES = {
    "llama": llama_like,
    "qwen": byte_level,
    "llama 3": lambda: byte_level(begin=True),
    "with an end token": lambda: byte_level(begin=True, end=True),
}


def says(vocabulary, question, text, *more):
    """A LLaVA whose likeliest token after ``question`` is the first that ``text`` adds there, and
    so on; and the first such token."""
    module, processor = random_llava(0, layers=2, vocabulary=vocabulary)
    picture = rgb_trial(tile=(1, 1), grid=6, tile_px=4).images["clean"]
    layout = layout_of("small", module, processor, question)
    states = {}
    hook = module.model.language_model.norm.register_forward_hook(
        lambda _, __, out: states.update(last=out[0, -1])
    )
    said = []
    with torch.no_grad():
        for asked, answer in zip((question, *more[::2]), (text, *more[1::2])):
            module(**inputs_of(processor, layout, [asked], [picture]))
            said.append(written(vocabulary, asked, answer, "as given")[0])
            # A logit of 40 there; states of other prompts are nearly at right angles.
            module.lm_head.weight[said[-1]] = 40 * states["last"] / states["last"].square().sum()
    hook.remove()
    return rgb.wrap(module, processor, name=f"says {text!r}"), said[0]


def about(question, answers, **options):
    drawn = rgb_trial(tile=(1, 1), grid=6, tile_px=4)
    return rgb.Trial(
        "t",
        question,
        {"clean": drawn.images["clean"], "erased": drawn.images["erased"]},
        answers,
        **options,
    )


@pytest.mark.parametrize(
    "word, pieces",
    [
        ("Red", "▁Red"),
        ("Yellow", "▁Y ellow"),
        ("Purple", "▁Pur ple"),
        ("Cyan", "▁Cy an"),
        ("3", "▁ 3"),
    ],
)
def test_the_llama_like_vocabulary_splits_as_llamas_does(word, pieces):
    tokenizer = llama_like()
    assert (
        " ".join(tokenizer.convert_ids_to_tokens(written(tokenizer, GAME, word, "space, as given")))
        == pieces
    )


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("said", ["Yes", " Yes", "yes", " yes"])
def test_the_form_is_the_one_that_the_model_says(name, said):
    question = chat("Is there a red tile?", "<|begin|>" if name not in ("llama", "qwen") else "")
    model, token = says(VOCABULARIES[name](), question, said)
    trial = about(question, {"right": "yes", "wrong": "no"}, expected={"clean": "right"})
    assert model.token("yes", question) == token
    played = rgb.play(model, [trial], ["clean"], progress=False).iloc[0]
    assert played["correct"] and played["answer"] == said.strip()


def test_the_form_is_settled_prompt_by_prompt():
    vocabulary, ask = byte_level(begin=True), chat("Which color?")
    model, bare = says(vocabulary, ask, "Red", GAME, " Red")
    spaced = written(vocabulary, GAME, "red", "space, capital")[0]
    assert model.token("red", ask) == bare != spaced == model.token("red", GAME)


def test_a_word_of_several_tokens_is_read_at_its_first():
    model, token = says(llama_like(), GAME, " Yellow")
    assert form_at(model, GAME, ["yellow"]) == "space, capital"
    assert model.processor.tokenizer.convert_ids_to_tokens([model.token("yellow", GAME)]) == ["▁Y"]
    trial = about(GAME, {"right": "yellow", "wrong": "red"}, expected={"clean": "right"})
    played = rgb.play(model, [trial], ["clean"], progress=False).iloc[0]
    assert played["correct"] and played["answer"] == "Y"
    pieces = rgb.answer_pieces(model, [trial]).set_index("answer")
    assert list(pieces["piece"]) == ["▁Y", "▁Red"] and list(pieces["whole"]) == [False, True]


def test_two_answers_that_begin_alike_are_refused_before_any_forward(monkeypatch):
    model, _ = says(llama_like(), GAME, " Red")
    monkeypatch.setattr(type(model.nnsight), "trace", lambda *_, **__: pytest.fail("a forward"))
    answers = {"right": "Yellow", "wrong": "Yonder", "other": "Red"}
    trial = about("USER: <image>\nWhich?\nASSISTANT:", answers)
    with pytest.raises(rgb.InputError, match="'Yellow' and 'Yonder' both begin with the token"):
        rgb.play(model, [trial])


@pytest.mark.parametrize("name", VOCABULARIES)
def test_one_digit_counts_are_read_behind_the_space_that_all_of_them_begin_with(name):
    """After "ASSISTANT:" a digit comes behind a space of its own, and that space is the same for
    all."""
    question = "USER: <image>\nHow many tiles are red?\nASSISTANT:"
    vocabulary = VOCABULARIES[name]()
    model, space = says(vocabulary, question, " 3")
    trial = about(question, {"right": "3", "wrong": "2"})
    tokens = encode(model, [(trial, "clean")])["input_ids"][0]
    assert tokens[-1] == space and vocabulary.decode([space] * 2).isspace()
    pieces = rgb.answer_pieces(model, [trial])
    assert list(pieces["piece"]) == ["3", "2"]
    # The logits that play reads are those after the space.
    with torch.no_grad():
        picture = trial.images["clean"]
        plain = model.processor(text=[question + " "], images=[picture], return_tensors="pt")
        keep = len(tokens)
        bare = model.nnsight._module(
            **{key: plain[key][:, :keep] for key in ("input_ids", "attention_mask")},
            pixel_values=plain["pixel_values"],
        ).logits[0, -1]
    played = rgb.play(model, [trial], ["clean"], progress=False).iloc[0]
    assert played["logit_right"] == pytest.approx(float(bare[pieces["token"][0]]), abs=1e-4)


def test_digits_after_a_chat_template_need_no_space():
    question = chat("How many?")
    model, three = says(byte_level(), question, "3")
    trial = about(question, {"right": "3", "wrong": "2"}, expected={"clean": "right"})
    assert model.token("3", question) == three
    assert rgb.play(model, [trial], ["clean"], progress=False)["correct"].all()


@pytest.mark.parametrize("name", VOCABULARIES)
def test_one_beginning_token_and_no_end_token_reach_the_model(name):
    vocabulary = VOCABULARIES[name]()
    module, processor = random_llava(0, layers=2, vocabulary=vocabulary)
    model = rgb.wrap(module, processor, name=name)
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which color?"}]}
    ]
    if vocabulary.chat_template:
        asked = vocabulary.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        asked = "<s>" + prompt("Which color?")
    tokens = encode(model, [(about(asked, {"right": "red"}), "clean")])["input_ids"][0].tolist()
    begin, end = vocabulary.bos_token_id, vocabulary.eos_token_id
    assert begin is None or (tokens[0] == begin and tokens.count(begin) == 1)
    assert tokens[-1] != end
    assert vocabulary.decode(tokens[-1:]) in ("\n", ":")


def test_the_game_is_drawn_with_words_that_are_one_token():
    model, _ = says(llama_like(), GAME, " Red")
    assert set(words_for(model, find("rgb"))) == {
        "red",
        "green",
        "blue",
        "orange",
        "black",
        "brown",
        "gray",
    }
    for trial in rgb.rgb_trials(model, 14):
        assert rgb.answer_pieces(model, [trial])["whole"].all()


def test_the_published_trial_has_a_two_token_word_and_runs():
    module, processor = random_llava(0, layers=2, grid=24, tile_px=14, vocabulary=llama_like())
    model = rgb.wrap(module, processor, name="llama")
    frame = rgb.patch_heads(
        model, [rgb.published_trial()], target="recolored", heads=[(1, 0)], progress=False
    )
    assert list(frame["answer"]) == ["red", "green", "blue", "yellow", "white"]


def test_the_likeliest_tokens_vote_on_the_form():
    vocabulary = llama_like()
    last = vocabulary(GAME)["input_ids"][-1]
    red, green, yellow = (
        written(vocabulary, GAME, word, "space, capital")[0] for word in ("red", "green", "yellow")
    )
    small = written(vocabulary, GAME, "red", "space, as given")[0]
    forms = preferred(vocabulary, last, [small, red, green, yellow], [0.4, 0.3, 0.2, 0.1])
    assert forms[:2] == ("space, capital", "space, as given")


def test_an_answer_in_another_case_than_is_read_is_right():
    model, _ = says(llama_like(), GAME, " Red")
    settled = dataclasses.replace(model, forms={GAME: ("space, as given", *model.forms[GAME])})
    trial = about(GAME, {"right": "red", "wrong": "green"}, expected={"clean": "right"})
    played = rgb.play(settled, [trial], ["clean"], progress=False).iloc[0]
    assert (played["expected"], played["answer"], played["correct"]) == ("red", "Red", True)


def test_an_answer_that_no_form_writes_as_the_model_does_is_called_so():
    """Answers of a data set, "Yes" and "No", of a model that writes small letters."""
    model, _ = says(llama_like(), GAME, " yes")
    given, small = ("Yes", "No"), ("yes", "no")
    for words in (given, small):
        answers = dict(zip(("right", "wrong"), words))
        trial = about(GAME, answers, expected={"clean": "right"})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert rgb.play(model, [trial], ["clean"], progress=False)["correct"].all()
        said = [text for one in caught if "writes" in (text := str(one.message))]
        assert len(said) == (words is given)
        assert all("writes 'yes' where the given answer is 'Yes', in 1 of 1" in one for one in said)


def test_a_task_without_a_word_of_its_own_keeps_words_that_begin_with_a_space_alone():
    def drawn(taken):
        return drawable(llama_like(), GAME, ["3"], "space, as given", 2, taken, math.inf)

    assert drawn([]) == ["3"]
    # Another word that is read at the same space takes it.
    assert drawn(["4"]) == []


ASKED = "USER: <image>\nHow many cups are there?\nASSISTANT:"


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize(
    "words, pieces", [(("13", "18"), ["3", "8"]), (("130", "138"), ["0", "8"])]
)
def test_answers_that_begin_alike_are_read_behind_what_they_share(name, words, pieces):
    """As if the shared digits had been written behind the prompt by hand."""
    model, _ = says(VOCABULARIES[name](), ASKED, " 1")
    shared = f" {words[0][:-1]}"
    model.forms[ASKED + shared] = ("as given",)
    roles = dict(zip(("right", "wrong"), words))
    trial, by_hand = (
        about(prompt, answers, expected={"clean": "right"})
        for prompt, answers in ((ASKED, roles), (ASKED + shared, dict(zip(roles, pieces))))
    )
    found = rgb.answer_pieces(model, trial, progress=False)
    assert list(found["piece"]) == pieces and list(found["behind"]) == [shared] * 2
    assert not found["whole"].any()
    ids = encode(model, [(trial, "clean")])["input_ids"]
    start = encode(model, [(about(ASKED, {"one": "Red"}), "clean")])["input_ids"]
    written_out = written(model.processor.tokenizer, ASKED, words[0], "space, as given")
    assert ids[0].tolist() == [*start[0].tolist(), *written_out[:-1]]
    played = rgb.play(model, trial, progress=False)
    with torch.no_grad():
        bare = [
            model.nnsight._module(**encode(model, [(trial, condition)])).logits[0, -1]
            for condition in trial.images
        ]
    for role, token in zip(roles, found["token"]):
        np.testing.assert_allclose(
            played[f"logit_{role}"], [float(one[token]) for one in bare], atol=1e-4
        )
    assert set(played["behind"]) == {shared.strip()}
    frames = [
        rgb.patch_heads(model, one, target="erased", progress=False)["effect"]
        for one in (trial, by_hand)
    ]
    np.testing.assert_allclose(*frames, atol=1e-5)
    assert frames[0].abs().max() > 1e-3


def test_words_that_not_all_share_a_beginning_are_refused_as_ever():
    model, _ = says(llama_like(), ASKED, " 1")
    with pytest.raises(
        rgb.InputError, match="'13' and '18' both begin with the token '1'.* all of which begin"
    ):
        rgb.play(model, about(ASKED, {"right": "13", "wrong": "18", "other": "24"}), progress=False)
    # One word is the beginning of the other.
    with pytest.raises(rgb.InputError, match="'1' and '13' both begin with the token '1'"):
        rgb.play(model, about(ASKED, {"right": "1", "wrong": "13"}), progress=False)
