"""Claims about where heads look: shares are read off pictures that are shown anyway, and tested by
head."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses import evidence, roles
from analyses.attention_statistics import attention_statistics
from analyses.evidence import lint, rivals
from analyses.evidence.looks import looked_at
from analyses.roles import standing
from rgb_circuit import InputError
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.hypothesis import Hypothesis, Look, Prediction
from rgb_circuit.measuring.attention_shares import AttentionShares
from rgb_circuit.measuring.measure import measure, units_of
from rgb_circuit.stimuli.tasks import find

GAME = find("rgb")
LOCALIZATION = rgb.read_hypotheses(
    Path(__file__).parents[1] / "examples" / "hypotheses" / "localization.toml"
)
READERS = {(3, 0), (3, 2), (4, 1), (4, 3)}
# Of the planted model, those that look at the odd tile as readers do and write nothing of it.
LOOKERS = {(1, 3), (2, 1), (3, 3), (4, 2), (5, 2)}


def of(name, *texts, **more):
    """A hypothesis of some claims, a prediction each."""
    return Hypothesis(
        name, tuple(Prediction.parse(f"{name}{n}", text) for n, text in enumerate(texts)), **more
    )


@pytest.fixture(scope="module")
def trials(planted):
    return rgb.rgb_trials(planted, 12)


@pytest.fixture(scope="module")
def localized(planted, trials):
    """The evidence on planted of the localization heads of the examples."""
    return evidence.examine(
        planted, trials, LOCALIZATION, task=GAME.with_hypotheses(LOCALIZATION), progress=False
    )


# What is measured


def test_shares_are_those_of_the_attention_that_a_forward_of_its_own_shows(grouped):
    trials = rgb.rgb_trials(grouped, 3)
    [shares] = measure(
        grouped, [AttentionShares(tuple(trials), "clean", ("image", "tile", "text"))]
    )
    found = shares.pivot(index=["trial", "layer", "head"], columns="at", values="value")
    known = attention_statistics(grouped, trials, progress=False).set_index(
        ["trial", "layer", "head"]
    )
    known = known.loc[found.index]
    np.testing.assert_allclose(found["tile"], known["tile"], atol=1e-6)
    np.testing.assert_allclose(found["image"], known["tile"] + known["picture"], atol=1e-6)
    np.testing.assert_allclose(found["image"] + found["text"], 1, atol=1e-6)
    np.testing.assert_allclose(found["entropy"], known["entropy"], atol=1e-5)


def test_shares_cost_no_picture_beside_a_sweep_and_change_nothing_of_it(grouped):
    trials = tuple(rgb.rgb_trials(grouped, 2))
    sweep = PatchedHeads.of(grouped, trials, "clean", "erased")
    looks = [
        AttentionShares(trials, "clean", ("image",)),
        AttentionShares(trials, "clean", ("tile", "text")),
    ]
    assert len(units_of(grouped, [sweep, *looks])) == len(trials)
    together, *seen = measure(grouped, [sweep, *looks])
    [alone] = measure(grouped, [sweep])
    pd.testing.assert_frame_equal(together, alone)
    for look, frame in zip(looks, seen):
        pd.testing.assert_frame_equal(frame, measure(grouped, [look])[0])


def test_a_share_is_held_against_even_attention_and_entropy_against_the_median_head(
    planted, trials
):
    frame = pd.DataFrame(
        [
            dict(trial="one", layer=0, head=head, at=at, value=value, even=even)
            for at, even, values in (
                ("tile", 0.25, (0.25, 1.0, 0.0)),
                ("entropy", 2.0, (1.5, 0.5, np.nan)),
            )
            for head, value in enumerate(values)
        ]
    )
    tile, entropy = Look("tile", "above even"), Look("entropy", "below median")
    one = [rgb.rgb_trial(tile=(1, 2), grid=6, tile_px=4, name="one")]
    found = looked_at([tile, entropy], {"clean": frame}, one)
    np.testing.assert_allclose(found[tile][0], [[0, 0.75, -0.25]])
    np.testing.assert_allclose(found[tile][1], [0.75])
    np.testing.assert_allclose(found[entropy][0], [[-0.5, 0.5, 0]])


# What is found


def test_attention_shows_readers_and_lookers_alike_and_their_outputs_tell_them_apart(localized):
    holds = evidence.by_prediction(localized, "holds")
    looking = holds[["L1", "L2", "L3"]].all(axis=1)
    assert {*map(tuple, looking.index[looking])} == READERS | LOOKERS
    assert {*map(tuple, evidence.heads(localized, LOCALIZATION[0]))} == READERS
    state = evidence.by_prediction(localized, "state")
    assert {state.loc[head, "L4"] for head in LOOKERS} == {"refuted"}


def test_the_rival_is_out_for_readers_and_open_for_lookers(localized):
    left = {
        head: standing.open_rivals(localized, LOCALIZATION[0], head) for head in READERS | LOOKERS
    }
    assert {head for head, names in left.items() if names} == LOOKERS


def test_a_share_has_its_interval_and_says_how_much_of_what_could_be_it_is(localized):
    rows = localized[(localized["prediction"] == "L3") & (localized["layer"] == 3)].set_index(
        "head"
    )
    assert rows.loc[0, "restored_fraction"] == pytest.approx(1) and rows.loc[0, "void"] == ""
    assert (rows["ci_low"] <= rows["effect"]).all() and (rows["effect"] <= rows["ci_high"]).all()


@pytest.mark.filterwarnings("ignore:.*wrongly on at least one picture")
def test_attention_is_tested_without_a_gap(grouped):
    """Of a model that does not answer by the picture."""
    looks = of("looker", "attention text above even: clean")
    frame = evidence.examine(grouped, rgb.rgb_trials(grouped, 8), [looks], progress=False)
    assert set(frame["void"]) == {""} and set(frame["state"]) > {"undecided"}


def test_a_prediction_under_not_must_be_refuted(planted, trials):
    looks, writes = "attention tile above even: clean", "odd up: z clean -> erased"
    idle = of("looker", looks, writes, refutes=("looker1",))
    frame = evidence.examine(planted, trials, [idle], progress=False)
    assert {*map(tuple, evidence.heads(frame, idle))} == LOOKERS
    # What is only not shown is not refuted: an idle head's restoring the other way round.
    assert rivals.exclusive([idle, of("writer", writes)]) == [("looker", "writer")]


def test_a_role_of_looks_alone_has_a_score_and_a_table(planted, trials):
    task = GAME.with_hypotheses([of("looker", "attention tile above even: clean")])
    frame = roles.evidence(planted, trials, task=task, progress=False)
    table = roles.table(frame, task)
    assert {*map(tuple, roles.heads(table, "looker"))} == READERS | LOOKERS
    assert table.loc[table["role"] == "looker", "score"].between(0.99, 1.01).all()
    assert roles.no_gap(frame, task) == ""


# What is said before


def test_a_file_of_looks_alone_is_said_to_say_nothing_of_what_heads_do():
    looks = of("looker", "attention image above even: clean")
    said = lint.lines([looks], GAME, 16, 24)
    assert any("but only by where a head looks" in line for line in said)
    assert any(line.startswith("Costs no sweeps") and "run anyway" in line for line in said)


def test_boxes_that_trials_must_have_are_named_and_what_must_be_refuted_is_no_effect():
    looks = of(
        "looker",
        "attention sky above even: clean",
        "odd up: z clean -> erased",
        refutes=("looker1",),
    )
    said = "\n".join(lint.lines([looks], GAME, 16, 24))
    assert "the task rgb has them; and trials with a box sky" in said
    assert "but only by where a head looks" in said
    assert "the odd word rises – must be refuted" in said


def test_what_is_not_picture_is_text():
    image, text = (
        of("a", "attention image above even: clean"),
        of("b", "attention text above even: clean"),
    )
    assert rivals.exclusive([image, text]) == [("a", "b")]
    assert rivals.exclusive([image, of("c", "attention text above even: erased")]) == []


def test_tokens_that_no_trial_has_are_refused_before_any_forward(planted, trials):
    looks = of("looker", "attention objekt above even: clean")
    with pytest.raises(
        InputError, match="looker0 asks for attention to 'objekt', and trial .* has no such box"
    ):
        evidence.needs(planted, trials, [looks], task=GAME)
