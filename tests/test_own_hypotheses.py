"""Hypotheses of one's own in a file: tested on the planted model in place of a task's, and
linted."""

import base64
import csv
import html
import io
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import runs
from pandas.testing import assert_frame_equal

import rgb_circuit as rgb
from analyses import evidence, roles
from analyses.command import main
from analyses.evidence import lint, power, rivals
from analyses.report.page import filled, known_sections
from analyses.report.run import read
from analyses.roles import standing
from rgb_circuit import InputError
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.hypothesis import Hypothesis, Prediction
from rgb_circuit.measuring.registered import claims_hash
from rgb_circuit.stimuli.tasks import find, to_toml
from rgb_circuit.task import Task

GAME = find("rgb")
ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "hypotheses"
PAGE = (ROOT / "docs" / "hypotheses.md").read_text()
# Claims from papers, each in a file.
PUBLISHED = ("localization", "visual", "carrier", "sharpness")
# The heads of the planted model that read the odd colour.
READERS = {(3, 0), (3, 2), (4, 1), (4, 3)}
SENDER = """
[hypotheses.sender]
[hypotheses.sender.predictions]
S1 = "background up through the extractors: z clean -> erased"
"""


def written(folder, text, name="mine.toml"):
    path = folder / name
    path.write_text(text)
    return str(path)


