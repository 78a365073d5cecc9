"""An audit says of a list of heads what plain runs say of it, and holds it against random ones."""

import json
from math import comb
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses import audit
from analyses.audit import measures
from analyses.audit.effects import _right
from analyses.audit.lists import alike
from analyses.audit.sentences import sentences
from analyses.circuit.resampling import RESAMPLED
from analyses.command import main
from rgb_circuit.heads import Head
from rgb_circuit.pictures import picture_hash
from rgb_circuit.statistics import benjamini_hochberg

READERS, WATCHER, IDLE = [(3, 0), (3, 2)], (3, 3), (0, 0)
LISTS = {"readers": READERS, "others": [WATCHER, IDLE]}


@pytest.fixture(scope="module")
def trials(planted):
    return rgb.rgb_trials(planted, 16)


@pytest.fixture(scope="module")
def frame(planted, trials):
    return audit.audit(planted, trials, LISTS, random_lists=4, progress=False)


def of_list(frame, name):
    return frame[frame["layer"].isna() & (frame["list"] == name)].set_index("measure")["value"]


def difference(frame, trials, column, target="erased"):
    """Right word of clean − right word of the target, a row per trial, from a frame of
    `patch_edits`."""
    wide = frame.pivot(index="trial", columns="role", values=column).loc[
        [trial.name for trial in trials]
    ]
    right = [trial.expected["clean"] for trial in trials]
    wrong = [trial.expected[target] for trial in trials]
    rows = range(len(trials))
    return np.array([wide[role].iloc[row] for row, role in zip(rows, right)]) - np.array(
        [wide[role].iloc[row] for row, role in zip(rows, wrong)]
    )


def test_a_list_restores_and_loses_what_plain_runs_say(planted, trials, frame):
    restore = {"list": [rgb.Edit(*head, "clean") for head in READERS]}
    silence = {"list": [rgb.Edit(*head, "mean") for head in READERS]}
    others = {
        "list": [rgb.Edit(*head, "erased") for head in planted.heads() if head not in READERS]
    }
    in_target = rgb.patch_edits(planted, trials, restore, target="erased", progress=False)
    clean = rgb.patch_edits(planted, trials, silence, target="clean", progress=False)
    alone = rgb.patch_edits(planted, trials, others, target="clean", progress=False)
    before, after = (
        difference(clean, trials, "target_logit"),
        difference(in_target, trials, "target_logit"),
    )
    gap = (before - after).mean()
    told = of_list(frame, "readers")
    assert told["restored"] == pytest.approx(
        (difference(in_target, trials, "patched_logit") - after).mean() / gap, abs=1e-5
    )
    assert told["lost (mean)"] == pytest.approx(
        (before - difference(clean, trials, "patched_logit")).mean() / gap, abs=1e-5
    )
    assert told["alone"] == pytest.approx(
        (difference(alone, trials, "patched_logit") - after).mean() / gap, abs=1e-5
    )


def test_heads_are_told_by_what_they_do(frame):
    verdict = audit.heads(frame).set_index(["layer", "head"])["verdict"].to_dict()
    assert verdict == {**dict.fromkeys(READERS, "causal"), WATCHER: "looks only", IDLE: "neither"}


def test_p_values_are_corrected_for_what_is_tried_together(frame):
    # The model is never in a state of zeros, so that measure decides nothing.
    deciding = frame["measure"].isin(["restored", "lost (mean)", "lost (resampling)"])
    tried = frame[frame["layer"].notna() & deciding]
    # Two sides of sixteen trials that agree; then any effect of a head, and the heads.
    assert tried["p_value"].min() == pytest.approx(2 * 0.5**16)
    by_head = tried.groupby(["layer", "head"])
    causal = (by_head["p_value"].min() * by_head.size()).clip(upper=1)
    found = audit.heads(frame).set_index(["layer", "head"]).loc[causal.index]
    for column, p in (("q_value", causal), ("q_absent", by_head["p_absent"].max())):
        wanted = benjamini_hochberg(p.to_numpy(float))
        assert found[column].to_numpy(float) == pytest.approx(wanted)
    ranked = frame[frame["layer"].isna() & frame["p_value"].notna()]
    for _, rows in ranked.groupby("measure"):
        q = benjamini_hochberg(rows["p_value"].to_numpy(float))
        assert rows["q_value"].to_numpy(float) == pytest.approx(q)


