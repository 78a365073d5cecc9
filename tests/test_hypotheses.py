"""The hypotheses find the planted circuit, refuse its decoys, and find nothing where there is
nothing."""

import contextlib
import functools
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses import (
    background_writer,
    canvas_suppressor,
    color_extractor,
    half_localization,
    oddness,
    place_relay,
    poi_localization,
    roles,
)
from analyses.evidence import heads, power
from analyses.evidence.effects import Measured
from analyses.evidence.rules import Rules
from analyses.evidence.verdict import judge
from analyses.rgb import riddle
from rgb_circuit.calls.patching import Patched
from rgb_circuit.hypothesis import Claim, Hypothesis, Prediction, Sweep
from rgb_circuit.measuring.measure import measure
from rgb_circuit.models.planted import MODERATE_NOISE, UNKIND, Part, Placement, planted
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import COLORS, save
from rgb_circuit.stimuli.tasks import find

PLACEMENT = Placement()
EXTRACTORS = [PLACEMENT.extractor, PLACEMENT.content_extractor, *PLACEMENT.redundant_pair]
WRITERS = [PLACEMENT.early_background_writer, PLACEMENT.late_background_writer]
UP = ["P1a", "P1b", "P2b", "P3a", "P4", "P5", "P6", "P4w", "P5w"]
WORDS = [
    ("red", "green", "blue", "yellow"),
    ("green", "blue", "yellow", "red"),
    ("blue", "cyan", "black", "red"),
]
WORDS += [
    ("orange", "purple", "cyan", "green"),
    ("purple", "red", "orange", "black"),
    ("cyan", "black", "red", "blue"),
]
WORDS += [("yellow", "orange", "purple", "cyan"), ("black", "yellow", "green", "orange")]
COLUMNS = (
    "layer head prediction expected effect ci_low ci_high p_value q_value n holds state".split()
)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A LLaVA and processor → the model as loaded from a folder."""

    def from_folder(made):
        return rgb.load(str(save(*made[:2], tmp_path_factory.mktemp("model"))))

    return from_folder


@pytest.fixture(scope="module")
def plain():
    """The shipped planted model, without noise, and 12 trials."""
    model = rgb.load("planted")
    return model, rgb.rgb_trials(model, 12)


@pytest.fixture(scope="module")
def found(plain):
    """All evidence on the shipped planted model."""
    return roles.evidence(*plain, progress=False)


@pytest.fixture(scope="module")
def random_models(load):
    """Few models with many heads: what a run takes goes with its trials, hardly with its heads."""
    return [load(random_llava(seed, layers=2, heads=16, kv_heads=16)) for seed in range(4)]


def shuffled(trials, seed):
    """The trials with their pictures under each other's conditions."""
    rng = np.random.default_rng(seed)
    mixed = []
    for trial in trials:
        names = list(trial.images)
        images = dict(zip(names, (trial.images[name] for name in rng.permutation(names))))
        mixed.append(
            rgb.Trial(trial.name, trial.prompt, images, trial.answers, trial.tile, trial.grid)
        )
    return mixed


def effect(frame, head, prediction):
    rows = frame[
        (frame["layer"] == head[0])
        & (frame["head"] == head[1])
        & (frame["prediction"] == prediction)
    ]
    return float(rows["effect"].iloc[0])


# The planted circuit


@pytest.mark.parametrize("seed, split", [(0, True), (1, False)])
def test_every_planted_head_gets_its_role_and_no_decoy_another(load, seed, split):
    made = planted(noise=MODERATE_NOISE, seed=seed)
    model = load(made)
    table = roles.roles(model, rgb.rgb_trials(model, 16, seed=seed), split=split, progress=False)
    assert table["role"].tolist() == made[2]["role"].tolist()


def test_a_bare_circuit_is_found_without_its_decoys(load):
    made = planted(noise=MODERATE_NOISE, decoys=())
    model = load(made)
    table = roles.roles(model, rgb.rgb_trials(model, 16), progress=False)
    assert table["role"].tolist() == made[2]["role"].tolist()


