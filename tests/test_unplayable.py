"""A run goes through to its report on a model that cannot play, and says in words what is missing
there."""

import html
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import runs
import torch
from PIL import Image

import rgb_circuit as rgb
from analyses import report, roles
from analyses.command import main
from analyses.evidence.effects import Measured
from analyses.evidence.rules import Rules
from analyses.evidence.verdict import judge
from analyses.report.explorer import unpacked
from rgb_circuit.hypothesis import Claim, Prediction, Sweep
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.statistics import shown_to_fall

SHAPE = dict(layers=3, heads=4, kv_heads=4, d_head=8, width=64, grid=6)
NO_GAP = "no gap: the pictures do not change what the model says about the odd word"
# Not a word of any sentence here.
NO_NUMBER = re.compile(r"\b(nan|NaN|inf|None|<NA>|IndexError)\b")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Makes a folder of a random LLaVA whose logits are ``factor`` as large, in a number format."""
    made = {}

    def folder(dtype="float32", factor=1.0, **shape):
        key = dtype, factor, *shape.items()
        if key not in made:
            model, processor = random_llava(**(SHAPE | shape))
            with torch.no_grad():
                model.lm_head.weight.mul_(factor)
            made[key] = str(
                save(model.to(getattr(torch, dtype)), processor, tmp_path_factory.mktemp("model"))
            )
        return made[key]

    return folder


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """Figures beside the page are drawn of odd numbers in test_drawing."""
    runs.without_figures(monkeypatch)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A CSV of trials that expect no answer."""
    folder = tmp_path_factory.mktemp("own")
    rows = ["name,question,clean,image:other,answer:one,answer:two"]
    for number in range(4):
        picture = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        rows.append(f"t{number},Which color,{number}.png,{(number + 1) % 4}.png,red,green")
    (folder / "trials.csv").write_text("\n".join(rows))
    return str(folder / "trials.csv")


def run(folder, capsys, *arguments):
    """What a run prints, and what its report says."""
    assert main(["run", "--anyway", "--out", str(folder), *arguments]) == 0
    page = (folder / "report.html").read_text()
    for data in re.findall(r'<script type="text/plain" id="explore-data">(.*?)</script>', page):
        # A browser reads no NaN.
        json.loads(unpacked(data), parse_constant=pytest.fail)
    left_out = r"<script.*?</script>|<style.*?</style>|<svg.*?</svg>|<[^>]+>"
    page = re.sub(left_out, " ", page, flags=re.DOTALL)
    return capsys.readouterr().out, re.sub(r"\s+", " ", html.unescape(page))


def says_what_is_missing(folder, printed, page):
    assert not NO_NUMBER.search(printed) and not NO_NUMBER.search(page)
    played = pd.read_parquet(folder / "play.parquet")["correct"]
    sentence = f"does not play the game: it answers {played.sum()} of {len(played)} pictures right"
    assert sentence in "".join(printed.splitlines()[:3])
    assert (
        "nothing below shows what a head does when the model plays"
        in printed.split("Strongest heads")[0]
    )
    assert (
        f"{sentence}, so nothing below shows what a head does when the model plays."
        in page.split("What the model is shown")[0]
    )


