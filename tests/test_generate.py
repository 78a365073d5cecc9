"""What a model says is what Hugging Face lets it say, and with edits what plain hooks make of it,
one whole forward per token."""

from __future__ import annotations

import functools
from importlib import import_module
from math import inf

import families
import numpy as np
import pytest
import torch
from families import FEW, KINDS, NAMES
from oracle import Oracle
from test_exactness import kernels_of, subject_of
from transformers import GenerationConfig, WatermarkingConfig

import rgb_circuit as rgb
from rgb_circuit.models.planted import Placement, planted
from rgb_circuit.models.random import random_llava
from rgb_circuit.prompts import encode

LAST = families.LAYERS - 1
TOKENS = 4


@pytest.fixture(scope="module", params=NAMES)
def subject(request):
    return subject_of(request.param)


class Talker:
    """A family's bare model with hooks; what it said stands behind its prompt."""

    def __init__(self, name):
        self.subject = subject_of(name)
        self.said = []
        self.oracle = Oracle(self.subject.bare.model, self.inputs)
        self.length = len(self.subject.spots["all"])
        # A whole forward over an image token that was said would look for its picture.
        self.image = self.subject.module.config.image_token_id

    def inputs(self, trial, condition):
        made = self.subject.bare.inputs(trial, condition)
        for key, value in made.items():
            if value.shape == made["input_ids"].shape and self.said and key != "input_ids":
                tail = torch.full((1, len(self.said)), key == "attention_mask", dtype=value.dtype)
                made[key] = torch.cat([value, tail], 1)
        made["input_ids"] = torch.cat(
            [made["input_ids"], torch.tensor([self.said], dtype=torch.long)], 1
        )
        return made

    def seen(self, condition, kind, layer):
        """What an unchanged run over the prompt has there."""
        self.said = []
        return self.oracle.unchanged(self.subject.trials[0], condition)[1][kind][layer]

    @functools.cached_property
    def unedited(self):
        return self.says("erased", lambda there: [])

    def says(self, condition, changes):
        """Ids, and logits of each token and of the likeliest other.

        Args:
            changes: a function of the places of what was said.
        """
        self.said, logits = [], []
        end = self.subject.module.generation_config.eos_token_id
        for step in range(TOKENS):
            if end is not None and self.said[-1:] == [end]:
                break
            total = self.length + step
            # Some families' prompts attend to later tokens, but never to what is said.
            unseen = [
                (
                    "bias",
                    layer,
                    None,
                    [place],
                    list(range(max(self.length, place + 1), total)),
                    -inf,
                )
                for layer in range(families.LAYERS)
                for place in range(total - 1)
            ]
            unseen = unseen if self.subject.family.attends == "all" else []
            there = [self.length + one for one in range(step)]
            now = self.oracle.run(self.subject.trials[0], condition, [*changes(there), *unseen])[0]
            allowed = now.clone()
            allowed[self.image] = -inf
            self.said.append(int(allowed.argmax()))
            others = now.clone()
            others[self.said[-1]] = -inf
            logits.append(torch.stack([now[self.said[-1]], others.max()]))
        return self.said, torch.stack(logits).numpy()


talker_of = functools.cache(Talker)


def variants_of(talker, words):
    """Name → edits, and the oracle's changes, given the places of what was said."""
    spots, image = talker.subject.spots, talker.subject.image
    prompt = spots[words]

    def on(there):
        return [*prompt, *there] if words in ("end", "all") else prompt

    def seen(*what):
        return talker.seen(*what)

    z, out, query = seen("clean", "z", 1), seen("moved", "attn_out", 0), seen("swapped", "query", 1)
    return {
        "scaled": (
            [
                rgb.Edit(1, 1, "own", positions=words, scale=-2.0),
                rgb.Edit(0, None, "own", "mlp_out", words, 1.5),
                rgb.Edit(2, None, "own", "resid_pre", words, 0.8),
            ],
            lambda there: [
                ("scale", 1, 1, on(there), -2.0, "z"),
                ("scale", 0, None, on(there), 1.5, "mlp_out"),
                ("scale", 2, None, on(there), 0.8, "resid_pre"),
            ],
        ),
        "zeroed": (
            [
                rgb.Edit(LAST, 0, "zero", positions=words),
                rgb.Edit(1, None, "zero", "attn_out", words),
            ],
            lambda there: [
                ("scale", LAST, 0, on(there), 0.0, "z"),
                ("scale", 1, None, on(there), 0.0, "attn_out"),
            ],
        ),
        "from another picture": (
            [
                rgb.Edit(1, 2, "clean", positions=words, scale=2.0),
                rgb.Edit(0, None, "moved", "attn_out", words),
            ],
            lambda there: [("z", 1, 2, prompt, 2 * z), ("attn_out", 0, None, prompt, out)],
        ),
        "looking as at another picture": (
            [rgb.Edit(1, head, "swapped", "query", words) for head in range(families.HEADS)],
            lambda there: [
                ("query", 1, head, prompt, query[head]) for head in range(families.HEADS)
            ],
        ),
        "looking elsewhere": (
            [
                rgb.AttentionEdit(0, 2, queries=words, keys=tuple(image[1:9]), bias=2.5),
                rgb.AttentionEdit(1, queries=words, keys=tuple(image[:3])),
                rgb.AttentionEdit(LAST, queries=words, keys="text", bias=-1.5),
            ],
            lambda there: [
                ("bias", 0, 2, on(there), image[1:9], 2.5),
                ("bias", 1, None, on(there), image[:3], -inf),
                *(
                    ("bias", LAST, None, on(there), [place], -1.5)
                    for place in [*sorted(set(spots["all"]) - set(image)), *there]
                ),
            ],
        ),
    }