def test_effects_are_the_planted_gains(found):
    for head, gain in zip(EXTRACTORS, (10, 6, 5, 5)):
        assert [
            effect(found, head, name) for name in ("P1a", "P1b", "P2a", "P2b")
        ] == pytest.approx([gain, gain, 0, gain], abs=0.01)
    poi = [
        effect(found, PLACEMENT.poi, name)
        for name in ("P3a", "P3b", "P4", "P5", "P6", "P4w", "P5w")
    ]
    assert poi == pytest.approx([20, 0, 20, 20, 20, 0, 0], abs=0.01)
    for head in WRITERS:
        writer = [
            effect(found, head, name) for name in ("P3a", "P3b", "P4", "P5", "P6", "P4w", "P5w")
        ]
        assert writer == pytest.approx([3, 0, 0, 0, 0, 3, 3], abs=0.01)
    # The gap is 24, the sum of what all parts do to the odd word.
    rows = found[(found["prediction"] == "P1b") & (found["effect"] > 1)]
    np.testing.assert_allclose(rows["effect"] / rows["restored_fraction"], 24, atol=0.01)


def test_nothing_goes_through_extractors_that_come_before(found):
    last = max(layer for layer, _ in EXTRACTORS)
    rows = found[(found["prediction"] == "P5") & (found["layer"] >= last)]
    assert (rows["effect"] == 0).all() and not rows["holds"].any()


def test_frozen_heads_are_those_of_a_joint_patch(plain, found):
    model, trials = plain
    edits = [rgb.Edit(*PLACEMENT.poi), *(rgb.Edit(*head, source="erased") for head in EXTRACTORS)]
    frame = rgb.patch_edits(model, trials, {"frozen": edits}, target="erased", progress=False)
    by_role = frame.groupby("role", observed=True)["effect"].mean()
    assert effect(found, PLACEMENT.poi, "P5w") == pytest.approx(
        by_role["background"] - by_role["other_background"], abs=1e-5
    )


def test_freezing_no_or_the_wrong_heads_is_no_evidence_of_mediation(plain):
    model, trials = plain
    void = poi_localization.evidence(model, trials, extractors=[], progress=False)
    rows = void[void["prediction"] == "P5"]
    assert rows["effect"].isna().all() and (rows["p_value"] == 1).all() and not rows["holds"].any()
    assert poi_localization.heads(void) == []
    wrong = poi_localization.evidence(
        model, trials, extractors=[PLACEMENT.late_background_writer], progress=False
    )
    assert poi_localization.heads(wrong) == []


def test_the_suppressor_ranks_last_and_has_no_role(found):
    table = roles.table(found).set_index(["layer", "head"])
    assert table["score"].idxmin() == PLACEMENT.suppressor
    assert table.loc[PLACEMENT.suppressor, ["role", "score"]].tolist() == [
        "none",
        pytest.approx(-2 / 24, abs=1e-3),
    ]
    assert table["score"].idxmax() == PLACEMENT.poi


def test_a_head_that_meets_two_hypotheses_is_called_by_both(found):
    head = PLACEMENT.extractor
    also = (found["layer"] == head[0]) & (found["head"] == head[1])
    table = roles.table(found.assign(holds=found["holds"] | also)).set_index(["layer", "head"])
    assert table.loc[head, "role"] == " + ".join(hypothesis.name for hypothesis in GAME.hypotheses)


# Each analysis by itself


