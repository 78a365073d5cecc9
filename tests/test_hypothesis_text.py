"""Claims are a line of text, read once and printed back the same; what cannot be read is said in a
sentence."""

from dataclasses import replace

import pytest

from rgb_circuit import InputError
from rgb_circuit.hypothesis import (
    EFFECTS,
    EXPECTATIONS,
    Claim,
    Hypothesis,
    Look,
    Prediction,
    Sweep,
    groups,
    merged,
    slots,
)
from rgb_circuit.stimuli.tasks import find

GAME = find("rgb")
UP = Claim("right", "up", Sweep("changed"))

LEGAL = {
    "right up: z clean -> changed": (UP,),
    "right up, other not down: pattern clean -> changed": (
        Claim("right", "up", Sweep("changed", component="pattern")),
        Claim("other", "not down", Sweep("changed", component="pattern")),
    ),
    "right up: value clean -> changed; other down: pattern moved -> changed": (
        Claim("right", "up", Sweep("changed", component="value")),
        Claim("other", "down", Sweep("changed", "moved", "pattern")),
    ),
    "right mostly through the readers: z clean -> changed": (
        Claim("right", "mostly", Sweep("changed", part="through", of="readers")),
    ),
    "right up past the readers: pattern over image clean -> changed": (
        Claim(
            "right",
            "up",
            Sweep("changed", component="pattern", part="past", over="image", of="readers"),
        ),
    ),
    "right below half: z clean without image -> changed": (
        Claim("right", "below half", Sweep("changed", without="image")),
    ),
    "right above others: z clean -> changed": (Claim("right", "above others", Sweep("changed")),),
    "none none: z zero -> changed": (Claim("none", "none", Sweep("changed", source="zero")),),
    "left shape not up: z as it is -> left erased": (
        Claim("left shape", "not up", Sweep("left erased", source="as it is")),
    ),
    "attention image above even, attention entropy below median: clean; attention box above even: "
    "new": (
        Look("image", "above even"),
        Look("entropy", "below median"),
        Look("box", "above even", "new"),
    ),
    # A role may be called so.
    "attention up: z clean -> changed": (Claim("attention", "up", Sweep("changed")),),
}


@pytest.mark.parametrize("text", LEGAL)
def test_a_text_is_these_claims_and_is_printed_back_the_same(text):
    prediction = Prediction.parse("B1", text)
    assert prediction.claims == LEGAL[text] and prediction.text == text


@pytest.mark.parametrize(
    "text",
    [
        " right  up ,other down :\n z clean ->  changed",
        "right up, other down: z clean → changed",
        "right up, other down: z clean->changed",
        "right up, other down,: z clean -> changed;",
    ],
)
def test_blanks_arrows_and_marks_behind_the_last_piece_do_not_matter(text):
    assert Prediction.parse("B1", text).text == "right up, other down: z clean -> changed"


@pytest.mark.parametrize("prediction", GAME.predictions, ids=lambda prediction: prediction.name)
def test_the_games_predictions_come_back_from_their_text(prediction):
    again = Prediction.parse(
        prediction.name,
        prediction.text,
        instead_of=prediction.instead_of,
        varied=prediction.varied,
        says=prediction.says,
    )
    assert again == prediction


@pytest.mark.parametrize(
    "text, said",
    {
        "": "prediction B1: '' has no ':'",
        "right up": "'right up' has no ':' between what is expected and what is done",
        "right: z clean -> changed": "'right' is no claim; write ROLE and one of up, down, mostly",
        "right upwards: z clean -> changed": "'right upwards' is no claim",
        "up: z clean -> changed": "'up' is no claim",
        "right up by readers: z clean -> changed": "'right up by readers' is no claim",
        "right up, , other up: z clean -> changed": "'' is no claim",
        "right up: z clean "
        "changed": "'z clean changed' is no sweep; write COMPONENT SOURCE -> TARGET",
        "right up: clean -> changed": "'clean -> changed' is no sweep",
        "right up: y clean -> "
        "changed": "the component of a sweep is 'y'; use one of z, pattern, value",
        "right up: z clean -> changed;; ": "'' has no ':'",
        "right up: z clean -> clean": "'z clean -> clean' leaves a head as it is",
        "right up: z own -> clean": "'z own -> clean' leaves a head as it is",
        "right up: z clean -> zero": "ends in 'zero', which is no picture",
        "right up: pattern zero -> clean": "takes attention from 'zero', which has none",
        "attention tile not above even: clean": "name it under 'not', since it must be refuted",
        "attention tile down: clean -> changed": "a claim about attention is of one picture, not "
        "of 'clean -> changed'",
        "right mostly: z clean -> changed": "'right mostly' is of the whole effect; say which part",
        "right below half: z clean -> "
        "changed": "'right below half' takes no attention away; say which",
        "attention image above "
        "even": "has no ':' between what is expected and what is done; write it like "
        "'attention image above even: clean'",
        "attention image over even: "
        "clean": "'attention image over even' says nothing of attention that",
        "attention entropy above even: clean": "does not go together: tokens are 'above even'",
        "attention image below median: clean": "does not go together: tokens are 'above even'",
        "attention all above even: "
        "clean": "'attention all' is of all tokens, where every head looks",
        "attention image above even: clean; right up: z clean -> "
        "changed": "speaks of attention and of the",
    }.items(),
)
def test_what_cannot_be_read_is_said_with_its_piece(text, said):
    with pytest.raises(InputError) as raised:
        Prediction.parse("B1", text)
    assert str(raised.value).startswith("prediction B1: ") and said in str(raised.value)