def test_without_edits_it_says_what_hugging_face_lets_it_say(subject):
    for kernel in kernels_of(subject.name):
        model, trial = subject.model(kernel), subject.trials[0]
        said = rgb.generate(model, trial, "swapped", max_new_tokens=TOKENS)
        inputs = encode(model, [(trial, "swapped")])
        wanted = model.nnsight._module.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        ids = wanted[0, inputs["input_ids"].shape[1] :].tolist()
        assert said.tokens["id"].tolist() == ids
        assert said.text == model.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert said.edited_text is None and set(said.tokens["run"]) == {"unedited"}


@pytest.mark.parametrize(
    "subject, words",
    [
        *((name, "end") for name in KINDS),
        *((name, words) for name in FEW for words in ("all", "tile")),
    ],
    indirect=["subject"],
)
def test_every_kind_of_edit_says_what_a_whole_forward_per_token_says(subject, words):
    talker, trial = talker_of(subject.name), subject.trials[0]
    both = variants_of(talker, words)
    plain = talker.unedited
    for name, (edits, changes) in both.items():
        wanted = talker.says("erased", changes)
        moved = np.abs(wanted[1][0] - plain[1][0]).max()
        assert moved > 1e-3 or words == "tile", name
        # Masks are added to the scores in one way by all kernels.
        for kernel in kernels_of(subject.name)[: None if words == "end" else 1]:
            model = subject.model(kernel)
            model.nnsight._module.generation_config.suppress_tokens = [talker.image]
            tokens = rgb.generate(model, trial, "erased", edits, TOKENS).tokens
            for run, (ids, logits) in (("unedited", plain), ("edited", wanted)):
                found = tokens[tokens["run"] == run]
                assert found["id"].tolist() == ids, (kernel, name, run)
                other = found["logit"] - found["margin"]
                assert np.abs(found["logit"] - logits[:, 0]).max() < 1e-4, (kernel, name, run)
                assert np.abs(other - logits[:, 1]).max() < 1e-4, (kernel, name, run)


@pytest.fixture(scope="module")
def known():
    """The planted model, which says the odd colour again and again, and a trial."""
    model = rgb.load("planted")
    return model, rgb.rgb_trials(model, 1, seed=3)[0]


READERS = [Placement.extractor, Placement.content_extractor, *Placement.redundant_pair]


def words(run, trial):
    """The roles of what a run said."""
    role = {word: name for name, word in trial.answers.items()}
    return [role[word] for word in run.split()]


def test_end_is_every_token_from_which_something_is_said_and_a_position_is_one_of_the_prompt(known):
    model, trial = known

    def silenced(positions, source="own"):
        edits = [rgb.Edit(*head, source, positions=positions, scale=0.0) for head in READERS]
        return rgb.generate(model, trial, edits=edits, max_new_tokens=3)

    said = silenced("end")
    assert words(said.text, trial) == ["odd"] * 3
    assert "odd" not in words(said.edited_text, trial)
    assert silenced("all").edited_text == said.edited_text == silenced("end", "zero").edited_text
    # Only the first token is said from the prompt's last one.
    assert words(silenced([-1]).edited_text, trial)[1:] == ["odd"] * 2
    assert words(silenced([-1]).edited_text, trial)[0] != "odd"


def test_what_comes_from_a_picture_is_written_into_the_prompt_alone(known):
    model, trial = known
    edits = [rgb.Edit(*head, "erased", positions="end") for head in READERS]
    said = words(rgb.generate(model, trial, edits=edits, max_new_tokens=3).edited_text, trial)
    assert said[0] != "odd" and said[1:] == ["odd"] * 2


