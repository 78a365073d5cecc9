"""Several words that are accepted for one answer: their probabilities are added up, everywhere."""

from dataclasses import replace
from math import inf, log

import numpy as np
import pandas as pd
import pytest
import torch
import vocabularies
from brute_force import BruteForce
from oracle import Oracle
from PIL import Image
from test_attribute import assert_estimated

import rgb_circuit as rgb
from analyses.report.accuracy import accuracy
from rgb_circuit.calls import reference
from rgb_circuit.calls.attribute import STEPS
from rgb_circuit.conversation.answers import in_likeliest
from rgb_circuit.errors import InputError
from rgb_circuit.programs.pooled import pooled, pooled_shares
from rgb_circuit.prompts import answer_ids, answer_tokens, locate, prompt_ids
from rgb_circuit.trial import as_trials, described

CLOSE = dict(rtol=0, atol=2e-5)
EXPECTED = {"clean": "right"}
# Answers of one, two and three words.
WORDS = {"one": ("red",), "two": ("green", "cyan"), "three": ("blue", "black", "purple")}


def of_words(trial, words=WORDS):
    return replace(trial, answers=words, also={}, expected={})


@pytest.fixture(scope="module")
def trials(grouped):
    drawn = rgb.rgb_trials(grouped, 2, seed=3, odd="red", other="green", background="blue")
    return [of_words(trial) for trial in drawn]


@pytest.fixture(scope="module")
def apart(trials):
    """The same trials, with an answer for every word."""
    single = {word: word for words in WORDS.values() for word in words}
    return [of_words(trial, single) for trial in trials]


def ids_of(model, trial):
    """Of each answer the ids of its words, each read by itself."""
    single = of_words(trial, {word: word for words in WORDS.values() for word in words})
    tokens = answer_tokens(model, single)
    return [[tokens[word] for word in words] for words in WORDS.values()]


def over_words(logits, ids):
    """(…, vocabulary) → (…, answers)."""
    return torch.stack([torch.logsumexp(logits[..., own], -1) for own in ids], -1)


def by_words(frame, column, keys):
    """(rows, words): a column of the trials with an answer for every word, in the order of
    ``WORDS``."""
    table = frame.pivot(index=keys, columns="role", values=column)
    return table[[word for words in WORDS.values() for word in words]]


def test_a_restored_head_agrees_with_a_forward_per_head(grouped, trials):
    for component, positions in (("z", "end"), ("pattern", "end"), ("z", "all")):
        frame = rgb.patch_heads(
            grouped, trials, target="erased", component=component, positions=positions
        )
        for trial in trials:
            ids = ids_of(grouped, trial)
            for layer, head in grouped.heads():
                edit = rgb.Edit(layer, head, "clean", component, positions)
                logits = reference.patched_logits(grouped, trial, "erased", [edit])
                rows = frame.query("trial == @trial.name and layer == @layer and head == @head")
                np.testing.assert_allclose(rows["patched_logit"], over_words(logits, ids), **CLOSE)
            for column, condition in (("target_logit", "erased"), ("source_logit", "clean")):
                logits = reference.patched_logits(grouped, trial, condition, [])
                np.testing.assert_allclose(rows[column], over_words(logits, ids), **CLOSE)
        assert frame["answer"].cat.categories.tolist() == ["blue", "green", "red"]
        assert frame.groupby("role", observed=True)["effect"].std().min() > 1e-3


def test_a_knockout_agrees_with_plain_hooks(grouped, trials):
    trial, bare = trials[0], BruteForce(grouped.name)
    oracle, ids = Oracle(bare.model, bare.inputs), ids_of(grouped, trials[0])
    tokens = prompt_ids(grouped, [trial])[trial.name]
    end, image = (locate(grouped, trial, word, tokens) for word in ("end", "image"))
    frame = rgb.knockout(grouped, trial, queries="end", keys="image")
    before = over_words(oracle.unchanged(trial, "clean")[0], ids)
    for layer, rows in frame.groupby("layer"):
        cut = [("bias", layer, None, end, image, -inf)]
        wanted = over_words(oracle.run(trial, "clean", cut)[0], ids)
        np.testing.assert_allclose(rows["knocked_logit"], wanted, **CLOSE)
        np.testing.assert_allclose(rows["effect"], wanted - before, **CLOSE)