# Every number of trials and both number formats, though not every combination.
@pytest.mark.parametrize(
    "dtype, arguments",
    [
        ("float32", ["--trials", "6"]),
        ("bfloat16", ["--trials", "6", "--positions", "all"]),
        ("bfloat16", ["--trials", "2"]),
        ("float32", ["--trials", "1"]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*wrongly on at least one picture")
def test_a_random_model_gets_a_report(saved, tmp_path, capsys, dtype, arguments):
    # At all positions a small picture is as good as another.
    model = saved(dtype, grid=3) if "all" in arguments else saved(dtype)
    printed, page = run(tmp_path, capsys, "--model", model, *arguments)
    says_what_is_missing(tmp_path, printed, page)
    if arguments[1] == "6":
        assert f"N{NO_GAP[1:]}, as far as 6 trials show, so no role can be tested." in printed
        assert f"N{NO_GAP[1:]}, as far as 6 trials show, so no role can be tested." in page
    else:
        assert "too few trials" in printed and "oo few trials" in page


@pytest.mark.filterwarnings("ignore:.*wrongly on at least one picture")
def test_a_random_model_of_a_large_shape_gets_a_report(saved, tmp_path, capsys, monkeypatch):
    """And so does `compare`, which holds it against the published heatmaps."""
    # What says something else of a large shape; the rest is as of a small one.
    runs.sections(monkeypatch, "pictures", "panels", "published", "questions", "limits")
    folder = saved(layers=32, heads=32, kv_heads=32, d_head=4, width=32, grid=3)
    printed, page = run(tmp_path, capsys, "--model", folder, "--trials", "1")
    says_what_is_missing(tmp_path, printed, page)
    assert (
        "Comparison with the published heatmaps" in page
        and "Two heads for which the published text disagrees" in page
    )
    assert main(["compare", str(tmp_path)]) == 0
    assert not NO_NUMBER.search(capsys.readouterr().out)


def test_pictures_without_an_expected_answer_get_a_report(saved, own, tmp_path, capsys):
    printed, page = run(tmp_path, capsys, "--model", saved("bfloat16"), "--trials-file", own)
    assert not NO_NUMBER.search(printed) and not NO_NUMBER.search(page)
    # Nobody knows whether it answers right.
    assert (
        "not scored" in printed and "does not" not in printed and "nothing below shows" not in page
    )


def test_with_only_correct_a_model_is_judged_by_the_trials_that_are_left(
    tmp_path, capsys, monkeypatch
):
    rows = ["name,question,clean,image:other,answer:right,answer:wrong,expected:clean"]
    for number, colors in enumerate([("red", "green"), ("blue", "green"), *[("red", "blue")] * 4]):
        names = [f"{number}-{color}.png" for color in colors]
        for color, name in zip(colors, names):
            Image.new("RGB", (24, 24), color).save(tmp_path / name)
        # The planted model says "white" to a plain canvas.
        rows.append(
            f"t{number},Which "
            f"color,{','.join(names)},{'white,red' if number < 2 else 'red,white'},right"
        )
    (tmp_path / "trials.csv").write_text("\n".join(rows))
    given = ["--model", "planted", "--trials-file", str(tmp_path / "trials.csv")]
    sentence = (
        "planted does not answer these questions: it answers 2 of 6 pictures right, "
        "and 'white' to all of them"
    )
    with monkeypatch.context() as patched:
        # What is asked about the page stands in its head.
        runs.sections(patched)
        runs.without_closer_look(patched)
        printed, page = run(tmp_path / "all", capsys, *given)
    assert (
        sentence in printed
        and "nothing below shows what a head does when the model answers." in printed
    )
    assert f"{sentence}, so nothing below shows what a head does when the model answers." in page
    printed, page = run(tmp_path / "right", capsys, *given, "--only-correct")
    assert "Of 6 trials, 4 with a wrong answer are left out" in printed
    assert sentence in printed and "nothing below shows" not in printed + page
    assert not NO_NUMBER.search(printed) and not NO_NUMBER.search(page)


@pytest.mark.parametrize("factor", [1e-2, 1e5])
def test_a_table_shows_two_digits_of_its_largest_number_and_no_more_than_four(
    saved, tmp_path, capsys, monkeypatch, factor
):
    runs.sections(monkeypatch, "pictures", "panels")
    printed, page = run(tmp_path, capsys, "--model", saved(factor=factor), "--trials", "2")
    says_what_is_missing(tmp_path, printed, page)
    largest = pd.read_parquet(tmp_path / "panels.parquet")["effect"].abs().max()
    assert 0.5 < largest / factor / 0.04 < 2
    table = printed.split("Strongest heads")[1].split("No head is shown")[0].splitlines()[3:]
    shown = {cell.lstrip("-") for line in table for cell in line.split()[1:]}
    top = max(shown, key=float)
    assert float(top) == pytest.approx(largest, rel=0.06)
    assert 2 <= len(top.replace(".", "").lstrip("0")) <= max(4, len(str(int(largest))))
    assert len({len(cell.partition(".")[2]) for cell in shown}) == 1
    # The page writes every number to its own digits.
    written = [float(number) for number in re.findall(r"[−+](\d+(?:\.\d+)?)(?![\d.])", page)]
    assert any(number == pytest.approx(largest, rel=0.06) for number in written)


def test_where_all_effects_may_be_rounding_no_head_is_the_strongest(
    saved, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("analyses.study.findings.floor_of", lambda frames, again: 1e9)
    runs.sections(monkeypatch, "panels")
    printed, page = run(tmp_path, capsys, "--model", saved(), "--trials", "2")
    assert "no head moves the logit of any answer" in printed and "Strongest" not in printed
    assert "Restored alone, no head moves the logit of any answer." in page


def test_a_model_that_cannot_play_is_told_after_four_trials_and_goes_on_from_there_if_asked(
    saved, tmp_path, capsys, monkeypatch
):
    runs.sections(monkeypatch, "reproduce")
    runs.without_closer_look(monkeypatch)
    command = ["run", "--model", saved(grid=3), "--trials", "5", "--out", str(tmp_path)]
    assert main(command) == 2
    printed = capsys.readouterr()
    sentence = printed.err.splitlines()[-1]
    assert re.match(
        r"rgb-circuit: .* does not play the game: it answers \d of 20 pictures right, so nothing "
        r".*--anyway$",
        sentence,
    )
    first = (
        r"5 trials are too few to confirm one head alone among \d+: it takes 9 or more\.\n"
        r"First 4 trials: \d of 20 pictures are answered correctly\.\n"
    )
    assert re.fullmatch(first, printed.out) and not (tmp_path / "report.html").exists()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/play-*/*.parquet")}
    assert len(kept) == 4
    assert main([*command, "--anyway"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(tmp_path.glob("parts/play-*/*.parquet"))) == 5
    # A long path puts each option into a line of its own.
    page = (tmp_path / "report.html").read_text().replace("\\\n    ", "")
    assert "--trials 5 --seed 0 --anyway" in page


# The gap


@pytest.mark.filterwarnings("ignore:.*wrongly on at least one picture")
def test_a_fraction_of_a_gap_that_is_not_shown_is_missing_and_the_effect_is_not(saved):
    model = rgb.load(saved())
    trials = rgb.rgb_trials(model, 10)
    frame = roles.evidence(model, trials, progress=False)
    # Without an extractor there is nothing to freeze.
    every = [prediction for one in roles.GAME.hypotheses for prediction in one.predictions]
    through = {
        one.name for one in every if any(claim.sweep.part != "whole" for claim in one.claims)
    }
    frozen = frame["prediction"].isin(through)
    assert frame.loc[~frozen, ["effect", "ci_low", "ci_high"]].notna().all(axis=None)
    assert (
        frame["restored_fraction"].isna().all()
        and (frame["p_value"] == 1).all()
        and not frame["holds"].any()
    )
    table = roles.table(frame)
    assert table["score"].isna().all() and (table["role"] == "none").all()
    assert roles.closest(frame).empty
    assert roles.no_gap(frame) == f"{NO_GAP}, as far as 10 trials show, so no role can be tested"
    # That is so because the odd word does not fall on these trials.
    played = (
        rgb.play(model, trials, progress=False)
        .set_index(["condition", "trial"])["logit_odd"]
        .unstack("condition")
    )
    assert not shown_to_fall(played["clean"], played["erased"])


ROLES = list(roles.GAME.roles)


def measured(falls, heads=50, seed=0):
    """Effects on some heads, where the odd word's logit falls from clean to each target by what
    ``falls`` draws for a trial."""
    rng, trials = np.random.default_rng(seed), 16
    sweeps = {target: Sweep(target) for target in falls}
    logits = {name: np.zeros((trials, len(ROLES))) for name in ("clean", *falls)}
    logits["clean"][:, ROLES.index("odd")] = 10
    for target, fall in falls.items():
        logits[target][:, ROLES.index("odd")] = 10 - fall(np.random.default_rng(seed), trials)
    gains = np.linspace(0, 3, heads)[:, None] * (np.arange(len(ROLES)) == ROLES.index("odd"))
    effects = {
        sweep: gains + 0.3 * rng.standard_normal((trials, heads, len(ROLES)))
        for sweep in sweeps.values()
    }
    predictions = [
        Prediction(target, (Claim("odd", "up", sweep),)) for target, sweep in sweeps.items()
    ]
    predictions.append(Prediction("nothing", (Claim("odd", "none", sweeps["erased"]),)))
    return Measured(roles.GAME, [(0, head) for head in range(heads)], effects, logits), predictions


@pytest.mark.parametrize("split", [True, False])
def test_only_predictions_about_a_picture_without_a_gap_are_void_and_no_other_gains_by_it(split):
    real, absent = (
        lambda rng, n: 10 + rng.standard_normal(n),
        lambda rng, n: np.array([1.0, -1.2] * (n // 2)),
    )
    rules = Rules(0.1, 0.05, 0.05, split)

    def judged(**falls):
        measurements, heads = measured(falls)
        return judge(measurements, [[head] for head in heads], rules)

    both = judged(erased=real, recolored=real).set_index(["prediction", "head"])
    one = judged(erased=real, recolored=absent).set_index(["prediction", "head"])
    void = one.loc["recolored"]
    assert (
        void["restored_fraction"].isna().all()
        and (void["p_value"] == 1).all()
        and not void["holds"].any()
    )
    assert void["effect"].notna().all() and both.loc["recolored", "holds"].any()
    kept = one.loc[["erased", "nothing"]]
    assert kept["restored_fraction"].notna().all() and kept["holds"].any()
    assert (kept["q_value"] >= both.loc[["erased", "nothing"], "q_value"]).all()


def test_what_is_void_is_named():
    def frame(*void):
        names = [prediction.name for one in roles.GAME.hypotheses for prediction in one.predictions]
        rows = [
            dict(layer=0, head=0, prediction=name, effect=1.0, restored_fraction=0.1, void="", n=8)
            for name in dict.fromkeys(names)
        ]
        return pd.DataFrame(
            [
                row | dict(restored_fraction=np.nan, void="no gap")
                if row["prediction"] in void
                else row
                for row in rows
            ]
        )

    assert roles.no_gap(frame()) == ""
    assert roles.no_gap(frame("P4", "P4w")) == (
        "no gap: the swapped picture does not change what the model says about the odd word, as "
        "far as 8 trials show, "
        "so P4, P4w cannot be tested"
    )
    assert "the recolored and swapped pictures do not change" in roles.no_gap(
        frame("P1a", "P2a", "P3b", "P6", "P4", "P4w")
    )


@pytest.mark.filterwarnings("ignore:.*wrongly on at least one picture")
@pytest.mark.parametrize("seed", range(3))
def test_every_score_on_random_weights_is_missing_or_of_a_gap_that_is_shown(seed):
    model = rgb.wrap(*random_llava(seed, layers=4, heads=8, kv_heads=8), name="random")
    frame = roles.evidence(model, rgb.rgb_trials(model, 16, seed=seed), progress=False)
    # Without a gap, quotients here reached 309.
    assert not (roles.table(frame)["score"].abs() > 3).any()


@pytest.mark.parametrize("n", [10, 2])
def test_a_report_is_made_of_a_curve_that_never_gets_far(planted_run, tmp_path, n, monkeypatch):
    """In half precision all heads together can restore less than 0.9 of a small gap."""
    # No other section is made of the curve.
    runs.sections(monkeypatch, "circuit")
    shutil.copytree(planted_run, tmp_path, dirs_exist_ok=True)
    curve = pd.read_parquet(tmp_path / "curve.parquet")
    curve["faithfulness"] *= 0.8
    if n == 2:
        # Resampled trials can lack the gap.
        curve[["ci_low", "ci_high"]] = np.nan
    curve.to_parquet(tmp_path / "curve.parquet")
    page = html.unescape(report.write(tmp_path).read_text())
    assert (
        "No circuit measured restores 90 %." in page
        and "All 24 heads together restore 80\N{NO-BREAK SPACE}%" in page
    )
    assert "The smallest circuit measured" not in page