def test_tokens_that_are_said_are_keys_of_all(toy):
    model = toy
    trial = rgb.rgb_trials(model, 1)[0]

    def logits(keys):
        edits = [rgb.AttentionEdit(layer, keys=keys, bias=2.0) for layer in range(model.n_layers)]
        tokens = rgb.generate(model, trial, edits=edits, max_new_tokens=3).tokens
        return tokens[tokens["run"] == "edited"]["logit"].to_numpy()

    length = encode(model, [(trial, "clean")])["input_ids"].shape[1]
    unedited = rgb.generate(model, trial, max_new_tokens=3).tokens["logit"].to_numpy()
    # The same number on all scores changes nothing; on all of the prompt's it does, once there are
    # others.
    np.testing.assert_allclose(logits("all"), unedited, atol=1e-4)
    assert abs(logits(list(range(length)))[1:] - unedited[1:]).max() > 1e-3


def test_the_first_token_is_what_play_and_patch_edits_say(toy):
    model = toy
    trials = rgb.rgb_trials(model, 3)
    played = rgb.play(model, trials, ["clean"])
    edits = [rgb.Edit(3, head, "erased") for head in range(4)] + [rgb.AttentionEdit(1, keys="tile")]
    patched = rgb.patch_edits(model, trials, {"edited": edits}, target="clean")
    for trial, answer in zip(trials, played["answer"]):
        tokens = rgb.generate(model, trial, edits=edits, max_new_tokens=1).tokens
        assert tokens["token"].tolist()[0] == answer
        own = patched[patched["trial"] == trial.name].set_index("answer")["patched_logit"]
        token = tokens["token"].iloc[1]
        assert token == own.idxmax()
        assert abs(own[token] - tokens["logit"].iloc[1]) < 1e-4


def test_an_end_token_ends_the_text_and_is_no_part_of_it(known):
    model, trial = rgb.wrap(*planted()[:2], name="ends"), known[1]
    tokenizer = model.processor.tokenizer
    # It says the second word again and again.
    end = tokenizer.convert_tokens_to_ids(trial.answers["odd"])
    model.nnsight._module.generation_config.eos_token_id = end
    edits = [rgb.Edit(*head, "erased", positions="end") for head in READERS]
    said = rgb.generate(model, trial, edits=edits, max_new_tokens=5)
    assert said.tokens.groupby("run")["step"].max().to_dict() == {"unedited": 0, "edited": 1}
    assert said.tokens["id"].iloc[-1] == end


def test_a_checkpoints_own_settings_hold_and_show_in_the_margin(known):
    model, trial = rgb.wrap(*planted()[:2], name="varied"), known[1]
    model.nnsight._module.generation_config.repetition_penalty = 30.0
    said = rgb.generate(model, trial, max_new_tokens=3)
    inputs = encode(model, [(trial, "clean")])
    wanted = model.nnsight._module.generate(**inputs, do_sample=False, max_new_tokens=3)
    assert said.tokens["id"].tolist() == wanted[0, inputs["input_ids"].shape[1] :].tolist()
    assert said.tokens["margin"].iloc[0] > 0 > said.tokens["margin"].iloc[1]


@pytest.fixture(scope="module")
def _talkative():
    model = rgb.wrap(*random_llava(layers=2), name="talks")
    return model, rgb.rgb_trials(model, 1)[0]


@pytest.fixture
def talkative(_talkative):
    """A random LLaVA, a trial, the ids that it says, and its generation configuration, for a test's
    own settings."""
    model, trial = _talkative
    module = model.nnsight._module
    before, module.generation_config = module.generation_config, GenerationConfig(eos_token_id=2)
    yield model, trial, by_hugging_face(model, trial), module.generation_config
    module.generation_config = before


def by_hugging_face(model, trial):
    """The ids that Hugging Face's own generate says."""
    inputs = encode(model, [(trial, "clean")])
    said = model.nnsight._module.generate(
        **inputs, do_sample=False, max_new_tokens=6, pad_token_id=0
    )
    return getattr(said, "sequences", said)[0, inputs["input_ids"].shape[1] :].tolist()


def by_us(model, trial):
    """The ids that rgb.generate says, without edits and with one that is next to none."""
    edits = [rgb.Edit(1, 1, "own", positions="all", scale=1 + 1e-7)]
    tokens = rgb.generate(model, trial, edits=edits, max_new_tokens=6).tokens
    return [tokens[tokens["run"] == run]["id"].tolist() for run in ("unedited", "edited")]