def test_little_entropy_and_few_right_when_silenced_are_special():
    each = pd.DataFrame([[1.0, 2.0, 3.0]] * 2)
    measures_of = ("restored", "entropy", "right when silenced")
    p = [measures._list_row("a", one, "", each, 0, 0)["p_value"] for one in measures_of]
    assert p == [1, pytest.approx(1 / 3), pytest.approx(1 / 3)]


def test_a_tie_is_not_right():
    words = dict(trial="a", role=["odd", "none"] * 2, variant=["tied"] * 2 + ["right"] * 2)
    frame = pd.DataFrame(words | dict(patched_logit=[1.0, 1.0, 1.0, 0.5]))
    trial = SimpleNamespace(name="a", expected={"clean": "odd"})
    assert _right(frame, [trial], "clean").iloc[0].to_dict() == {"tied": False, "right": True}


def test_a_place_is_looked_at_that_gets_more_than_its_share_of_prompt_and_picture(trials):
    # Of two fifths of the prompt the tile is a twentieth. The first head looks at the picture and
    # at no tile in it, the second hardly at the picture, the third at the tile.
    shares = {"image": (0.4, [0.9, 0.01, 0.6]), "tile": (0.02, [0.045, 0.015, 0.5])}
    shares["entropy"] = 1.0, [1.0, 1.0, 1.0]
    rows = [
        dict(trial=trial.name, layer=0, head=head, at=at, value=value, even=even)
        for trial in trials
        for at, (even, values) in shares.items()
        for head, value in enumerate(values)
    ]
    attention = pd.DataFrame(rows).astype({"at": "category"})
    heads = [Head(0, head) for head in range(3)]
    plan = SimpleNamespace(source="clean", lists={"all": [heads]}, heads=heads)
    effects = SimpleNamespace(labels=["x"] * len(trials))
    found = measures._of_looks(trials, plan, effects, attention)
    p = [row["p_value"] for row in found if row["measure"] == "tile" and "layer" in row]
    assert p == [1, 1, 0.5 ** len(trials)]


def test_the_seed_decides_whose_picture_a_trial_gets(planted, trials):
    lent = []
    for seed in (0, 0, 1):
        _, in_source, *_ = next(audit.audit.steps(planted, trials, LISTS, seed=seed))
        lent.append([picture_hash(trial.sources[RESAMPLED]) for trial in in_source.trials])
    assert lent[0] == lent[1] != lent[2]


def test_a_head_has_a_row_of_every_word(trials, frame):
    rows = frame[(frame["layer"] == 3) & (frame["head"] == 0) & (frame["measure"] == "restored")]
    assert set(rows["word"].dropna()) == set(trials[0].answers)
    assert rows["word"].isna().sum() == 1
    # A reader's word rises with it and is lost without it.
    own = frame[(frame["layer"] == 3) & (frame["head"] == 0) & (frame["word"] == "odd")]
    assert len(own) == 4 and (own["value"] > 1).all()


def test_few_trials_decide_nothing(planted, trials):
    few = audit.heads(audit.audit(planted, trials[:2], LISTS, random_lists=0, progress=False))
    assert set(few["verdict"]) == {"undecided"}