@pytest.mark.parametrize("method", ["atp", "atp-ig"])
def test_an_estimate_is_the_gradient_of_the_pooled_logit(grouped, trials, method):
    frame = rgb.attribute(grouped, trials, target="erased", positions="all", method=method)
    bare = BruteForce(grouped.name)
    for trial in trials:
        ids = ids_of(grouped, trial)
        flat = [token for own in ids for token in own]
        fractions = [0.0] if method == "atp" else [(step + 0.5) / STEPS for step in range(STEPS)]
        source = bare.gradients(trial, "clean", flat[:1])
        z = bare.gradients(trial, "erased", flat[:1])
        layers = [torch.zeros(len(WORDS), 1)] * len(z)
        for fraction in fractions:
            # Gradients of the words' logits, and by the chain rule that of the logarithm of the
            # summed exponentials of these.
            run = bare.gradients(trial, "erased", flat, "clean" if fraction else None, fraction)
            logits = _logits(grouped, bare, trial, flat, fraction)
            parts = torch.split(logits, [len(own) for own in ids])
            weights = torch.block_diag(*[part.softmax(0)[None] for part in parts])
            for layer, (_, gradient) in run.items():
                of_words = (gradient * (source[layer][0] - z[layer][0])).sum((1, 3))
                layers[layer] = layers[layer] + weights @ of_words / len(fractions)
        rows = frame.query("trial == @trial.name")
        # (layers, roles, heads) as the frame has them.
        assert_estimated(rows, torch.stack(layers).transpose(1, 2))


def _logits(model, bare, trial, flat, fraction):
    """Logits of the run whose embeddings are so far on the way from "erased" to "clean"."""
    mine, others = (bare.streams(trial, name)[0] for name in ("erased", "clean"))
    stream = mine + fraction * (others - mine)
    entering = bare.layers[0].register_forward_pre_hook(lambda module, given: (stream, *given[1:]))
    try:
        with torch.no_grad():
            return bare.model(**bare.inputs(trial, "erased")).logits[0, -1, flat]
    finally:
        entering.remove()


def test_a_lens_pools_what_it_says_of_each_word(grouped, trials, apart):
    keys, first = ["trial", "layer", "position"], [0, 1, 3]
    of_each, of_all = (rgb.lens(grouped, some, positions=(5, -1)) for some in (apart, trials))
    each = by_words(of_each, "logit", keys).to_numpy()
    wanted = np.stack([np.logaddexp.reduce(one, 1) for one in np.split(each, first[1:], 1)], 1)
    found = of_all.pivot(index=keys, columns="role", values="logit")[list(WORDS)]
    np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("component", ["z", "mlp_out"])
def test_a_part_of_a_lens_is_weighed_by_what_the_whole_says_there(
    grouped, trials, apart, component
):
    heads = ["head"] if component == "z" else []
    keys = ["trial", "position", "layer", *heads]
    said = rgb.lens(grouped, apart, positions=(5, -1), layers=[grouped.n_layers - 1])
    said = by_words(said, "logit", ["trial", "position"])
    ask = dict(component=component, positions=(5, -1))
    each = by_words(rgb.lens(grouped, apart, **ask), "logit", keys)
    found = rgb.lens(grouped, trials, **ask).pivot(index=keys, columns="role", values="logit")
    for role, words in WORDS.items():
        likely = np.exp(said[list(words)])
        likely = likely.div(likely.sum(axis=1), axis=0)
        weights = likely.loc[each.index.droplevel(keys[2:])].to_numpy()
        wanted = (each[list(words)].to_numpy() * weights).sum(1)
        np.testing.assert_allclose(found[role].loc[each.index], wanted, **CLOSE)