@pytest.mark.parametrize(
    "analysis, names, heads",
    [
        (color_extractor, ["P1a", "P1b", "P1c", "P2a", "P2b", "P2c", "P2d"], sorted(EXTRACTORS)),
        (
            poi_localization,
            ["P3a", "P3b", "P3c", "P3d", "P4", "P5", "P6", "P5b", "P7"],
            [PLACEMENT.poi],
        ),
        (half_localization, ["P3n", "P3b", "P6", "P6p"], []),
        (background_writer, ["P3a", "P3b", "P3c", "P3d", "P4w", "P5w", "P5b", "P8"], WRITERS),
        (place_relay, ["P3a", "P3b", "P4", "P5", "P6", "P7r"], []),
        (canvas_suppressor, ["P3a", "P3b", "P4", "P5w", "P8s"], []),
        (oddness, ["P9a", "P9b"], []),
    ],
)
def test_evidence_has_a_row_per_head_and_prediction_and_the_contract_columns(
    plain, found, analysis, names, heads
):
    model, trials = plain
    frame = analysis.evidence(model, trials, progress=False)
    assert list(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert list(frame["prediction"].unique()) == names
    assert (
        len(frame)
        == len(frame[["layer", "head", "prediction"]].drop_duplicates())
        == 24 * len(names)
    )
    assert (frame["n"] == 12).all() and (frame["wrong"] == 0).all()
    assert (
        (frame["ci_low"] <= frame["effect"] + 1e-6) & (frame["effect"] <= frame["ci_high"] + 1e-6)
    ).all()
    assert (frame["holds"] == (frame["q_value"] <= 0.05)).all()
    # The evidence of all hypotheses together names the same heads.
    assert analysis.heads(frame) == analysis.heads(found) == heads


@pytest.fixture(scope="module")
def of_grouped(grouped):
    """Six trials for a random model, and all evidence on them."""
    trials = rgb.rgb_trials(grouped, 6)
    with warnings.catch_warnings(action="ignore"):
        return trials, roles.evidence(grouped, trials, split=False, progress=False)


@pytest.mark.parametrize(
    "name, source, target, role, shown",
    [
        ("P1a", "clean", "recolored", "odd", ("odd", "other", "background")),
        ("P1b", "clean", "erased", "odd", ("odd", "background")),
        ("P4", "clean", "swapped", "other_background", ("odd", "background", "other_background")),
        ("P6", "moved", "recolored", "background", ("odd", "other", "background")),
    ],
)
def test_evidence_relates_a_word_to_all_colours_that_neither_picture_shows(
    grouped, of_grouped, name, source, target, role, shown
):
    (trials, frame), wanted = of_grouped, 0
    for trial in trials:
        unshown = [word for word in COLORS if word not in [trial.answers[one] for one in shown]]
        assert len(unshown) == len(COLORS) - len(shown)
        every = replace(
            trial,
            answers={role: trial.answers[role], **{word: word for word in unshown}},
            expected={},
        )
        swept = rgb.patch_heads(grouped, [every], source=source, target=target, progress=False)
        words = swept.pivot_table(
            index=["layer", "head"], columns="role", values="effect", observed=True
        )
        wanted = wanted + (words[role] - words[unshown].mean(axis=1)) / len(trials)
    np.testing.assert_allclose(frame[frame["prediction"] == name]["effect"], wanted, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*answers")
def test_trials_of_other_words_are_related_to_their_own_colours(plain):
    model, trials = plain
    palette = {**rgb.PALETTE, "white": (255, 255, 255)}
    mine = rgb.rgb_trials(model, 6, odd="white", palette=palette)
    frame = color_extractor.evidence(model, mine, progress=False)
    swept = rgb.patch_heads(model, mine, target="erased", progress=False)
    words = swept.pivot_table(
        index=["layer", "head"], columns="role", values="effect", observed=True
    )
    wanted = words["odd"] - words[["other", "other_background"]].mean(axis=1)
    np.testing.assert_allclose(frame[frame["prediction"] == "P1b"]["effect"], wanted, atol=1e-5)


def test_split_tests_on_the_second_half_only_what_the_first_half_found(plain):
    found = roles.evidence(*plain, split=True, progress=False)
    assert (found["n"] == 6).all()
    assert not found[~found["found"]]["holds"].any()
    assert (found[~found["found"]]["q_value"] == 1).all()


def test_evidence_is_the_same_every_time(plain, found):
    pd.testing.assert_frame_equal(roles.evidence(*plain, progress=False), found)


def test_roles_ask_for_every_sweep_once(plain):
    model, trials = plain
    steps, asked = roles.steps(model, trials), []
    wanted = next(steps)
    with contextlib.suppress(StopIteration):
        while True:
            asked.append(wanted)
            wanted = steps.send(measure(model, wanted, progress=False))
    first, *later = asked
    sweeps = [one for one in first if isinstance(one, Patched)]
    assert len(sweeps) == len({one.key for one in sweeps}) == 12
    # Whether other heads stand in for the extractors, and what goes past these.
    assert [[one.target for one in step] for step in later] == [["clean"], ["erased", "erased"]]


# Simulated effects: the gap is 10 logits, an effect counts from 0.5, none is up to 1

GAP = 10.0
HERE, THERE = Sweep("erased"), Sweep("recolored")
UP_HERE, NONE_THERE = (
    Prediction("up", (Claim("odd", "up", HERE),)),
    Prediction("none", (Claim("odd", "none", THERE),)),
)
GAME = find("rgb")
ROLES = list(GAME.roles)
RULES = Rules(0.1, 0.05, 0.05, split=False)


def simulated(here, there=None, words=None):
    """Effects on the odd word (trials, heads) in the erased and the recolored picture, as if
    measured."""
    there = np.zeros_like(here) if there is None else there
    effects = {}
    for sweep, values in ((HERE, here), (THERE, there)):
        effects[sweep] = np.zeros((*values.shape, len(ROLES)))
        effects[sweep][..., ROLES.index("odd")] = values
    logits = {name: np.zeros((len(here), len(ROLES))) for name in ("clean", "erased", "recolored")}
    logits["clean"][:, ROLES.index("odd")] = GAP
    said = None
    if words is not None:
        said = np.full((len(here), len(ROLES)), "", dtype="U9")
        said[:, ROLES.index("odd")] = words
    return Measured(GAME, [(0, head) for head in range(here.shape[1])], effects, logits, said)


def test_a_prediction_holds_is_refuted_or_stays_undecided():
    noise = np.random.default_rng(0).normal(0, 1, 16)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    # Means above, below, and near the threshold of 0.5; the same as absences with a margin of 1.
    here = np.stack([2 + noise, -0.5 + 0.2 * noise, 0.6 + noise], axis=1)
    there = np.stack([3 + noise, 0.2 * noise, 0.9 + noise], axis=1)
    frame = judge(simulated(here, there), [[UP_HERE], [NONE_THERE]], RULES)
    states = frame.set_index(["prediction", "head"])["state"]
    assert states["up"].tolist() == ["holds", "refuted", "undecided"]
    assert states["none"].tolist() == ["refuted", "holds", "undecided"]
    assert frame["holds"].tolist() == (frame["state"] == "holds").tolist()
    assert frame["trials_to_decide"].notna().tolist() == (frame["state"] == "undecided").tolist()


def test_with_the_trials_that_it_asks_for_an_undecided_prediction_is_decided_four_times_of_five():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 16)
    few = 0.9 + (noise - noise.mean()) / noise.std(ddof=1)
    frame = judge(simulated(few[:, None]), [[UP_HERE]], RULES)
    assert frame["state"].tolist() == ["undecided"]
    needed = int(frame["trials_to_decide"].iloc[0])
    # Each of 300 heads as if it were the only one.
    again = judge(simulated(rng.normal(0.9, 1, (needed, 300))), [[UP_HERE]], RULES)
    decided = again["p_value"] <= RULES.level
    assert np.mean(decided) == pytest.approx(0.8, abs=0.07)


def test_a_head_that_serves_two_of_eight_colours_is_found_and_its_colours_are_named():
    words = np.tile(list("abcdefgh"), 4)
    serves = np.isin(words, ["b", "g"])
    noise = np.random.default_rng(0).normal(0, 0.2, len(words))
    frame = judge(simulated((serves * 6 + noise)[:, None], words=words), [[UP_HERE]], RULES)
    assert frame[["state", "words"]].to_numpy().tolist() == [["holds", "b, g"]]
    # Without knowing that colours were not drawn by chance, the mean of 1.5 is shown with a
    # thousand times the p.
    unknown = judge(simulated((serves * 6 + noise)[:, None]), [[UP_HERE]], RULES)
    assert frame["p_value"].iloc[0] < unknown["p_value"].iloc[0] / 1000


def test_false_roles_stay_rare_among_heads_that_fail_one_prediction_by_a_hair():
    # 2 true heads and 40 whose effect there is on the margin, of 200: for each prediction alone
    # most heads are true.
    rng = np.random.default_rng(0)
    both = Hypothesis("both", (UP_HERE, NONE_THERE))
    shares, found = [], 0
    for _ in range(60):
        here = np.zeros((16, 200))
        here[:, :42] = rng.normal(3, 0.5, (16, 42))
        there = rng.normal(0, 0.3, (16, 200))
        there[:, 2:42] += 1
        named = heads(judge(simulated(here, there), [both.predictions], RULES), both)
        wrong = [head for _, head in named if head >= 2]
        found += len(named) - len(wrong)
        shares.append(len(wrong) / max(1, len(named)))
    assert np.mean(shares) <= 0.05
    # Asking the mean and a count of trials costs an absence twice its p; of 16 trials the count
    # says little.
    assert found > 0.85 * 60 * 2


def test_halves_of_the_trials_take_twice_as_many_to_decide():
    here = np.random.default_rng(0).normal(0.6, 1, (16, 1))
    once = judge(simulated(here), [[UP_HERE]], RULES)
    split = judge(simulated(np.tile(here, (2, 1))), [[UP_HERE]], replace(RULES, split=True))
    assert np.isfinite(once["trials_to_decide"].item())
    assert split["trials_to_decide"].item() == 2 * once["trials_to_decide"].item()


def test_a_gap_of_less_than_half_a_logit_is_none():
    measured = simulated(np.full((16, 1), GAP))
    for size, void in ((0.4, "no gap"), (0.6, "")):
        logits = {name: size / GAP * run for name, run in measured.logits.items()}
        frame = judge(replace(measured, logits=logits), [[UP_HERE]], RULES)
        assert frame["void"].tolist() == [void]


def test_a_prediction_may_stand_in_for_another():
    either = Hypothesis("either", (UP_HERE, replace(NONE_THERE, instead_of="up")))
    noise = np.random.default_rng(0).normal(0, 0.1, (16, 3))
    here, there = noise + [3, 0, 0], noise + [5, 0, 5]
    assert heads(judge(simulated(here, there), [either.predictions], RULES), either) == [
        (0, 0),
        (0, 1),
    ]


def test_what_the_backgrounds_word_brings_along_is_no_effect_on_the_odd_word():
    # Heads write the background with 1 to 4 logits; each word brings its likeness to others along,
    # up to a half.
    rng = np.random.default_rng(0)
    words = list("abcdefgh")
    likeness = rng.uniform(-0.5, 0.5, (8, 8))
    likeness = (likeness + likeness.T) / 2
    np.fill_diagonal(likeness, 1)
    drawn = np.array([rng.permutation(8) for _ in range(32)])
    said = np.array(
        [
            [*(words[number] for number in order[:4]), "", *(words[number] for number in order[4:])]
            for order in drawn
        ]
    )
    numbers = np.array([[*order[:4], -1, *order[4:]] for order in drawn])
    written = rng.uniform(1, 4, (32, 3)) * [1, 1, 0.01]
    effects = np.stack(
        [written[t, :, None] * likeness[numbers[t, 2], numbers[t]] for t in range(32)]
    )
    effects[..., ROLES.index("none")] = 0
    truly = effects.copy()
    truly[:, 1, 0] += 2
    logits = {name: np.zeros((32, 9)) for name in ("clean", "erased")}
    logits["clean"][:, 0] = GAP
    claim = Claim("odd", "not up", HERE)
    measured = Measured(GAME, [(0, head) for head in range(3)], {HERE: truly}, logits, said)
    raw, without = measured.effect(claim), measured.without_similarity(claim)
    assert without[:, 0].std() < raw[:, 0].std() / 5
    # A true rise stays.
    assert without[:, 1].mean() == pytest.approx(2, abs=0.2)
    frame = judge(measured, [[Prediction("not", (claim,))]], RULES)
    assert frame["state"].tolist() == ["holds", "refuted", "holds"]


# Nothing to find


@pytest.mark.filterwarnings("ignore:.*answers")
@pytest.mark.parametrize("mix", [False, True], ids=["as they are", "labels shuffled"])
def test_at_most_five_percent_false_discoveries_on_random_models(random_models, mix):
    tables = []
    for seed, model in enumerate(random_models):
        trials = rgb.rgb_trials(model, 16, seed=seed)
        frame = roles.evidence(
            model, shuffled(trials, seed) if mix else trials, progress=False, split=seed % 2 == 0
        )
        tables.append(roles.table(frame))
    table = pd.concat(tables)
    assert len(table) == 4 * 32
    assert (table["role"] != "none").mean() <= 0.05
    assert table[UP].to_numpy().mean() <= 0.05


def test_true_absences_do_not_let_false_effects_through():
    # At the edge of what counts as an effect: none is one.
    edge = 0.05 * GAP + np.random.default_rng(0).standard_normal((16, 200))
    holds = (
        judge(simulated(edge), [[UP_HERE, NONE_THERE]], RULES).groupby("prediction")["holds"].sum()
    )
    assert holds["none"] == 200 and holds["up"] == 0


def test_shuffled_labels_take_the_planted_roles_away(plain):
    model, trials = plain
    table = roles.roles(model, shuffled(trials, 0), progress=False)
    assert (table["role"] == "none").all()


# The toy


def test_roles_of_the_toy_are_complete():
    model = rgb.load("toy")
    table = roles.roles(model, rgb.rgb_trials(model, 6), progress=False)
    assert (
        list(table.columns)
        == "layer head role score colors P1a P1b P1c P2a P2b P2c P2d P3a P3b P3c P3d P4 P5 P6 P5b "
        "P7 P3n P6p P7r P4w P5w P8 P8s P9a P9b P10".split()
    )
    assert list(zip(table["layer"], table["head"])) == model.heads()
    assert all(pd.api.types.is_bool_dtype(kind) for kind in table.dtypes.iloc[5:])


# The riddle


def test_riddle_tells_the_late_writer_from_the_head_that_localizes(found):
    frame = riddle.table(found)
    verdicts = frame.drop_duplicates(["layer", "head"]).set_index(["layer", "head"])[
        ["verdict", "route", "late"]
    ]
    assert verdicts.to_dict("index") == {
        PLACEMENT.early_background_writer: dict(
            verdict="writes the background", route="past the extractors", late=False
        ),
        PLACEMENT.poi: dict(verdict="localizes", route="through the extractors", late=False),
        PLACEMENT.late_background_writer: dict(
            verdict="writes the background", route="past the extractors", late=True
        ),
    }
    assert frame["prediction"].tolist() == list(riddle.ASKS) * 3


def test_the_closest_heads_are_those_that_restore_most_of_what_a_role_asks(found):
    nearest = roles.closest(found, 3)
    assert list(zip(nearest["layer"], nearest["head"])) == [
        PLACEMENT.poi,
        PLACEMENT.extractor,
        PLACEMENT.content_extractor,
    ]
    assert nearest["role"].tolist() == ["POI localization", "color extractor", "color extractor"]
    whole = roles.table(found).set_index(["layer", "head"])["score"]
    assert nearest["score"].tolist() == whole[list(zip(nearest["layer"], nearest["head"]))].tolist()


# What trials cannot show


def test_a_role_of_one_word_is_refused_in_a_sentence():
    model = rgb.load("planted")
    frame = roles.evidence(model, rgb.rgb_trials(model, 12, background="blue"), progress=False)
    assert set(frame.loc[frame["void"] == "one word", "prediction"]) == {"P4w", "P8s"}
    assert roles.refused(frame) == (
        "background writer and canvas suppressor cannot be shown where all trials have one "
        "background, since a head that always says "
        "that word would pass; vary the background"
    )
    named = roles.table(frame).set_index(["layer", "head"])["role"]
    assert (named[WRITERS] == "none").all() and named[PLACEMENT.poi] == "POI localization"


def test_without_a_word_for_nothing_oddness_alone_cannot_be_shown(plain):
    model, trials = plain
    frame = roles.evidence(
        model, [without(trial, role="none", name=trial.name) for trial in trials], progress=False
    )
    assert set(frame.loc[frame["void"] != "", "prediction"]) == {"P9a", "P9b"}
    assert roles.refused(frame).startswith(
        "oddness cannot be shown where trials have no answer 'none'"
    )
    assert (roles.table(frame)["role"] == "color extractor").sum() == 4


def test_power_is_the_smallest_share_that_these_trials_confirm(found, plain):
    steady, uneven = roles.power(found, 0.25), roles.power(found, 1.0)
    assert 0.05 < steady < 0.1 < uneven
    assert roles.power(found.assign(n=128), 1.0) < 0.1
    # And it is known before anything is measured.
    model, trials = plain
    said, too_few = power.beforehand(trials, GAME, len(model.heads()))
    assert said == power.in_words(f"{len(trials)} trials", steady, uneven) and not too_few
    assert power.beforehand(trials[:12], GAME, 1024)[1] == (
        "12 trials are too few to confirm one head alone among 1,024: it takes 16 or more."
    )
    assert power.smallest_share(15, 1024, 0.25) > 1 >= power.smallest_share(16, 1024, 0.25)


# Bad input


def without(trial, *, picture=None, role=None, name="mine"):
    images = {name: image for name, image in trial.images.items() if name != picture}
    answers = {name: word for name, word in trial.answers.items() if name != role}
    return rgb.Trial(name, trial.prompt, images, answers, trial.tile, trial.grid)


@pytest.mark.parametrize(
    "wanted, picture",
    [("P1a", "recolored"), ("P1b", "erased"), ("P4", "swapped"), ("P2c", "moved")],
)
def test_a_missing_picture_names_the_prediction(plain, wanted, picture):
    model, trials = plain
    with pytest.raises(
        rgb.InputError,
        match=f"'mine' has no picture '{picture}', so {wanted} cannot be tested; add images",
    ):
        roles.roles(model, [*trials[:11], without(trials[11], picture=picture)])


def test_a_missing_answer_names_the_prediction(plain):
    model, trials = plain
    with pytest.raises(
        rgb.InputError,
        match="'mine' has no answer 'other_background', so P1a cannot be tested; add answers",
    ):
        color_extractor.evidence(
            model, [*trials[:11], without(trials[11], role="other_background")]
        )
    # P1 and P2 do not need what only P4 shows.
    mine = [rgb.rgb_trial(*words, (2, 3), 6, 4) for words in WORDS]
    mine = [without(trial, picture="swapped", name=trial.name) for trial in mine]
    assert color_extractor.heads(color_extractor.evidence(model, mine, progress=False)) == sorted(
        EXTRACTORS
    )


def test_too_few_trials_says_how_many_are_needed(plain):
    model, trials = plain
    with pytest.raises(
        rgb.InputError, match="there are 4, and no test can reach 0.05 with fewer than 5; make more"
    ):
        color_extractor.evidence(model, trials[:4])
    with pytest.raises(
        rgb.InputError,
        match="there are 9, and no test can reach 0.05 with fewer than 10, half of them to find",
    ):
        roles.roles(model, trials[:9], split=True)
    with pytest.raises(rgb.InputError, match="fewer than 7"):
        color_extractor.evidence(model, trials[:5], level=0.01)


def test_wrongly_answered_trials_are_counted_and_left_out_only_on_request(plain):
    model, trials = plain
    # Nothing comes before the first tile, so the planted model cannot tell that it is odd.
    first = rgb.rgb_trial(tile=(0, 0), grid=6, tile_px=4)
    with pytest.warns(
        UserWarning, match="planted answers 1 of 9 trials wrongly .* only_correct=True"
    ) as told:
        kept = color_extractor.evidence(model, [*trials[:8], first], progress=False)
    assert {warning.filename for warning in told} == {__file__}
    assert (kept["wrong"] == 1).all() and (kept["n"] == 9).all()
    dropped = color_extractor.evidence(
        model, [*trials[:8], first], only_correct=True, progress=False
    )
    assert (dropped["wrong"] == 1).all() and (dropped["n"] == 8).all()
    with pytest.raises(rgb.InputError, match="1 answered wrongly are left out and 4 remain"):
        color_extractor.evidence(model, [*trials[:4], first], only_correct=True, progress=False)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(margin=0), "margin is 0; use a fraction of the gap above 0"),
        (dict(least=0.3), "least is 0.3; use a fraction of the gap from 0 to the margin, 0.1"),
        (dict(level=5), "the level is 5; use a number between 0 and 1"),
        (dict(extractors=[(9, 0)]), "head 9.0 does not exist in planted"),
    ],
)
def test_rules_that_make_no_sense_are_refused(plain, options, message):
    with pytest.raises(rgb.InputError, match=message):
        poi_localization.evidence(*plain, **options)