def ran(out, hypotheses, *options):
    """The folder of a run of planted with a file of hypotheses, and what it printed."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert (
            main(
                [
                    "run",
                    "--model",
                    "planted",
                    *options,
                    "--hypotheses",
                    hypotheses,
                    "--out",
                    str(out),
                ]
            )
            == 0
        )
    return out, said.getvalue()


@pytest.fixture(scope="module")
def true(tmp_path_factory):
    """The folder of a run with the true hypothesis of the examples, whose file is gone since, and
    what it printed."""
    folder = tmp_path_factory.mktemp("true")
    file = written(folder, (EXAMPLES / "reader.toml").read_text())
    run = ran(folder / "out", file, "--trials", "16")
    Path(file).unlink()
    return run


@pytest.fixture(scope="module")
def false(tmp_path_factory):
    """The same with the false hypothesis."""
    with pytest.MonkeyPatch.context() as patched:
        runs.sections(patched, "hypotheses", "roles")
        runs.without_closer_look(patched)
        return ran(
            tmp_path_factory.mktemp("false"), str(EXAMPLES / "pointer.toml"), "--trials", "16"
        )


# A run


def test_a_true_hypothesis_is_shown_of_the_heads_that_it_is_true_of(true):
    found = rgb.read_run(true[0]).findings
    assert set(zip(found["layer"], found["head"])) == READERS
    assert set(found["role"]) == {"reader"}


def test_a_false_hypothesis_is_refuted_of_every_head(false):
    evidence = rgb.read_run(false[0]).frames["evidence"]
    assert len(evidence) == 24 and set(evidence["state"]) == {"refuted"}
    assert "There is no pointer head.\n" in false[1]
    assert "refuted" in (false[0] / "report.html").read_text()


def test_the_page_speaks_of_these_hypotheses_and_of_no_others(true):
    # Any letters may stand in a packed picture.
    page = re.sub("[A-Za-z0-9+/]{200,}", "", (true[0] / "report.html").read_text())
    assert "4 reader heads (3.0, 3.2, 4.1, 4.3)" in page and "brings it to the answer" in page
    assert "color extractor" not in page and "P1a" not in page


def test_the_page_has_each_hypothesis_with_its_claims_and_the_file(true):
    page = (true[0] / "report.html").read_text()
    section = page[page.index('<section id="hypotheses"') :].partition("</section>")[0]
    assert "Shown for these heads: 3.0, 3.2, 4.1, 4.3." in section and "Confirmatory" in section
    file = re.search(r'href="data:application/toml;base64,([^"]+)"', section)[1]
    assert base64.b64decode(file).decode() == (EXAMPLES / "reader.toml").read_text()
    for prediction in rgb.read_hypotheses(EXAMPLES / "reader.toml")[0].predictions:
        assert (
            html.escape(prediction.text) in section
            and html.escape(lint.in_words(prediction)[1:]) in section
        )


@pytest.mark.parametrize("claims, shown", [(None, True), ("others", False)])
def test_error_rates_stand_beside_the_verdicts_on_the_same_claims_alone(true, claims, shown):
    section = known_sections()["hypotheses"]
    run = read(true[0], [section.needs])
    rate = dict(
        claims=claims or claims_hash(run.task), hypothesis="reader", check="permuted", trials=32
    )
    rate |= dict(size=np.nan, heads=480, testable=480, given=3, informative=True, p_value=np.nan)
    rate |= dict(rate=3 / 480, rate_low=0.001, rate_high=0.02)
    body = filled(
        section, replace(run, frames={**run.frames, "hypotheses_calibration": pd.DataFrame([rate])})
    )
    assert ("permuted" in body["body"] and "measured on 32 trials" in body["body"]) == shown


def test_an_edit_after_looking_is_said_to_be_exploratory_and_new_trials_are_not(
    true, tmp_path, monkeypatch
):
    runs.sections(monkeypatch, "hypotheses")
    runs.without_closer_look(monkeypatch)
    shutil.copytree(true[0], tmp_path / "looked")
    mine = str(EXAMPLES / "pointer.toml")
    # The first of those trials.
    _, said = ran(tmp_path / "again", mine, "--trials", "6")
    assert "Exploratory: the run in looked had looked at these trials" in said
    assert "Exploratory" in (tmp_path / "again" / "report.html").read_text()
    runs.undrawn(monkeypatch)
    _, said = ran(tmp_path / "new", mine, "--trials", "6", "--seed", "1")
    assert "Confirmatory" in said


def test_the_folder_is_finished_again_without_the_file(true, tmp_path, monkeypatch):
    runs.undrawn(monkeypatch)
    folder = shutil.copytree(true[0], tmp_path / "run")
    before = rgb.read_run(folder).frames["evidence"]
    assert main(["report", str(folder), "--quiet"]) == 0
    run = rgb.read_run(folder)
    assert_frame_equal(run.frames["evidence"], before)
    assert [hypothesis.name for hypothesis in run.trials[0].task.hypotheses] == ["reader"]


def test_a_folder_of_other_hypotheses_is_not_gone_on_with(true, capsys):
    options = ["--model", "planted", "--trials", "16", "--out", str(true[0])]
    assert main(["run", *options, "--hypotheses", str(EXAMPLES / "pointer.toml")]) == 2
    assert "holds a run that differs in task.predictions.R1" in capsys.readouterr().err


def test_the_games_roles_as_a_users_file_give_the_same_to_the_last_bit(
    tmp_path, planted_run, monkeypatch
):
    runs.undrawn(monkeypatch)
    runs.without_closer_look(monkeypatch)
    table = GAME.plain()
    file = written(tmp_path, to_toml({name: table[name] for name in ("predictions", "hypotheses")}))
    mine, _ = ran(tmp_path / "out", file, *runs.PLANTED[2:], "--quiet")
    frames = {
        name: [pd.read_parquet(folder / f"{name}.parquet") for folder in (planted_run, mine)]
        for name in ("evidence", "roles")
    }
    # What the game tests besides is no role's.
    theirs, own = frames["evidence"]
    theirs = theirs[theirs["prediction"] != "P10"].reset_index(drop=True)
    assert_frame_equal(theirs, own, check_exact=True)
    theirs, own = frames["roles"]
    assert_frame_equal(theirs.drop(columns="P10"), own, check_exact=True)


def test_in_python_a_task_takes_other_hypotheses(planted):
    mine = rgb.read_hypotheses(EXAMPLES / "reader.toml")
    table = roles.roles(
        planted, rgb.rgb_trials(planted, 10), task=GAME.with_hypotheses(mine), progress=False
    )
    assert set(roles.heads(table, "reader")) == READERS


# What goes through heads of the task's


def test_a_file_may_go_through_heads_of_the_tasks_own_hypotheses(tmp_path):
    task = GAME.with_hypotheses(rgb.read_hypotheses(written(tmp_path, SENDER)))
    assert [hypothesis.name for hypothesis in task.hypotheses] == ["sender", "color extractor"]
    assert [hypothesis.name for hypothesis in task.receivers] == ["color extractor"]
    own = "short = 'extractors'\npredictions = { E1 = 'odd up: z clean -> erased' }\n"
    both = rgb.read_hypotheses(written(tmp_path, f"{SENDER}\n[hypotheses.mine]\n{own}"))
    assert GAME.with_hypotheses(both).hypotheses == both


# Pictures of one's own


def test_pictures_in_a_file_are_asked_about_hypotheses_in_another(tmp_path, planted, monkeypatch):
    runs.undrawn(monkeypatch)
    runs.without_closer_look(monkeypatch)
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["name", "question", "clean", "image:exchanged", "answer:right", "answer:other",
             "expected:clean", "expected:exchanged"]
        )  # fmt: skip
        for number, trial in enumerate(rgb.rgb_trials(planted, 10)):
            for condition in ("clean", "recolored"):
                trial.images[condition].save(tmp_path / f"{number} {condition}.png")
            table.writerow(
                [number, GAME.question, f"{number} clean.png", f"{number} recolored.png",
                 trial.answers["odd"], trial.answers["other"], "right", "other"]
            )  # fmt: skip
    text = (
        "[hypotheses.reader.predictions]\nR1 = 'right up, other down: z clean -> exchanged'\n"
        "R2 = 'right not up: pattern clean -> exchanged'"
    )
    out, _ = ran(
        tmp_path / "out",
        written(tmp_path, text),
        "--trials-file",
        str(tmp_path / "pairs.csv"),
        "--quiet",
    )
    run = rgb.read_run(out)
    assert set(zip(run.findings["layer"], run.findings["head"])) == READERS
    assert [hypothesis.name for hypothesis in run.trials[0].task.hypotheses] == ["reader"]


# What cannot be


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "[hypotheses.reader]\n[hypotheses.reader.predictions]\nR1 = 'od up: z clean -> erased'",
            "mine.toml: task 'rgb': prediction R1 names 'od', which it does not have; use one of "
            "odd, other,",
        ),
        (
            "[hypotheses.reader]\n[hypotheses.reader.predictions]\nR1 = 'odd up: z clean -> gone'",
            "mine.toml: task 'rgb': prediction R1 names 'gone', which it does not have; use one of "
            "clean,",
        ),
        (
            "[hypotheses.reader]\n[hypotheses.reader.predictions]\n"
            "R1 = 'odd up through the readers: z clean -> erased'",
            "mine.toml: task 'rgb': prediction R1 goes through or past the readers, but no "
            "hypothesis",
        ),
        (
            "[hypotheses.reader]\n[hypotheses.reader.predictions]\nR1 = 'odd upp: z clean -> "
            "erased'",
            "mine.toml: hypotheses.reader.predictions.R1: prediction R1: 'odd upp' is no claim; "
            "write ROLE",
        ),
        (
            "[hypotheses.a]\npredictions = { A = 'odd up: z clean -> erased' }\n"
            "[hypotheses.b]\npredictions = { A = 'odd down: z clean -> erased' }",
            "mine.toml: two hypotheses have a prediction 'A' that says two things: ",
        ),
        (
            "[hypotheses.none]\npredictions = { A = 'odd up: z clean -> erased' }",
            "mine.toml: hypotheses.none: a hypothesis is called 'none', which says of a head that "
            "it",
        ),
        (
            "[hypotheses.a]\npredictions = { score = 'odd up: z clean -> erased' }",
            "mine.toml: hypotheses.a.predictions.score: a prediction is called 'score', like a",
        ),
        (
            "name = 'nothing'",
            "mine.toml has no hypotheses; add a table such as [hypotheses.reader]",
        ),
        ("[hypotheses.reader", "mine.toml is no TOML: "),
        (
            "[hypotheses.a.predictions]\nA = 'odd up: z clean -> erased'\nA = 'odd none'",
            "mine.toml is no TOML: Cannot overwrite a value (at end of document); a key stands "
            "there twice",
        ),
        (
            "[hypotheses.' ']\npredictions = { A = 'odd up: z clean -> erased' }",
            "mine.toml: hypotheses. : a hypothesis is called ' '; give it a name",
        ),
        (
            "[hypotheses.a]\npredictions = ['odd up: z clean -> erased']",
            "mine.toml: hypotheses.a.predictions is ['odd up: z clean -> erased'], without names; "
            "give a table",
        ),
        (
            "[hypotheses.a.predictions]\nA = ['odd up: z clean -> erased']",
            "mine.toml: hypotheses.a.predictions.A is ['odd up: z clean -> erased']; give text "
            "such as",
        ),
    ],
)
def test_what_a_file_cannot_say_is_one_sentence_before_a_model_is_loaded(
    tmp_path, capsys, text, said
):
    out = tmp_path / "out"
    options = ["run", "--model", "no such model", "--hypotheses", written(tmp_path, text)]
    assert main([*options, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rgb-circuit: {said}") and error.count("\n") == 1 and not out.exists()


def test_hypotheses_of_pictures_in_a_file_are_held_against_what_it_has(tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text(
        "name,question,clean,image:exchanged,answer:right,answer:other,expected:clean,expected:exchanged\n"
        "one,What color?,a.png,b.png,red,blue,right,other\n"
    )
    trial = rgb.rgb_trial(tile=(1, 2), grid=6, tile_px=4)
    for letter, condition in zip("ab", ("clean", "recolored")):
        trial.images[condition].save(tmp_path / f"{letter}.png")
    options = ["run", "--model", "no such model", "--trials-file", str(tmp_path / "pairs.csv")]
    assert main([*options, "--hypotheses", str(EXAMPLES / "reader.toml")]) == 2
    assert "reader.toml: task 'own pictures': prediction R1 names 'odd'" in capsys.readouterr().err


def test_one_trial_tests_no_hypothesis(tmp_path, capsys):
    options = ["run", "--trials", "published", "--hypotheses", str(EXAMPLES / "reader.toml")]
    assert main([*options, "--out", str(tmp_path / "out")]) == 2
    assert (
        "--hypotheses are tested over trials, and the published stimulus is one"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "key, line, said",
    [
        ("says", "says = 1", "hypotheses.one.says is 1; give text in quotes"),
        ("plural", "plural = true", "hypotheses.one.plural is True; give text in quotes"),
        ("short", "short = []", "hypotheses.one.short is []; give text in quotes"),
        ("cites", "cites = 2503.06287", "hypotheses.one.cites is 2503.06287; give text in quotes"),
        ("score", "score = 'A'", "hypotheses.one.score is 'A'; give a list"),
        ("score", "score = ['B']", "the score of hypothesis 'one' is 'B'; use one of A"),
        (
            "in_circuit",
            "in_circuit = 'yes'",
            "hypotheses.one.in_circuit is 'yes'; give true or false",
        ),
        ("not", "not = 'A'", "hypotheses.one.not is 'A'; give a list"),
        ("not", "not = ['B']", "not of hypothesis 'one' is 'B'; use one of A"),
        ("rivals", "rivals = ['A']", "hypotheses.one.rivals is ['A']; give a table"),
        (
            "rivals",
            "rivals = { x = { B = 'odd' } }",
            "hypotheses.one.rivals.x.B: prediction B: 'odd' has no ':'",
        ),
        (
            "rivals",
            "rivals = { x = {} }",
            "hypotheses.one.rivals.x: the predictions of hypothesis 'x' are ()",
        ),
        (
            "rivals",
            "rivals = { x = ['B'] }",
            "hypotheses.one.rivals.x.predictions names 'B', which is not among",
        ),
        (
            "sayz",
            "sayz = 'x'",
            "hypotheses.one has the key 'sayz', which is not known; use predictions, says",
        ),
    ],
)
def test_a_typo_in_a_field_is_said_with_its_key(tmp_path, key, line, said):
    text = f"[hypotheses.one]\n{line}\npredictions = {{ A = 'odd up: z clean -> erased' }}"
    with pytest.raises(InputError) as raised:
        rgb.read_hypotheses(written(tmp_path, text))
    assert said in str(raised.value) and str(raised.value).startswith("mine.toml: ")


@pytest.mark.parametrize(
    "table, said",
    [
        (
            "{ claim = 'x' }",
            "A has the key 'claim', which is not known; use claims, instead_of, varied, says",
        ),
        ("{ says = 'x' }", "A has no 'claims'; add it"),
        ("{ claims = 1 }", "prediction A is 1; write its claims as text"),
        (
            "{ claims = 'odd up: x clean -> erased' }",
            "the component of a sweep is 'x'; use one of z, pattern",
        ),
        (
            "{ claims = 'odd up: z clean -> erased', instead_of = 'B' }",
            "A stands in for B, which it does not have",
        ),
    ],
)
def test_a_typo_in_a_prediction_is_said_with_its_key(tmp_path, table, said):
    with pytest.raises(InputError) as raised:
        rgb.read_hypotheses(written(tmp_path, f"[hypotheses.one.predictions]\nA = {table}"))
    assert said in str(raised.value) and str(raised.value).startswith("mine.toml: hypotheses.one")


def test_hypotheses_with_rivals_and_refuted_predictions_come_back_from_their_table():
    mine = rgb.read_hypotheses(EXAMPLES / "localization.toml")
    mine = (replace(mine[0], refutes=("L3",), score=("L4",)),)
    task = GAME.with_hypotheses(mine)
    assert Task.of_plain(task.plain()).hypotheses == mine


def test_two_hypotheses_of_one_name_are_refused():
    raises = Hypothesis("one", (Prediction.parse("A", "odd up: z clean -> erased"),))
    with pytest.raises(InputError, match="has two hypotheses called 'one'"):
        replace(GAME, hypotheses=(raises, raises), checks=())


# The linter


def linted(capsys, *options):
    assert main(["hypotheses", *options]) == 0
    return capsys.readouterr().out


def of(name, *texts):
    """A hypothesis of some claims, a prediction each."""
    return Hypothesis(
        name, tuple(Prediction.parse(f"{name}{n}", text) for n, text in enumerate(texts))
    )


def test_a_vague_hypothesis_is_said_to_be_so_and_one_that_can_fail_too(tmp_path, capsys):
    files = [(EXAMPLES / f"{name}.toml").read_text() for name in ("bystander", "reader")]
    said = linted(capsys, written(tmp_path, "\n".join(files)))
    assert "can fail  no: it is vague" in said.partition("reader:")[0]
    assert "can fail  yes" in said.partition("reader:")[2]


def test_what_it_takes_to_test_a_route_are_heads_of_its_own_group():
    """Also where the group is none of the game's."""
    sends = Prediction.parse("S", "odd up through the idlers: z clean -> erased")
    idlers = replace(of("idler", "odd none: z clean -> erased"), short="idlers")
    task = GAME.with_hypotheses([Hypothesis("sender", (sends,)), idlers])
    assert standing.to_test("no idler", sends, task) == "idler heads to freeze"
    assert standing.to_test("no word", GAME.prediction("P9a"), GAME) == "answers['none']"


