"""Words follow from states: there is no head of a role only where every head is refuted."""

import numpy as np
import pandas as pd
import pytest

from analyses import roles
from analyses.evidence import by_prediction, heads
from analyses.rgb import riddle
from analyses.roles import standing
from rgb_circuit.hypothesis import Hypothesis, Prediction


@pytest.fixture(scope="module")
def evidence():
    """Two heads on which every prediction is refuted, in the columns of `roles.evidence`."""
    names = [prediction.name for prediction in roles.GAME.predictions]
    rows = [
        dict(layer=layer, head=0, prediction=name)
        for name in dict.fromkeys(names)
        for layer in (0, 1)
    ]
    frame = pd.DataFrame(rows).assign(
        expected="up", effect=0.0, ci_low=0.0, ci_high=0.0, p_value=1.0, q_value=1.0, n=32,
        holds=False,
        state="refuted", trials_to_decide=np.nan, void="", restored_fraction=0.0, words="",
        outside=0.0, stray="",
    )  # fmt: skip
    return frame


def changed(evidence, layer, names, **values):
    """The evidence with some predictions of one head in another state."""
    frame = evidence.copy()
    frame.loc[(frame["layer"] == layer) & frame["prediction"].isin(names), list(values)] = list(
        values.values()
    )
    return frame


def predictions(role):
    return [prediction.name for prediction in roles.GAME.hypothesis(role).predictions]


def test_there_is_no_such_head_where_every_head_is_refuted(evidence):
    for stands in standing.standings(evidence).values():
        assert stands.state == "refuted" and stands.open.empty and not stands.heads
        assert standing.none_is(stands) == f"there is no {standing.a(stands.hypothesis)}"


def test_one_head_that_is_open_makes_it_undecided_and_says_what_it_lacks(evidence):
    names = predictions("color extractor")
    frame = changed(evidence, 1, names, state="holds", holds=True, restored_fraction=1.01)
    frame = changed(frame, 1, ["P2a"], state="undecided", holds=False, trials_to_decide=45.0)
    stands = standing.standings(frame)["color extractor"]
    assert stands.state == "undecided"
    assert standing.none_is(stands) == "no color extractor is shown (1 head is still open)"
    assert standing.nearly(stands) == (
        "1.0 restores 101\N{NO-BREAK SPACE}% and lacks P2a (undecided: 45 trials would decide)"
    )
    # One refuted prediction more, and nothing is open any longer.
    stands = standing.standings(changed(frame, 1, ["P1a"], state="refuted", holds=False))[
        "color extractor"
    ]
    assert standing.none_is(stands) == "there is no color extractor"


def test_a_head_with_all_predictions_has_the_role(evidence):
    frame = changed(evidence, 0, predictions("POI localization"), state="holds", holds=True)
    stands = standing.standings(frame)["POI localization"]
    assert stands.state == "shown" and stands.heads == [(0, 0)]


def test_what_cannot_be_tested_is_neither_there_nor_not_there(evidence):
    frame = evidence.assign(state="undecided", void="no gap", restored_fraction=np.nan)
    for stands in standing.standings(frame).values():
        assert stands.state == "untested"
        one = standing.one_of([stands.hypothesis])
        assert standing.none_is(stands) == f"whether there is {one} cannot be tested"


def test_that_no_extractor_comes_later_is_not_said_where_none_is_known(evidence):
    passing = changed(evidence, 0, ["P3a", "P3b"], state="holds", holds=True)
    assert riddle.table(passing)["late"].isna().all()
    known = changed(passing, 1, predictions("color extractor"), state="holds", holds=True)
    assert not riddle.table(known).set_index("layer").loc[0, "late"].any()
    table = riddle.table(changed(known, 1, ["P3a", "P3b"], state="holds", holds=True))
    assert table.set_index("layer").loc[1, "late"].all()