def test_evidence_of_another_analysis_is_refused(plain):
    frame = color_extractor.evidence(*plain, progress=False)
    with pytest.raises(
        rgb.InputError,
        match="the evidence has no prediction P3a, P3b, P3c, P3d, P4, P5, P5b, P6, P7",
    ):
        poi_localization.heads(frame)


# The riddle's rivals, planted


def rival(made, n=16):
    model, processor, truth = planted(**made)
    wrapped = rgb.wrap(model, processor, name="rival")
    evidence = roles.evidence(wrapped, rgb.rgb_trials(wrapped, n), progress=False)
    frame = riddle.table(evidence)
    return frame.drop_duplicates(["layer", "head"]).set_index(["layer", "head"]), evidence, truth


RIVALS = {
    "relay": (
        dict(
            decoys=(),
            without=("poi",),
            more=[(UNKIND["finder"], (1, 1)), (UNKIND["relay"], (2, 1))],
        ),
        (2, 1),
        "relays the place",
    ),
    "canvas suppressor": (
        dict(decoys=(), more=[(UNKIND["canvas_suppressor"], (5, 1))]),
        (5, 1),
        "holds the canvas's colour down",
    ),
    "oddness": (
        dict(decoys=(), more=[(UNKIND["oddness"], (5, 1))]),
        (5, 1),
        "says that a tile is odd",
    ),
    "POI with a hidden backup": (
        dict(decoys=(), more=[(UNKIND["backup"], (4, 0))]),
        (2, 1),
        "localizes",
    ),
    "POI read by two": (
        dict(decoys=(), more=[(UNKIND["second_reader"], (4, 3))]),
        (2, 1),
        "localizes",
    ),
    "late POI before a later extractor": (
        dict(layers=9, decoys=(), placement=Placement(poi=(6, 2), extractor=(8, 1))),
        (6, 2),
        "localizes",
    ),
}