def test_what_a_prediction_claims_is_said_in_words(capsys):
    said = linted(capsys, str(EXAMPLES / "reader.toml"))
    assert "R1        in recolored, with its output from clean: the odd word rises\n" in said
    assert "with where it looks from clean: the odd word does not rise\n" in said


def test_hypotheses_that_no_claim_tells_apart_are_named():
    up, still = "odd up: z clean -> erased", "odd none: pattern clean -> erased"
    assert rivals.covered([of("a", up), of("b", up)]) == [("a", "b"), ("b", "a")]
    assert rivals.covered([of("a", up), of("b", up, still)]) == [("b", "a")]
    # Who leaves a word alone does not raise it either.
    assert rivals.covered([of("a", "odd not up: pattern clean -> erased"), of("b", still)]) == [
        ("b", "a")
    ]
    assert rivals.covered([of("a", up), of("b", "odd up: z clean -> recolored")]) == []
    assert rivals.covered(GAME.hypotheses) == []


def test_what_may_stand_in_counts_as_a_way_to_meet_a_hypothesis():
    strict = of("strict", "odd up: z clean -> erased")
    other = Prediction.parse("other", "odd down: z clean -> erased", instead_of="strict0")
    either = Hypothesis("either", (*strict.predictions, other))
    assert rivals.covered([strict, either]) == [("strict", "either")]
    assert not lint.vague(either)
    idle = Prediction.parse("idle", "odd none: z clean -> erased", instead_of="strict0")
    assert lint.vague(Hypothesis("idle", (*strict.predictions, idle)))