@pytest.mark.parametrize(
    "make, said",
    [
        (
            lambda: Claim("right", "upwards", Sweep("changed")),
            "what a claim expects is 'upwards'; use one of",
        ),
        (lambda: Claim("right", "up", "changed"), "a claim's sweep is 'changed'; give a Sweep"),
        (lambda: Claim("a, b", "up", Sweep("changed")), "the role of an answer is called 'a, b'"),
        (
            lambda: Sweep("changed", part="half"),
            "the part of an effect is 'half'; use one of whole",
        ),
        (lambda: Sweep("changed", part="past"), "name the heads that 'through' or 'past' goes by"),
        (lambda: Sweep("changed", of="readers"), "name the heads that 'through' or 'past' goes by"),
        (
            lambda: Prediction("B1", ()),
            "the claims of prediction 'B1' are (); give one Claim or more",
        ),
        (lambda: Prediction("B1", "right up: z clean -> changed"), "Prediction.parse('B1'"),
        (lambda: Hypothesis("reader", ()), "the predictions of hypothesis 'reader' are ()"),
        (
            lambda: Hypothesis("reader", (Prediction("B1", UP), Prediction("B1", UP))),
            "hypothesis 'reader' has two predictions 'B1'; rename one",
        ),
        (
            lambda: Hypothesis("reader", (Prediction("B1", UP),), score=("B2",)),
            "the score of hypothesis 'reader' is 'B2'; use one of B1",
        ),
        (
            lambda: Hypothesis("reader", (Prediction("B1", UP, instead_of="B2"),)),
            "B1 stands in for B2, which it does not have",
        ),
        (
            lambda: Hypothesis("reader", (Prediction("B1", UP),), refutes=("B2",)),
            "not of hypothesis 'reader' is 'B2'; use one of B1",
        ),
        (
            lambda: Hypothesis("reader", (Prediction("B1", UP),), refutes=("B1",)),
            "has only predictions that must be refuted; add one that must hold",
        ),
        (
            lambda: Hypothesis(
                "reader",
                (Prediction("B1", UP), Prediction("B2", UP, instead_of="B1")),
                refutes=("B2",),
            ),
            "B2 stands in for B1, so none of them can stand under not",
        ),
        (
            lambda: Look("image", "even"),
            "what a claim about attention expects is 'even'; use one of above even",
        ),
    ],
)
def test_a_value_that_means_nothing_is_refused_when_it_is_made(make, said):
    with pytest.raises(InputError) as raised:
        make()
    assert said in str(raised.value)


def test_a_claim_alone_may_be_given_without_a_tuple():
    assert Prediction("B1", UP) == Prediction("B1", (UP,))
    assert Hypothesis("reader", Prediction("B1", UP)).predictions == (Prediction("B1", UP),)


def test_every_expectation_is_an_effect_or_the_absence_of_one():
    sweep = Sweep("changed", without="image", part="past", of="readers")
    claims = [replace(UP, expected=expected, sweep=sweep) for expected in EXPECTATIONS]
    assert [claim.expected for claim in claims if claim.is_effect] == list(EFFECTS)


def test_one_name_for_two_things_is_refused_and_one_thing_of_two_hypotheses_is_one():
    first, other = Prediction("B1", UP), Prediction.parse("B1", "right down: z clean -> changed")
    assert merged([[first], [first]]) == (first,)
    with pytest.raises(
        InputError, match="two hypotheses have a prediction 'B1' that says two things"
    ):
        merged([[first], [other]])


def test_slots_and_groups_are_what_the_predictions_say():
    first, second = (
        Prediction("B1", UP),
        Prediction.parse("B2", "right not up: pattern clean -> changed"),
    )
    third = Prediction.parse(
        "B3", "right up through the readers: z clean -> changed", instead_of=("B2", "B9")
    )
    assert slots([first, second, third]) == [["B1"], ["B2", "B3"]] and groups([first, third]) == (
        "readers",
    )
    for_both = replace(third, instead_of=("B1", "B2"))
    assert slots([first, second, for_both]) == [["B1", "B3"], ["B2", "B3"]]
    assert Hypothesis("reader", (first, second, third)).score == ("B1",)
    assert Hypothesis("reader", (first, second, third)).finders == (first, second, third)
    unwanted = Prediction.parse("B5", "right up: z clean -> other")
    assert Hypothesis("reader", (first, unwanted), refutes=("B5",)).score == ("B1",)
    rival = Hypothesis("route", (replace(third, instead_of=None),))
    assert Hypothesis("reader", (first,), rivals=(rival,)).groups == ("readers",)
    for text in (
        "right above others: z clean -> changed",
        "right below half: z clean without image -> changed",
    ):
        narrow = Prediction.parse("B4", text)
        assert Hypothesis("reader", (first, narrow)).finders == (first,)