@functools.cache
def noisy_rival(name):
    return rival(dict(noise=MODERATE_NOISE) | RIVALS[name][0])


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_of_the_riddle_is_called_what_it_is(name):
    _, head, verdict = RIVALS[name]
    shown, _, truth = noisy_rival(name)
    assert shown.loc[head, "verdict"] == verdict and shown.loc[head, "decide"] == ""
    assert shown.loc[head, "left"] == verdict
    true = truth[truth["role"].isin(riddle.EXPLANATIONS)]
    assert set(shown.index[shown["verdict"] != "undecided"]) == set(
        true[["layer", "head"]].itertuples(index=False, name=None)
    )


def test_a_fixed_word_is_no_background_writer_even_on_one_background():
    model, processor, _ = planted(decoys=(), more=[(UNKIND["fixed_word"], (5, 1))])
    wrapped = rgb.wrap(model, processor, name="fixed")
    for fixed in ({}, {"background": "blue"}):
        trials = rgb.rgb_trials(wrapped, 16, **fixed)
        table = roles.roles(wrapped, trials, progress=False).set_index(["layer", "head"])
        assert table.loc[(5, 1), "role"] == "none"


def test_an_undecided_head_is_told_what_is_left_and_what_would_decide():
    # With other backgrounds it is decided, as one of the rivals above.
    model, processor, _ = planted(decoys=(), more=[(UNKIND["canvas_suppressor"], (5, 1))])
    wrapped = rgb.wrap(model, processor, name="undecided")
    evidence = roles.evidence(
        wrapped, rgb.rgb_trials(wrapped, 16, background="blue"), progress=False
    )
    row = (
        riddle.table(evidence)
        .drop_duplicates(["layer", "head"])
        .set_index(["layer", "head"])
        .loc[(5, 1)]
    )
    assert row["verdict"] == "undecided" and row["left"] == "holds the canvas's colour down"
    assert row["decide"] == "P8s needs other backgrounds"