def test_who_can_never_be_met_together_is_named_and_who_contradicts_itself(tmp_path, capsys):
    up, down = of("a", "odd up: z clean -> erased"), of("b", "odd down: z clean -> erased")
    assert rivals.exclusive([up, down]) == [("a", "b")]
    assert rivals.exclusive([up, of("b", "odd up: z clean -> recolored")]) == []
    assert rivals.exclusive(GAME.hypotheses) == roles.exclusive()
    text = (
        "[hypotheses.torn.predictions]\nA = 'odd up: z clean -> erased'\nB = 'odd none: z "
        "clean -> erased'"
    )
    assert "always fails: its claims contradict each other" in linted(
        capsys, written(tmp_path, text)
    )


def test_what_the_task_lacks_is_said_and_is_no_error(tmp_path, capsys):
    text = "[hypotheses.a.predictions]\nA = 'od up through the readers: z clean -> gone'"
    said = linted(capsys, written(tmp_path, text))
    assert (
        "pictures clean, gone; answers od: the task rgb lacks the picture gone (it has clean, "
        "recolored, erased, swapped, moved) and the answer od (it has odd, other, background, "
        "other_background, none) and heads called readers" in said
    )


def test_what_no_task_says_is_not_said_to_be_had(tmp_path, capsys):
    text = (
        "[hypotheses.a.predictions]\nA = 'attention cup above even: clean'\n"
        "[hypotheses.b.predictions]\nB = 'odd up: pattern over dog clean -> erased'"
    )
    said = linted(capsys, written(tmp_path, text))
    assert "needs     pictures clean: the task rgb has them; and trials with a box cup\n" in said
    assert "the task rgb has them; and trials with a box dog\n" in said
    # Attention has no gap, of which trials could show a share.
    alone = linted(capsys, written(tmp_path, text.partition("[hypotheses.b")[0]))
    assert "trials confirm" in said and "trials confirm" not in alone