@pytest.mark.parametrize(
    "settings",
    [
        lambda ids: dict(repetition_penalty=30.0),
        lambda ids: dict(no_repeat_ngram_size=1),
        lambda ids: dict(bad_words_ids=[ids[:1]]),
        lambda ids: dict(suppress_tokens=ids[:2]),
        lambda ids: dict(begin_suppress_tokens=ids[:1]),
        lambda ids: dict(forced_eos_token_id=2),
        lambda ids: dict(eos_token_id=[ids[2], 2]),
        lambda ids: dict(min_new_tokens=6, eos_token_id=ids[1]),
        lambda ids: dict(sequence_bias=[[ids[:1], -10.0]]),
        lambda ids: dict(watermarking_config=WatermarkingConfig(bias=20.0)),
    ],
)
def test_what_a_checkpoint_says_of_its_tokens_holds(talkative, settings):
    model, trial, plain, configuration = talkative
    configuration.update(**settings(plain))
    wanted = by_hugging_face(model, trial)
    assert wanted != plain
    assert by_us(model, trial) == [wanted, wanted]


@pytest.mark.parametrize(
    "settings",
    [
        dict(do_sample=True, temperature=0.2, top_p=0.9, top_k=3, min_p=0.1),
        dict(use_cache=False),
        dict(cache_implementation="static"),
        dict(cache_implementation="offloaded"),
        dict(prefill_chunk_size=8),
        dict(prompt_lookup_num_tokens=3),
        dict(return_dict_in_generate=True, output_scores=True, output_logits=True),
        dict(output_attentions=True, output_hidden_states=True),
        dict(max_length=3, early_stopping=True, length_penalty=2.0),
        dict(guidance_scale=1.0, num_beams=1, num_return_sequences=1, penalty_alpha=0.0),
    ],
    ids=str,
)
def test_what_a_checkpoint_says_of_how_tokens_are_made_and_returned_is_overridden(
    talkative, settings
):
    model, trial, plain, configuration = talkative
    configuration.update(**settings)
    assert by_us(model, trial) == [plain, plain]


@pytest.mark.parametrize(
    "settings",
    [
        dict(num_beams=4),
        dict(num_return_sequences=2, num_beams=1),
        dict(guidance_scale=1.5),
        dict(penalty_alpha=0.6, top_k=4),
        dict(dola_layers="high"),
        dict(force_words_ids=[[3]]),
        dict(stop_strings=["red"]),
        dict(token_healing=True),
        dict(max_time=5.0),
        dict(cache_implementation="quantized"),
    ],
    ids=str,
)
def test_what_makes_it_another_text_than_one_greedy_one_is_refused_by_name(
    talkative, no_forward, settings
):
    model, trial, _, configuration = talkative
    for setting, value in settings.items():
        setattr(configuration, setting, value)
    setting, value = next(iter(settings.items()))
    with pytest.raises(rgb.InputError) as refused:
        rgb.generate(model, trial)
    assert f"configuration of 'talks' has {setting} = {value!r}, which" in str(refused.value)


def test_settings_that_transformers_refuses_are_refused_in_a_sentence(
    talkative, no_forward, monkeypatch
):
    model, trial, _, configuration = talkative
    configuration.early_stopping = "sometimes"
    with pytest.raises(
        rgb.InputError, match="refuses the generation configuration of 'talks' .*early_stop"
    ):
        rgb.generate(model, trial)


def test_generation_settings_in_the_models_own_configuration_are_refused():
    module, processor = random_llava(layers=2)
    module.config.repetition_penalty = 2.0
    model = rgb.wrap(module, processor, name="old")
    with pytest.raises(rgb.InputError, match="of 'old' has repetition_penalty, .*move it there"):
        rgb.generate(model, rgb.rgb_trials(model, 1)[0])


def test_it_shows_as_two_lines(known):
    model, trial = known
    odd = trial.answers["odd"]
    assert repr(rgb.generate(model, trial, max_new_tokens=2)) == f"says: {odd} {odd}"
    edits = [rgb.Edit(0, 0, "own", scale=0.5)]
    assert (
        repr(rgb.generate(model, trial, edits=edits, max_new_tokens=2))
        == f"unedited: {odd} {odd}\nedited:   {odd} {odd}"
    )


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"condition": "blurred"}, "has no condition 'blurred'"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; use a whole number from 1 on"),
        ({"edits": [rgb.Edit(9, 0)]}, "head 9.0 does not exist"),
        ({"edits": [rgb.Edit(0, 0, "mean")]}, "source 'mean' is of several trials"),
        ({"edits": [rgb.Edit(0, 0, "blurred")]}, "has no condition 'blurred'"),
        ({"edits": [rgb.AttentionEdit(0, keys="all")]}, "nothing to look at"),
        ({"edits": [rgb.Edit(0, 0), rgb.Edit(0, 0, "zero")]}, "edits head 0.0 twice"),
    ],
)
def test_what_cannot_be_said_is_refused_before_any_forward(known, monkeypatch, asked, sentence):
    model, trial = known
    # The package's name is the function's.
    monkeypatch.setattr(import_module("rgb_circuit.calls.generate"), "execute", None)
    with pytest.raises(rgb.InputError, match=sentence):
        rgb.generate(model, trial, **asked)