def test_what_is_exported_is_confirmed_on_fresh_trials_and_its_layers_are_not(
    planted, planted_run, tmp_path
):
    file = tmp_path / "heads.json"
    file.write_text(rgb.read_run(planted_run).to_json())
    lists = audit.read_lists(file)
    assert lists["color extractor"] == [(3, 0), (3, 2), (4, 1), (4, 3)]
    lists = {"found": lists["color extractor"], "random": [(3, 1), (3, 3), (4, 0), (4, 2)]}
    frame = audit.audit(
        planted, rgb.rgb_trials(planted, 8, seed=5), lists, random_lists=35, progress=False
    )
    ranks = frame[frame["layer"].isna() & (frame["measure"] == "restored")].set_index("list")
    assert ranks["random_lists"].tolist() == [comb(4, 2) ** 2 - 1] * 2
    assert ranks["p_value"]["found"] == pytest.approx(1 / 36)
    assert ranks["p_value"]["random"] > 0.5


def test_a_rank_among_few_lists_decides_nothing(frame):
    said = sentences(frame)
    assert "only 4 other lists" in said["readers"] and "p =" not in said["readers"]
    assert not frame[frame["layer"].isna()]["decidable"].any()


def test_other_trials_have_a_row_of_their_own(planted, trials):
    more = rgb.rgb_trials(planted, 4, seed=7)
    frame = audit.audit(
        planted,
        trials[:4],
        {"readers": READERS},
        random_lists=0,
        also={"fresh": more},
        progress=False,
    )
    told = of_list(frame, "readers")
    assert told["restored: fresh"] == pytest.approx(told["restored"], abs=0.01)


@pytest.mark.parametrize("most, number", [(100, comb(4, 2) * 4 - 1), (7, 7)])
def test_random_lists_have_as_many_heads_in_each_layer(most, number):
    heads = [(0, 1), (0, 2), (3, 3)]
    lists = alike(heads, 4, most, np.random.default_rng(0))
    assert len({frozenset(chosen) for chosen in lists}) == len(lists) == number
    assert all(sorted(layer for layer, _ in chosen) == [0, 0, 3] for chosen in lists)
    assert frozenset(heads) not in {frozenset(chosen) for chosen in lists}


FORMS = {
    '{"19": [6, 12], "20": [1]}': {"heads": [(19, 6), (19, 12), (20, 1)]},
    "[[19, 6], [19, 12]]": {"heads": [(19, 6), (19, 12)]},
    '["19.6", "19-12"]': {"heads": [(19, 6), (19, 12)]},
    '["L19H6", "l19h12"]': {"heads": [(19, 6), (19, 12)]},
    '[{"Layer": 1, "Head": 2, "score": 0.1}, {"Layer": 1, "Head": 3, "score": 0.2}]': {
        "heads": [(1, 3), (1, 2)]
    },
    '{"visual": [[1, 2]], "text": {"3": [4]}}': {"visual": [(1, 2)], "text": [(3, 4)]},
    '{"0-1": [0.1, 0.3], "0-2": [0.9], "1.0": 0.5}': {"heads": [(0, 2), (1, 0)]},
    '{"heads": [{"layer": 1, "head": 2, "role": "a + b"}]}': {"a": [(1, 2)], "b": [(1, 2)]},
}


@pytest.mark.parametrize("text", FORMS)
def test_lists_are_read_as_people_write_them(text, tmp_path):
    (tmp_path / "heads.json").write_text(text)
    assert audit.read_lists(tmp_path / "heads.json", top=2) == FORMS[text]


def test_a_table_of_scores_is_read_list_by_list(tmp_path):
    table = pd.DataFrame(
        {"Layer": [0, 1, 2, 0], "Head": [1, 2, 3, 0], "score": [1, 3, 2, 9], "list": [*"aaab"]}
    )
    table.to_csv(tmp_path / "heads.csv", index=False)
    assert audit.read_lists(tmp_path / "heads.csv", top=2) == {"a": [(1, 2), (2, 3)], "b": [(0, 0)]}