def test_a_head_that_is_silenced_by_its_mean_is_not_said_to_be_zero():
    zero, mean = (Prediction.parse("A", f"odd down: z {how} -> clean") for how in ("zero", "mean"))
    assert "with its output set to zero:" in lint.in_words(zero)
    assert "with its output set to its mean over the trials:" in lint.in_words(mean)


def test_the_sweeps_that_are_counted_are_those_that_are_run(planted):
    hypotheses = GAME.hypotheses
    measured = evidence.needs(planted, rgb.rgb_trials(planted, 8), hypotheses, task=GAME)
    sweeps = [one for one in measured if isinstance(one, PatchedHeads)]
    # With and without heads frozen: erased through the extractors, by z and by where a head looks.
    assert lint.cost(hypotheses) == (len(sweeps), 2)


def test_heads_of_the_task_that_are_frozen_join_and_are_named(tmp_path, capsys):
    said = linted(capsys, written(tmp_path, SENDER))
    assert "and 1 with heads frozen. The task's color extractor is tested as well" in said


def test_more_trials_show_smaller_effects_and_more_heads_need_larger_ones(capsys):
    shares = [power.smallest_share(n, 1024) for n in (48, 96, 192)]
    assert shares[0] > shares[1] > shares[2] > 0.05
    assert power.smallest_share(48, 24) < shares[0]
    few = linted(capsys, str(EXAMPLES / "reader.toml"), "--trials", "3", "--heads", "24")
    assert "3 trials are too few: no test can reach 0.05 with fewer than 5." in few


