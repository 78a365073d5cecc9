"""Restoring a head across questions: the picture stays, the question changes."""

from dataclasses import replace

import numpy as np
import pytest
from brute_force import BruteForce

import rgb_circuit as rgb
from analyses.task_reading import evidence, heads, patch_questions, reading
from rgb_circuit.prompts import answer_tokens
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION, ODD_QUESTION

# Words of the small models' vocabulary; as many as the odd question has.
AS_LONG = "Which color is the background color background? Respond in one word"


@pytest.fixture(scope="module")
def trials(model):
    return rgb.rgb_trials(model, 2, seed=3)


def asking(trial, question):
    return replace(trial, prompt=trial.prompt.replace(ODD_QUESTION, question))


@pytest.mark.parametrize(
    ("question", "aligned", "differing"), [(BACKGROUND_QUESTION, False, 1), (AS_LONG, True, 3)]
)
def test_patching_across_questions_agrees_with_plain_hooks(
    model, trials, question, aligned, differing
):
    bare = BruteForce(model.name)
    frame = patch_questions(model, trials, question=question, progress=False)
    assert frame["aligned"].unique().tolist() == [aligned]
    tail = len("? Respond in one word ASSISTANT :".split())
    # Counted from the end: "odd color out" is three words, of which "background" takes the last
    # one's place.
    places = {"end": [-1], "after": range(-tail, 0), "words": range(-tail - differing, -tail)}
    assert set(frame["positions"]) == set(places)
    for trial in trials:
        source_logits, source_z, *_ = bare.unpatched(
            replace(asking(trial, question), name=f"{trial.name} {question}"), "clean"
        )
        target_logits, target_z, *_ = bare.unpatched(trial, "clean")
        length, roles = len(target_z[0]), answer_tokens(model, trial)
        for place, positions in places.items():
            for layer, head in model.heads():
                writes = [
                    (layer, head, length + position, source_z[layer][position, head])
                    for position in positions
                ]
                patched = bare.run(trial, "clean", writes)[0]
                rows = frame.query(
                    "trial == @trial.name and positions == @place and layer == @layer and head == "
                    "@head"
                )
                rows = rows.set_index("role")
                for role, token in roles.items():
                    assert rows.loc[role, "patched_logit"] == pytest.approx(
                        float(patched[token]), abs=1e-5
                    )
                    assert rows.loc[role, "source_logit"] == pytest.approx(
                        float(source_logits[token]), abs=1e-5
                    )
                    assert rows.loc[role, "target_logit"] == pytest.approx(
                        float(target_logits[token]), abs=1e-5
                    )
    assert (
        frame.groupby("positions", observed=True)["effect"]
        .agg(lambda effect: effect.abs().max())
        .min()
        > 1e-3
    )