def test_a_prediction_that_another_stands_in_for_is_not_lacking(evidence):
    role = next(one for one in roles.GAME.hypotheses if any(len(slot) > 1 for slot in one.slots))
    slot = next(slot for slot in role.slots if len(slot) > 1)
    frame = changed(evidence, 0, predictions(role.name), state="undecided", trials_to_decide=45.0)
    assert set(slot) <= set(standing.lacking(frame, (0, 0), [role])["prediction"])
    frame = changed(frame, 0, slot[-1:], state="holds", holds=True)
    assert not set(slot) & set(standing.lacking(frame, (0, 0), [role])["prediction"])
    assert by_prediction(frame, "holds").loc[(0, 0), slot].any()


def test_a_trial_that_strays_is_counted_and_named(evidence):
    frame = changed(evidence, 1, predictions("color extractor"), state="holds", holds=True)
    frame = changed(frame, 1, ["P2a"], state="undecided", holds=False, trials_to_decide=45.0)
    frame = changed(frame, 1, ["P2a"], outside=1.0, stray="007")
    assert standing.nearly(standing.standings(frame)["color extractor"]).endswith(
        "lacks P2a (undecided: outside the margin in 1 of 32 trials, 45 trials would decide)"
    )
    (stray,) = standing.strays(frame, (1, 0), roles.GAME.hypothesis("color extractor")).to_dict(
        "records"
    )
    assert (stray["prediction"], stray["stray"], stray["outside"]) == ("P2a", "007", 1)
    assert standing.strays(frame, (0, 0), roles.GAME.hypothesis("color extractor")).empty


def test_one_prediction_that_cannot_be_tested_leaves_a_role_open(evidence):
    frame = changed(evidence, 0, predictions("color extractor"), state="undecided")
    frame.loc[frame["prediction"] == "P2a", ["void", "stray"]] = "no gap", "007"
    assert standing.standings(frame)["color extractor"].state == "undecided"
    # What is void has not failed in any trial.
    assert standing.strays(frame, (0, 0), roles.GAME.hypothesis("color extractor")).empty


def test_what_must_be_refuted_keeps_a_head_open_until_it_is():
    texts = [f"odd up: z clean -> {picture}" for picture in ("erased", "recolored", "moved")]
    parts = [Prediction.parse(name, text) for name, text in zip("ABC", texts)]
    reader = Hypothesis("reader", tuple(parts), refutes=("B", "C"))
    columns = dict(layer=0, head=0, void="", trials_to_decide=45.0, outside=0.0, stray="", n=32)

    def of(*states):
        rows = [dict(prediction=name, state=state) for name, state in zip("ABC", states)]
        frame = pd.DataFrame(rows).assign(**columns)
        return frame.assign(holds=frame["state"] == "holds")

    left = of("holds", "refuted", "undecided")
    assert not heads(left, reader) and standing.open_heads(left, reader) == [(0, 0)]
    assert list(standing.lacking(left, (0, 0), [reader])["prediction"]) == ["C"]
    assert heads(of("holds", "refuted", "refuted"), reader) == [(0, 0)]
    assert not standing.open_heads(of("holds", "refuted", "holds"), reader)


def test_a_score_is_the_furthest_from_zero_and_missing_without_one_of_its_gaps(evidence):
    scored = [one.score for one in roles.GAME.hypotheses]
    frame = evidence.assign(restored_fraction=0.2)
    frame = changed(frame, 1, scored[0], restored_fraction=-0.5)
    assert roles.table(frame)["score"].tolist() == pytest.approx([0.2, -0.5])
    several = next(one for one in roles.GAME.hypotheses if len(one.score) > 1)
    lost = changed(frame, 0, several.score[:1], restored_fraction=np.nan)
    scores = roles.scores_by_role(lost)[several.name]
    assert np.isnan(scores[0, 0]) and np.isfinite(scores[1, 0])


def test_colours_are_those_that_a_head_is_shown_to_do_everything_for(evidence):
    reads = roles.GAME.hypothesis("color extractor")
    frame = changed(evidence, 1, predictions(reads.name), state="holds", holds=True)
    for name, words in zip(reads.score, ("green, red", "green", "")):
        frame = changed(frame, 1, [name], words=words)
    assert roles.table(frame)["colors"].tolist() == ["", "green"]