def test_more_than_all_of_the_gap_is_no_head_that_trials_confirm(capsys):
    assert 1 < power.smallest_share(32, 1024) < 10
    said = linted(capsys, str(EXAMPLES / "reader.toml"), "--trials", "32", "--heads", "1024")
    assert (
        "but none whose effect varies as much as its mean, even if it restores the whole gap"
        in said
    )
    assert "100 % if it varies as much as its mean" in power.in_words("9 trials", 0.5, 1.0)
    for nothing in (1.01, float("inf"), float("nan")):
        said = power.in_words("9 trials", nothing, nothing)
        assert said.startswith("9 trials confirm no head, even one that restores the whole gap (")


@pytest.mark.parametrize(
    "options, said",
    [
        (["nowhere.toml"], "there is no file nowhere.toml; give the path of a TOML file"),
        (["."], "cannot read . (Is a directory); give the path of a TOML file"),
        (
            [str(EXAMPLES / "reader.toml"), "--task", "chess"],
            "there is no task 'chess'; use one of rgb, ",
        ),
        ([str(EXAMPLES / "reader.toml"), "--heads", "0"], "--heads is 0; give 1 or more"),
    ],
)
def test_what_cannot_be_linted_is_one_sentence(options, said, capsys):
    assert main(["hypotheses", *options]) == 2
    assert capsys.readouterr().err.startswith(f"rgb-circuit: {said}")