def test_a_table_of_a_locale_with_decimal_commas_is_read_and_a_heads_name_is_no_number(tmp_path):
    file = tmp_path / "heads.csv"
    file.write_text("\ufefflayer;head;score\n3;0;0,5\n3;1;0,75\n", "utf-8")
    assert audit.read_lists(file, top=1) == {"heads": [(3, 1)]}
    file.write_text("sep=;\n" + file.read_text("utf-8-sig"))
    assert audit.read_lists(file, top=1) == {"heads": [(3, 1)]}
    file.write_text("layer,head\n3,3.1\n")
    with pytest.raises(rgb.InputError, match="whole numbers from 0, and there is 3.1"):
        audit.read_lists(file)


@pytest.mark.parametrize(
    "text, said",
    [
        ("nonsense", "cannot read"),
        ("[]", "is empty"),
        ("[[1, 2, 3]]", "is no head; give a list such as"),
        ('{"1": 5}', "give a list such as"),
        ('["x"]', "write layer.head"),
        ('{"1-2": 0.5}', "has a score for each of 1 heads"),
        ('{"1-2": "high"}', "a head's score is 'high'"),
        ('{"heads": [5]}', "each has layer and head"),
    ],
)
def test_a_file_that_holds_no_list_is_refused(text, said, tmp_path):
    (tmp_path / "heads.json").write_text(text)
    with pytest.raises(rgb.InputError, match=said):
        audit.read_lists(tmp_path / "heads.json")


@pytest.mark.parametrize(
    "lists, options, said",
    [
        ({}, {}, "lists is {}; name each list of heads"),
        ([(3, 0)], {}, r"lists is \[\(3, 0\)\]; name each list"),
        ({"a": []}, {}, "list 'a' is empty"),
        ({"a": [(9, 0)]}, {}, "list 'a': .*9.0"),
        ({"a": [(0, 0)]}, dict(random_lists=-1), "random_lists is -1"),
        ({"a": [(0, 0)]}, dict(positions="middle"), "middle"),
        ({"a": [(0, 0)]}, dict(target="clean"), "source and target are both 'clean'"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_any_forward(
    grouped, no_forward, lists, options, said
):
    with pytest.raises(rgb.InputError, match=said):
        audit.audit(grouped, rgb.rgb_trials(grouped, 2), lists, **options)


def test_a_model_without_a_gap_is_refused(grouped):
    with pytest.raises(rgb.InputError, match="no gap"):
        audit.audit(
            grouped, rgb.rgb_trials(grouped, 4), {"a": [(0, 0)]}, random_lists=2, progress=False
        )


def test_the_command_says_a_sentence_per_list_and_goes_on_where_it_stopped(tmp_path, capsys):
    file, out = tmp_path / "mine.json", tmp_path / "out"
    file.write_text(json.dumps({"readers": ["3.0", "3.2"], "rest": ["0.0"]}))
    command = [
        "audit",
        str(file),
        "--model",
        "planted",
        "--trials",
        "16",
        "--random-lists",
        "3",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert (
        "readers: Restoring its 2 heads at [end] restores 67 %" in said
        and "causal (3.0, 3.2)" in said
    )
    page = (out / "audit.html").read_text()
    assert "readers" in page and "mine.json" in page
    told = pd.read_parquet(out / "audit_heads.parquet")
    assert told["verdict"].tolist() == ["causal", "causal", "neither"]
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("parts/**/*.parquet")}
    assert main(command) == 0
    assert kept and all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert capsys.readouterr().out == said


def test_two_files_may_not_name_a_list_alike(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.json").write_text("[[0, 0]]")
    files = [str(tmp_path / folder / "mine.json") for folder in ("a", "b")]
    assert main(["audit", *files, "--out", str(tmp_path / "out")]) == 2
    assert "two lists are called 'mine'" in capsys.readouterr().err
    assert main(["audit", files[0], "--top", "3", "--out", str(tmp_path / "out")]) == 2
    assert "--top takes the best of heads with scores, and " in capsys.readouterr().err
