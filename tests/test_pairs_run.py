"""Pairs of photographs from a table to the page, by the command, on a model that reads them in
LLaVA-1.5's kind of vocabulary: more names for the same pairs show no more."""

import io
import re
from contextlib import redirect_stdout

import pandas as pd
import pytest
import runs
import vocabularies
from tables import PHOTOGRAPHS

import rgb_circuit as rgb
from analyses.command import main
from analyses.evidence import power
from analyses.report.two_runs import two_runs
from rgb_circuit.models.photo_reader import PLACES, QUESTION, photo_reader, photographs
from rgb_circuit.models.small import save


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function of a number of pairs and of names for each: the finished run, what it printed, and
    its page as text."""
    folder = tmp_path_factory.mktemp("pairs")
    model, processor, _ = photo_reader(noise=0.02, vocabulary=vocabularies.llama_like())
    save(model, processor, folder / "reader")
    (folder / "columns.toml").write_text(PHOTOGRAPHS)

    def rows(pairs):
        for trial in photographs("<image> " + QUESTION, pairs, seed=5):
            files = {name: f"{trial.name} {name} of {pairs}.png" for name in trial.images}
            for name, file in files.items():
                trial.images[name].save(folder / file)
            yield {"name": trial.name, **files, **trial.answers}

    def finished(pairs, names):
        table, out = pd.DataFrame(rows(pairs)), folder / f"{pairs} under {names}"
        several = [table.assign(name=table["name"] + f" {number}") for number in range(names)]
        pd.concat(several).to_csv(folder / "rows.csv", index=False)
        said = io.StringIO()
        options = ["--trials-file", folder / "rows.csv", "--columns", folder / "columns.toml"]
        with redirect_stdout(said), pytest.MonkeyPatch.context() as patched:
            runs.sections(patched, "roles")
            runs.without_closer_look(patched, "curve", "sweeps")
            assert main(["run", "--model", *map(str, [folder / "reader", *options]),
                         "--out", str(out)]) == 0  # fmt: skip
        page = re.sub(r"<[^>]+>|\s+", " ", (out / "report.html").read_text())
        return rgb.read_run(out), said.getvalue(), re.sub(r"\s+", " ", page)

    return finished


@pytest.mark.filterwarnings("ignore")
def test_pairs_under_more_names_have_the_same_verdicts_and_are_counted_once(run):
    (once, _, _), (twice, said, page) = run(20, 1), run(20, 2)
    for name in ("evidence", "roles", "sweeps", "panels", "curve"):
        one, other = once.frames[name], twice.frames[name]
        left_out = ["stray"] if name == "evidence" else []
        pd.testing.assert_frame_equal(
            one.drop(columns=left_out), other.drop(columns=left_out), rtol=1e-6, atol=1e-8
        )
    assert set(twice.frames["evidence"]["n"]) == {20}
    roles = twice.frames["roles"].set_index(["layer", "head"])["role"]
    assert roles[PLACES["answer carrier"]].startswith("answer carrier")
    # The bias head takes more pairs to be shown: tests/test_items.py has it.
    assert set(roles.drop(index=PLACES["answer carrier"])) <= {"none", "bias head"}
    assert roles[PLACES["looker"]] == "none"
    # Over two runs effects are read as on the page of each, and once a cluster.
    found = two_runs(once.folder, twice.folder)
    table, there = found.compared.heads, found.a.frames["panels"]
    assert set(table["n_a"]) == set(table["n_b"]) == {20} and not found.shared.same
    assert (table["difference"].abs() < 1e-6).all()
    both = table.merge(there, on=["panel", "layer", "head"])
    assert (both["unit"] == "share of the gap").all() and len(both) == len(there)
    shares = (both["effect"] / both["gap"]).to_numpy()
    assert both["effect_a"].to_numpy() == pytest.approx(shares, abs=1e-6)
    # The curve is of the half of the clusters that heads were not ranked on.
    assert set(twice.frames["curve"]["n"]) == {10}
    for text in (said, page):
        assert "40 trials in 20 clusters confirm" in text
    # Known before it: here all trials are answered correctly.
    heads = len(twice.frames["roles"])
    assert power.beforehand(twice.trials, twice.task, heads)[0] in said


@pytest.mark.filterwarnings("ignore")
def test_four_pairs_are_too_few_under_two_names_and_the_page_says_so(run):
    finished, said, page = run(4, 2)
    assert set(finished.frames["evidence"]["void"]) == {"few clusters"}
    assert (finished.frames["roles"]["role"] == "none").all()
    for text in (said, page):
        assert "these are too few: a test needs 8 clusters; add trials of other pictures" in text
        assert (
            "8 trials in 4 clusters confirm no head, even one that restores the whole gap" in text
        )
    too_few = "8 trials in 4 clusters are too few to confirm one head alone among 24: it takes "
    assert too_few in said and "or more clusters for each answer.\n" in said