# The page of the documents


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_files_of_the_page_are_the_examples():
    names = [*re.findall(r"^\[hypotheses\.(\w+)\]$", PAGE, re.MULTILINE), "localization"]
    assert sorted({*names, *PUBLISHED}) == sorted(path.stem for path in EXAMPLES.glob("*.toml"))
    assert blocks("toml") == [(EXAMPLES / f"{name}.toml").read_text() for name in names]
    assert {name for name in PUBLISHED if f"| `{name}.toml`" in PAGE} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_claim_names_its_source_can_fail_and_is_of_the_game(name):
    [hypothesis] = rgb.read_hypotheses(EXAMPLES / f"{name}.toml")
    assert (
        re.fullmatch(r"arXiv:\d{4}\.\d{5}", hypothesis.cites)
        and hypothesis.cites.removeprefix("arXiv:") in PAGE
    )
    assert not lint.vague(hypothesis) and not lint.lacking(hypothesis, [hypothesis], GAME)


def test_what_the_page_shows_is_what_is_printed(true, false, capsys):
    options = (
        re.search(r"^rgb-circuit hypotheses reader.toml (.*)$", PAGE, re.MULTILINE).group(1).split()
    )
    reader, bystander = (
        linted(capsys, str(EXAMPLES / f"{name}.toml"), *options) for name in ("reader", "bystander")
    )
    for shown, printed in zip(blocks("text"), (reader, bystander, true[1], false[1]), strict=True):
        lines = [line for line in shown.splitlines() if line.strip() not in ("", "...")]
        assert [line for line in lines if line not in printed.splitlines()] == []