def test_direct_effects_add_up_to_the_logit_less_the_entropy_of_its_words(grouped, trials, apart):
    shares = rgb.direct_effects(grouped, trials).groupby(["trial", "role"], observed=True)
    found = shares["direct_effect"].sum().unstack()
    played, each = (rgb.play(grouped, some, ["clean"]) for some in (trials, apart))
    for role, words in WORDS.items():
        likely = np.exp(each[[f"logit_{word}" for word in words]].to_numpy())
        likely /= likely.sum(1, keepdims=True)
        entropy = -(likely * np.log(likely)).sum(1)
        assert (entropy > 0.01).all() == (len(words) > 1) and (
            entropy <= log(len(words)) + 1e-6
        ).all()
        wanted = played[f"logit_{role}"] - entropy
        np.testing.assert_allclose(found.loc[played["trial"], role], wanted, rtol=0, atol=1e-4)
    effects = rgb.direct_effects(grouped, trials).query("component == 'head'")
    keys = ["trial", "layer", "head", "role"]
    both = rgb.lens(grouped, trials, component="z").merge(effects, on=keys)
    np.testing.assert_allclose(both["logit"], both["direct_effect"], **CLOSE)


def test_any_accepted_word_is_right_and_all_of_them_are_named(planted):
    [trial] = rgb.rgb_trials(planted, 1, odd="red", other="green", background="blue")

    def asked(name, words):
        answers = {"right": words, "other": "green"}
        return replace(trial, name=name, answers=answers, expected={"clean": "right"})

    some = [asked("one", "red"), asked("last", ("cyan", "red")), asked("none", ("cyan", "black"))]
    played = rgb.play(planted, some, ["clean", "erased"])
    clean, erased = (played[played["condition"] == name] for name in ("clean", "erased"))
    assert clean["answer"].tolist() == ["red"] * 3
    assert clean["correct"].tolist() == [True, True, False]
    assert clean["expected"].tolist() == ["red", "cyan", "cyan"]
    assert clean["accepted"].tolist() == ["red", "cyan / red", "cyan / black"]
    assert erased[["expected", "accepted", "correct"]].isna().all(axis=None)
    assert "accepted" not in rgb.play(planted, some[0])
    assert "cyan / red" in some[1]._repr_html_()


def test_the_table_of_accuracy_names_all_words_that_are_accepted_for_an_answer():
    rows = [("cyan", "Red"), ("cyan", "black"), ("blue",)]
    picture = Image.new("RGB", (24, 24))
    trials = [
        rgb.Trial(str(n), "<image>", {"clean": picture}, {"right": words}, expected=EXPECTED)
        for n, words in enumerate(rows)
    ]
    columns = ["trial", "condition", "expected", "answer", "correct", "accepted", "logit_right"]
    played = pd.DataFrame(
        [(str(n), "clean", words[0], "red", n == 0, " / ".join(words), 1.0)
         for n, words in enumerate(rows)],
        columns=columns,
    )  # fmt: skip
    table = accuracy(played, trials).query("by == 'answer'")
    assert table[["level", "right", "n"]].values.tolist() == [
        ["blue", 0, 1],
        ["cyan / Red / black", 1, 2],
    ]
    assert table["chance"].tolist() == [0.5, 0.5]


def test_one_word_has_its_own_logit_and_share_to_the_last_bit():
    generator = torch.Generator().manual_seed(0)
    logits = 30 * torch.randn(50, 7, generator=generator)
    asked = torch.tensor([[3, -1, -1], [5, -1, -1], [0, 1, 2]])
    assert torch.equal(pooled(logits, asked)[:, :2], logits[:, [3, 5]])
    assert torch.equal(pooled_shares(logits, logits[0], asked)[:, :2], logits[:, [3, 5]])
    leaf = logits.clone().requires_grad_()
    pooled(leaf, asked)[:, 0].sum().backward()
    assert torch.equal(leaf.grad[:, 3], torch.ones(50)) and leaf.grad.count_nonzero() == 50


def test_words_beside_leave_an_answer_of_one_word_as_it_is(grouped, trials):
    """Equal to the last bit, whatever is accepted for the other answers."""
    plain = [of_words(trial, {role: words[0] for role, words in WORDS.items()}) for trial in trials]
    for ask in (
        lambda some: rgb.patch_heads(grouped, some, target="erased"),
        lambda some: rgb.attribute(grouped, some, target="erased"),
        lambda some: rgb.direct_effects(grouped, some),
        lambda some: rgb.lens(grouped, some),
    ):
        one, other = (ask(some).query("role == 'one'") for some in (plain, trials))
        numbers = one.select_dtypes("number").columns
        assert one[numbers].equals(other[numbers])