def test_places_that_are_asked_for_alone_give_the_same_rows(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    every = patch_questions(grouped, trials, question=AS_LONG, progress=False).set_index(
        "positions"
    )
    for place in ("end", "after", "words"):
        alone = patch_questions(
            grouped, trials, question=AS_LONG, positions=[place], progress=False
        )
        assert set(alone["positions"]) == {place}
        np.testing.assert_allclose(alone["effect"], every.loc[place, "effect"], atol=1e-5)


def test_trials_with_different_prompts_keep_their_order_and_values(grouped):
    first, second, third = rgb.rgb_trials(grouped, 3)
    longer = replace(second, prompt=second.prompt.replace("USER:", "USER: color USER:"))
    together = patch_questions(grouped, [first, longer, third], progress=False)
    assert list(together["trial"].unique()) == [first.name, longer.name, third.name]
    for trial in (first, longer, third):
        alone = patch_questions(grouped, [trial], progress=False)
        np.testing.assert_allclose(
            together.query("trial == @trial.name")["effect"], alone["effect"], atol=1e-5
        )


def test_the_frame_has_a_row_per_trial_place_head_role(grouped):
    frame = patch_questions(grouped, rgb.rgb_trials(grouped, 2), progress=False)
    columns = (
        "trial question aligned positions layer head role answer source_logit target_logit "
        "patched_logit effect"
    )
    assert list(frame.columns) == columns.split()
    assert len(frame) == 2 * 3 * len(grouped.heads()) * 5
    np.testing.assert_allclose(
        frame["effect"], frame["patched_logit"] - frame["target_logit"], rtol=0, atol=1e-6
    )


def test_some_heads_of_the_toy_switch_its_answer(toy):
    trials = rgb.rgb_trials(toy, 16)
    found = evidence(toy, trials, progress=False)
    columns = (
        "layer head prediction expected effect ci_low ci_high p_value q_value n holds "
        "restored_fraction"
    )
    assert list(found.columns) == columns.split()
    assert len(found) == 3 * len(toy.heads())
    readers = heads(found)
    assert 0 < len(readers) < len(toy.heads())
    assert (found["ci_low"] <= found["effect"]).all() and (
        found["effect"] <= found["ci_high"]
    ).all()
    # What holds is a good part of the whole difference between the two questions.
    assert found.loc[found["holds"], "restored_fraction"].min() > 0.05
    assert found["restored_fraction"].max() > 0.2


def test_a_model_that_does_not_read_the_question_is_told_so(planted):
    with pytest.raises(rgb.InputError, match="does not answer differently"):
        evidence(planted, rgb.rgb_trials(planted, 8), progress=False)


def test_reading_is_the_attention_of_the_bare_model(model, trials):
    bare = BruteForce(model.name)
    frame = reading(model, trials, progress=False)
    patterns = [bare.run(trial, "clean")[2] for trial in trials]
    words = [
        token
        for token in "Which color is the odd color out ? Respond in one word ASSISTANT :".split()
    ]
    start = len(patterns[0][0][0]) - len(words)
    for layer, head in model.heads():
        rows = frame.query("layer == @layer and head == @head")
        rows = rows.pivot(index="from_position", columns="to_position", values="attention")
        wanted = np.mean([one[layer][head].numpy() for one in patterns], axis=0)[start:, start:]
        np.testing.assert_allclose(rows.fillna(0), wanted, atol=1e-6)
    for side in ("from", "to"):
        named = frame.drop_duplicates(f"{side}_position").sort_values(f"{side}_position")
        assert named[f"{side}_word"].tolist() == words
        assert named[f"{side}_position"].tolist() == list(range(start, start + len(words)))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (ODD_QUESTION, "trials' own"),
        ("Which shape is it?", "not in the vocabulary"),
        (None, "does not hold"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(grouped, monkeypatch, question, message):
    monkeypatch.setattr("analyses.question_words.execute", None)
    trials = rgb.rgb_trials(grouped, 8)
    if question is None:
        trials, question = (
            [asking(trial, BACKGROUND_QUESTION) for trial in trials],
            BACKGROUND_QUESTION,
        )
    for analysis in (patch_questions, evidence):
        with pytest.raises(rgb.InputError, match=message):
            analysis(grouped, trials, question=question, progress=False)


def test_bad_trials_are_refused_before_any_forward(grouped, monkeypatch):
    monkeypatch.setattr("analyses.question_words.execute", None)
    trials = rgb.rgb_trials(grouped, 8)
    with pytest.raises(
        rgb.InputError, match="positions is .'start'.; name one or more of 'end', 'after', 'words'"
    ):
        evidence(grouped, trials, positions="start", progress=False)
    with pytest.raises(rgb.InputError, match="nothing to line up at words"):
        patch_questions(
            grouped, trials, question=ODD_QUESTION + " color", positions=["words"], progress=False
        )
    with pytest.raises(rgb.InputError, match="needs 5 or more"):
        evidence(grouped, trials[:3], progress=False)
    with pytest.raises(rgb.InputError, match="needs two answers"):
        evidence(grouped, trials, role="shape", progress=False)
    with pytest.raises(rgb.InputError, match="2 different prompts"):
        reading(grouped, [trials[0], asking(trials[1], BACKGROUND_QUESTION)], progress=False)
    with pytest.raises(rgb.InputError, match="ends with the picture"):
        reading(
            grouped,
            [replace(trials[0], prompt="Which color is the odd color out? <image>")],
            progress=False,
        )


def asked_again(trials):
    """The same as somebody's own trials, of which a condition asks the other question."""
    return [
        replace(
            trial,
            task=None,
            images={"clean": trial.images["clean"], "again": trial.images["clean"]},
            prompts={"again": trial.prompt.replace(ODD_QUESTION, BACKGROUND_QUESTION)},
            answers={"right": trial.answers["odd"], "other": trial.answers["background"]},
            expected={"clean": "right", "again": "other"},
        )
        for trial in trials
    ]


def test_own_trials_are_asked_what_their_other_condition_asks(grouped):
    """As the game's trials are asked its second question."""
    drawn = rgb.rgb_trials(grouped, 2, seed=3)
    own = asked_again(drawn)
    assert task_of(own).second_question == ("again", "other")
    roles = {"right": "odd", "other": "background"}
    for places in (["end"], ["after", "words"]):
        wanted, found = (
            patch_questions(grouped, some, positions=places, progress=False)
            for some in (drawn, own)
        )
        found["role"] = found["role"].astype(str).map(roles)
        keys = ["trial", "positions", "layer", "head", "role"]
        both = found.merge(wanted, on=keys, suffixes=("", "_wanted"))
        assert len(both) == len(found) and both["effect"].abs().max() > 1e-3
        np.testing.assert_array_equal(both["effect"], both["effect_wanted"])


def test_a_condition_that_changes_more_than_the_question_is_no_other_question(grouped, no_forward):
    drawn = rgb.rgb_trials(grouped, 2)
    [trial, _] = asked_again(drawn)
    other = replace(trial, images={**trial.images, "again": drawn[0].images["recolored"]})
    assert task_of([other]).second_question is None
    with pytest.raises(rgb.InputError, match="shows another picture in 'again'"):
        patch_questions(grouped, [other], question="again", progress=False)
    with pytest.raises(rgb.InputError, match="asks the same in 'clean'"):
        patch_questions(grouped, [trial], question="clean", progress=False)


def test_own_trials_need_the_question_in_each_answer(planted):
    own = asked_again(rgb.rgb_trials(planted, 8))
    few = [replace(one, name=f"{one.name} {number}") for one in own[:4] for number in range(3)]
    with pytest.raises(rgb.InputError, match="12 trials in 4 clusters cannot be tested"):
        evidence(planted, few, progress=False)