def test_heads_that_step_in_when_the_extractors_are_silent_are_frozen_with_them():
    _, evidence, _ = noisy_rival("POI with a hidden backup")
    frozen = evidence[evidence["frozen"]].drop_duplicates(["layer", "head"])
    assert list(zip(frozen["layer"], frozen["head"])) == [PLACEMENT.extractor, (4, 0)]


def test_the_mediated_share_of_a_head_that_two_read_is_what_was_planted():
    # The extractor takes 10 of 12 logits.
    _, evidence, _ = rival(dict(decoys=(), more=[(UNKIND["second_reader"], (4, 3))]))
    row = evidence[
        (evidence["layer"] == 2) & (evidence["head"] == 1) & (evidence["prediction"] == "P5")
    ].iloc[0]
    assert row["share"] == pytest.approx(10 / 12, abs=0.01) and row["holds"]
    assert row["share_low"] <= row["share"] <= row["share_high"]


def test_extractors_of_some_colours_are_named_with_these():
    words = [COLORS[index::4] for index in range(4)]
    read = [
        Part(f"reader {i}", "color extractor", "found", "color", "answer", 10.0, tuple(own))
        for i, own in enumerate(words)
    ]
    made = planted(
        noise=MODERATE_NOISE,
        decoys=(),
        without=("extractor",),
        more=[(part, (3, i)) for i, part in enumerate(read)],
    )
    wrapped = rgb.wrap(*made[:2], name="some colours")
    table = roles.roles(wrapped, rgb.rgb_trials(wrapped, 32), progress=False).set_index(
        ["layer", "head"]
    )
    assert table.loc[PLACEMENT.poi, "role"] == "POI localization"
    for number, own in enumerate(words):
        assert table.loc[(3, number), ["role", "colors"]].tolist() == [
            "color extractor",
            ", ".join(sorted(own)),
        ]