def test_words_that_begin_with_one_token_count_once():
    llama = vocabularies.llama_like()

    def reading(answers, forms=("space, as given",)):
        return in_likeliest(llama, "USER: <image>\nWhich?\nASSISTANT:", answers, forms, "m", inf)

    found = reading({"right": ("red", "Red"), "other": ("blue",)}, ["capital"])
    assert len(found.ids["right"]) == 1 and found.tokens["right"] == found.ids["right"][0]
    assert [piece.word for piece in found.pieces["right"]] == ["red", "Red"]
    # All words of both answers begin with a space of its own here, and are read behind it.
    numbers = reading({"right": ("3", "4"), "other": ("5",)})
    assert numbers.behind == " " and len(set(sum(numbers.ids.values(), ()))) == 3
    # What the words of a single answer share tells nothing apart from anything.
    alone = reading({"right": ("13", "18")})
    assert alone.behind == " " and len(alone.ids["right"]) == 1
    assert reading({"right": ("13",), "other": ("18",)}).behind == " 1"
    with pytest.raises(InputError, match="both begin with .* leave out those that do not"):
        reading({"right": ("13", "3"), "other": ("18",)})


def test_a_trial_takes_several_words_in_either_way_and_keeps_its_content_without_any(trials):
    trial = trials[0]
    assert trial.answers == {"one": "red", "two": "green", "three": "blue"}
    assert trial.also == {"two": ("cyan",), "three": ("black", "purple")}
    assert trial.accepted["three"] == "blue / black / purple"
    again = replace(
        trial, answers=trial.answers, also={"two": ["cyan"], "three": ["black", "purple"]}
    )
    assert again == trial and again.content == trial.content
    single = of_words(trial, trial.answers)
    assert "also" not in described(single) and single.content != trial.content
    assert of_words(trial, {"one": ("red", " red ")}).also == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            dict(answers={"right": ("red", "blue"), "other": "Blue"}),
            "one word for two roles, 'blue'",
        ),
        (dict(answers={"right": ()}), "'right' .* is a list without a word; give at least one"),
        (dict(answers={"right": ["red", 1.5]}), "'right' .* is 1.5"),
        (dict(answers={"right": "red"}, also={"other": ["blue"]}), "further words for 'other'"),
        (dict(answers={"right": "red"}, also=["blue"]), "the also of trial .* are a list"),
    ],
    ids=["twice", "empty", "number", "role", "kind"],
)
def test_words_that_cannot_be_used_are_refused(trials, given, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(trials[0], **{"also": {}, "expected": {}, **given})


def test_pieces_have_a_row_for_every_word(grouped, trials):
    pieces = rgb.answer_pieces(grouped, trials[0])
    assert pieces["answer"].tolist() == [word for words in WORDS.values() for word in words]
    assert pieces["token"].tolist() == sum(map(list, answer_ids(grouped, trials[0]).values()), [])


def test_trials_that_accept_the_same_words_in_another_order_have_one_answer(grouped, trials):
    first, second = trials
    turned = of_words(second, {role: words[::-1] for role, words in WORDS.items()})
    scored = [replace(one, expected={"clean": "three"}) for one in (first, turned)]
    frame = rgb.patch_heads(grouped, scored, target="erased", heads=[(0, 0)], progress=False)
    assert frame.groupby("role", observed=True)["answer"].nunique().eq(1).all()
    played = rgb.play(grouped, scored, progress=False)
    table = accuracy(played, scored)
    assert table.loc[table["by"] == "answer", "level"].tolist() == ["blue / black / purple"]
    # What statistics are told of, and nothing is done where words stand in one order already.
    assert [one.words for one in as_trials(scored)] == [first.words] * 2
    assert all(one is own for one, own in zip(as_trials(trials), trials))
