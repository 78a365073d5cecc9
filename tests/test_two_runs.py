"""A page over two runs: heads differ where they were changed and nowhere else, and what is not
shown to differ is not called equal."""

import csv
import json
import re
import shutil
from types import SimpleNamespace

import browser
import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses.command import main
from analyses.report import head, page, run
from analyses.report.two_runs import heads, roles, settings, two_runs, verdict, write
from analyses.report.two_runs import page as two_page
from analyses.report.two_runs.scatter import Point, scatter
from rgb_circuit.hypothesis import Hypothesis, Prediction
from rgb_circuit.keeping.shared_trials import shared_trials
from rgb_circuit.statistics.differences import difference
from rgb_circuit.task import Condition, Role, Task
from rgb_circuit.trial import described

HEAD = (3, 0)


def changed(folder, to, manifest=None, **frames):
    """A copy of a run with other frames, and what ``manifest`` makes of its manifest."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("parts"))
    for name, frame in frames.items():
        frame.to_parquet(to / f"{name}.parquet", index=False)
    if manifest:
        about = json.loads((to / "manifest.json").read_text())
        manifest(about)
        (to / "manifest.json").write_text(json.dumps(about))
    return to


def scaled(folder, factor, head=HEAD):
    """The effects of a run, with those of one head times a factor."""
    frame = pd.read_parquet(folder / "patch_heads.parquet")
    own = (frame["layer"] == head[0]) & (frame["head"] == head[1])
    effect = frame["effect"].where(~own, factor * frame["effect"])
    return frame.assign(effect=effect, patched_logit=frame["target_logit"] + effect)


@pytest.fixture(scope="module")
def weaker(planted_run, tmp_path_factory):
    """The planted run, with one head that does half as much."""
    folder = tmp_path_factory.mktemp("weaker") / "weaker"
    return changed(planted_run, folder, patch_heads=scaled(planted_run, 0.5))


@pytest.fixture(scope="module")
def written(planted_run, weaker, tmp_path_factory):
    """The page over the planted run and the weaker one."""
    return write(planted_run, weaker, tmp_path_factory.mktemp("written") / "page.html")


@pytest.fixture(scope="module")
def others(planted_run, planted, tmp_path_factory):
    """The planted run, with effects on trials of another seed; they have the names and tiles of its
    own, whose pictures and attention are in its other frames."""
    drawn = rgb.rgb_trials(planted, 12, seed=1)
    own = json.loads((planted_run / "manifest.json").read_text())["trials"]
    frame = rgb.patch_heads(planted, drawn, progress=False)
    names = {new.name: old["name"] for new, old in zip(drawn, own)}
    frame = frame.assign(trial=frame["trial"].astype(str).map(names))

    def with_trials(manifest):
        manifest["trials"] = [
            described(new) | {part: old[part] for part in ("name", "tile")}
            for new, old in zip(drawn, own)
        ]

    folder = tmp_path_factory.mktemp("others") / "others"
    return changed(planted_run, folder, with_trials, patch_heads=frame)


def read(folder):
    return run.read(folder, [head.NEEDS, *(one.needs for one in page.known_sections().values())])


def of(table, at):
    return table[(table["layer"] == at[0]) & (table["head"] == at[1])]


def test_no_head_of_a_run_differs_from_itself(planted_run):
    found = two_runs(planted_run, planted_run)
    table = found.compared.heads
    assert (table["difference"] == 0).all() and not table["differs"].any()
    assert (table["q_value"] == 1).all() and table["paired"].all()
    assert verdict(found) == "Every effect of 24 heads is the same in both runs."
    assert not settings.settings(found.a, found.b) and not roles.other_roles(found.a, found.b)


def test_the_same_trials_in_another_order_are_compared_each_with_itself(planted_run, tmp_path):
    frame = pd.read_parquet(planted_run / "patch_heads.parquet")
    turned = frame.iloc[::-1].reset_index(drop=True)
    turned.attrs = frame.attrs
    backwards = changed(
        planted_run, tmp_path / "b", lambda about: about["trials"].reverse(), patch_heads=turned
    )
    table = two_runs(planted_run, backwards).compared.heads
    assert table["paired"].all()
    assert (table[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)


def test_the_head_that_does_half_as_much_is_the_one_that_differs(planted_run, weaker):
    found = two_runs(planted_run, weaker)
    table = found.compared.heads
    assert set(table.loc[table["differs"], ["layer", "head"]].apply(tuple, axis=1)) == {HEAD}
    own = of(table, HEAD)
    assert own["difference"].to_numpy() == pytest.approx((-0.5 * own["effect_a"]).to_numpy())
    assert (of(table[table["differs"]], HEAD)["ci_high"] < 0).all()
    rest = table.drop(index=own.index)
    assert (rest["difference"].abs() < 1e-9).all()
    assert "1 of 24 heads is shown to act differently in B than in A: 3.0." == verdict(found)


def test_a_difference_that_is_sure_but_small_is_none_that_counts(planted_run, tmp_path):
    slight = changed(planted_run, tmp_path / "slight", patch_heads=scaled(planted_run, 0.95))
    table = two_runs(planted_run, slight).compared.heads
    assert of(table, HEAD)["q_value"].min() < 0.05 and not table["differs"].any()


def test_effects_are_those_of_each_runs_panels(planted_run, others):
    table = two_runs(planted_run, others).compared.heads
    panels = read(planted_run).frames["panels"]
    both = table.merge(panels, on=["panel", "layer", "head"], suffixes=("", "_there"))
    assert (both["unit"] == "share of the gap").all() and len(both) == 3 * 24
    shares = (both["effect"] / both["gap"]).to_numpy()
    assert both["effect_a"].to_numpy() == pytest.approx(shares, abs=1e-6)


@pytest.mark.parametrize("which", ["weaker", "others"])
def test_agreement_over_heads_is_that_of_compare_runs(planted_run, which, request):
    other = request.getfixturevalue(which)
    mine = two_runs(planted_run, other).compared.panels.set_index("panel")
    there = rgb.compare_runs(planted_run, other).query("compared == 'effects'").set_index("name")
    names = {
        "correlation": "pearson", "ci_low": "pearson_low", "ci_high": "pearson_high",
        "ceiling": "ceiling", "corrected": "disattenuated", "corrected_low": "disattenuated_low",
    }  # fmt: skip
    for name, called in names.items():
        wanted = there.loc[mine.index, called].to_numpy(dtype=float)
        assert mine[name].to_numpy(dtype=float) == pytest.approx(wanted, abs=1e-6, nan_ok=True)


def test_other_trials_are_compared_by_their_means_and_nothing_is_shown(planted_run, others):
    found = two_runs(planted_run, others)
    table = found.compared.heads
    assert not table["paired"].any() and not table["differs"].any()
    assert verdict(found) == "None of 24 heads is shown to act differently in B than in A."
    page = write(planted_run, others, others / "page.html").page
    assert "Not shown to differ does not mean equal" in page.read_text()


def test_a_share_of_the_gap_is_a_ratio_of_means_whose_difference_is_covered():
    """Of two runs whose gaps wander with the trials, and with them the effects."""
    rng = np.random.default_rng(0)
    covered = []
    for same in (True, False):
        inside = []
        for _ in range(400):
            gaps = [8 * np.exp(0.4 * rng.normal(size=16)), 12 * np.exp(0.4 * rng.normal(size=16))]
            if same:
                gaps[1] = 1.5 * gaps[0]
            samples = [
                heads._Sample(
                    np.array([[0.5], [0.3]])[side] * gap[:, None] + rng.normal(size=(16, 5)),
                    gap,
                    None,
                    "",
                )
                for side, gap in enumerate(gaps)
            ]
            for one, gap in zip(samples, gaps):
                assert one.shares.mean(0) == pytest.approx(one.effects.mean(0) / gap.mean())
            found = difference(*(one.shares for one in samples), same_trials=same)
            inside.append((found.low <= -0.2) & (found.high >= -0.2))
        covered.append(np.mean(inside))
    assert 0.93 < min(covered) and max(covered) < 0.985


def test_a_difference_counts_within_strata_where_it_is_no_rounding_and_enough_for_both_runs():
    rng, strata = np.random.default_rng(0), np.repeat(["red", "green"], 8)

    def sample(share, gap, void=""):
        wandering = np.where(strata == "red", 1.0, -1.0) + 1e-3 * rng.normal(size=16)
        effects = gap * (share + wandering)[:, None]
        return heads._Sample(effects, np.full(16, gap), strata, void)

    def differs(share, floor=0.0):
        samples = sample(0, 10.0), sample(share, 0.4)
        about = dict.fromkeys(heads.KEY, "any") | heads._about(samples, False)
        both = [SimpleNamespace(floor=floor)] * 2
        return heads._tested(heads._differences(both, samples, ["0.0"], about))["differs"].item()

    # At least 0.05 of the larger gap, and 0.025 logits, a sixteenth of the smaller.
    assert differs(0.07) and not differs(0.056) and not differs(0.07, floor=0.04)
    for voids in (("few clusters", ""), ("", "few clusters")):
        samples = [sample(0, 1.0, void) for void in voids]
        assert heads._about(samples, False)["void"] == "few clusters"


def test_where_a_picture_keeps_the_answer_the_gap_is_that_of_one_that_changes_it():
    pictures = {name: Condition(right=right) for name, right in
                (("clean", "right"), ("changed", "other"), ("moved", "right"))}  # fmt: skip
    roles_of = {"right": Role(), "other": Role()}
    task = Task("pairs", "", roles_of, pictures, corrupted="changed")
    rows = [
        dict(trial="a", target=target, layer=0, head=0, role=role, source_logit=3.0 * mine,
             target_logit=3.0 * (mine if target == "moved" else not mine))
        for target in ("changed", "moved")
        for role, mine in (("right", True), ("other", False))
    ]  # fmt: skip
    measured = SimpleNamespace(task=task, frames={"patch_heads": pd.DataFrame(rows)})
    for target in ("changed", "moved"):
        assert heads._gap(measured, SimpleNamespace(target=target)).tolist() == [6]


def test_what_must_be_refuted_and_holds_refutes_a_role():
    parts = [Prediction.parse(name, "odd up: z clean -> erased") for name in "AB"]
    reader = Hypothesis("reader", tuple(parts), refutes=("B",))
    rows = [dict(prediction="A", state="undecided"), dict(prediction="B", state="holds")]
    evidence = pd.DataFrame(rows).assign(layer=HEAD[0], head=HEAD[1], void="")
    tested = SimpleNamespace(
        task=SimpleNamespace(hypotheses=[reader]), frames={"evidence": evidence}
    )
    state, says = roles._verdict(tested, HEAD, "reader", set())
    assert state == "refuted" and "A undecided; B holds" in says


def test_trials_asked_in_other_words_are_the_same_and_other_pictures_are_not(planted_run, tmp_path):
    def asked(manifest):
        for one in manifest["trials"]:
            one["prompt"] += " please"

    def repainted(manifest):
        manifest["trials"][0]["pictures"]["clean"] = "another"

    runs = [read(planted_run)]
    for name, change in (("asked", asked), ("repainted", repainted)):
        runs.append(read(changed(planted_run, tmp_path / name, change)))
    shared = [shared_trials(runs[0], one) for one in runs]
    assert [one.same for one in shared] == [True, True, False]
    assert [one.asked_alike for one in shared] == [True, False, True]
    assert shared[2].n == 11 and "these are compared trial by trial" in shared[2].says
    rows = settings.settings(runs[0], runs[1])
    assert [name for name, *_ in rows] == ["first prompt"]


def test_of_runs_that_share_some_trials_those_are_compared(planted_run, tmp_path):
    frame = scaled(planted_run, 0.5)
    names = sorted(frame["trial"].astype(str).unique())
    kept = frame[frame["trial"].astype(str).isin(names[-8:])]
    eight = changed(planted_run, tmp_path / "eight", patch_heads=kept)
    found = two_runs(planted_run, eight)
    assert found.shared.says.startswith("8 trials are in both, of 12 and 8: these are compared")
    table = found.compared.heads
    assert table["paired"].all() and set(table["n_a"]) == set(table["n_b"]) == {8}
    # By plain pandas, of the shared trials alone.
    place = "(target == 'erased') and (role == 'odd')"
    one = pd.read_parquet(planted_run / "patch_heads.parquet").query(place)
    one = one[one["trial"].astype(str).isin(names[-8:])]
    sides = [side.assign(gap=side["source_logit"] - side["target_logit"]) for side in
             (one, kept.query(place))]  # fmt: skip
    means = [side.groupby(["layer", "head"])[["effect", "gap"]].mean() for side in sides]
    shares = [side["effect"] / side["gap"] for side in means]
    rows = table[table["panel"] == "odd, when erased"].set_index(["layer", "head"])
    wanted = (shares[1] - shares[0]).loc[rows.index]
    assert rows["difference"].to_numpy() == pytest.approx(wanted.to_numpy(), abs=1e-6)
    correlation = means[0]["effect"].corr(means[1]["effect"])
    agreement = rgb.compare_runs(planted_run, eight).set_index("name")
    assert agreement.loc["odd, when erased", "pearson"] == pytest.approx(correlation, abs=1e-6)


def test_of_runs_that_share_few_trials_all_are_compared(planted_run, tmp_path):
    def renamed(manifest):
        for one in manifest["trials"][:7]:
            one["pictures"]["clean"] = "another"

    found = two_runs(planted_run, changed(planted_run, tmp_path / "few", renamed))
    assert found.shared.n == 5 and "somewhat too wide" in found.shared.says
    table = found.compared.heads
    assert not table["paired"].any() and set(table["n_a"]) == set(table["n_b"]) == {12}


def test_table_and_page_pair_trials_that_are_asked_in_other_words(
    planted_run, weaker, tmp_path, capsys
):
    def asked(manifest):
        for one in manifest["trials"]:
            one["prompt"] += " please"

    other = changed(weaker, tmp_path / "asked", asked)
    tables = [rgb.compare_runs(planted_run, one) for one in (weaker, other)]
    pd.testing.assert_frame_equal(*tables)
    assert main(["compare", str(planted_run), str(other), "--out", str(tmp_path / "out")]) == 0
    says = two_runs(planted_run, other).shared.says
    assert "asked in other words" in says and says in capsys.readouterr().out


def test_a_fault_of_the_page_leaves_the_tables_and_is_a_sentence(
    planted_run, weaker, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(two_page, "_panels", lambda found: 1 / 0)
    command = ["compare", str(planted_run), str(weaker), "--page", str(tmp_path / "page.html")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "page.html could not be drawn (ZeroDivisionError in test_two_runs.py" in said
    assert f"{planted_run}/ and {weaker}/: once it is mended, rgb-circuit compare" in said
    assert not (tmp_path / "page.html").exists()
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert there == {"compare_runs.parquet", "compare_heads.parquet"}


def test_every_id_of_the_page_is_there_once(written):
    text = written.page.read_text()
    text = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert {"a-tip", "b-tip"} <= set(ids) and len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#(.*?)\)", text)) <= set(ids)


def test_settings_name_what_differs_and_no_folder(planted_run, tmp_path):
    def manifest(about):
        about |= {"model": "/home/somebody/secret/tuned", "dtype": "bfloat16", "weights": "f00"}
        about["options"]["seed"] = 7
        about["versions"]["torch"] = "1.0"

    other = read(changed(planted_run, tmp_path / "other", manifest))
    rows = {name: values for name, *values in settings.settings(read(planted_run), other)}
    assert rows["model"] == ["planted", "tuned"] and rows["number format"][1] == "bfloat16"
    assert rows["weights"] == ["one", "another"] and rows["--seed"] == ["0", "7"]
    assert rows["version of torch"][1] == "1.0" and len(rows) == 5


def test_another_number_format_is_no_other_model(planted_run, tmp_path):
    half = {"dtype": "bfloat16", "weights": "f00", "config": "f00"}
    other = read(changed(planted_run, tmp_path / "other", lambda about: about.update(half)))
    rows = settings.settings(read(planted_run), other)
    assert rows == [("number format", "float32", "bfloat16")]


def test_a_role_in_one_run_alone_says_whether_the_other_refutes_it(planted_run, tmp_path):
    table, evidence = (
        pd.read_parquet(planted_run / f"{name}.parquet") for name in ("roles", "evidence")
    )
    has = (table["layer"] == HEAD[0]) & (table["head"] == HEAD[1])
    assert table.loc[has, "role"].item() == "color extractor"
    table.loc[has, "role"] = "none"
    own = (evidence["layer"] == HEAD[0]) & (evidence["head"] == HEAD[1])
    for state in ("undecided", "refuted"):
        lost = own & (evidence["prediction"] == "P1a")
        other = evidence.assign(
            state=evidence["state"].mask(lost, state), holds=evidence["holds"] & ~lost
        )
        folder = changed(planted_run, tmp_path / state, roles=table, evidence=other)
        (one,) = roles.other_roles(read(planted_run), read(folder))
        assert (one.head, one.role, one.refuted) == (HEAD, "color extractor", state == "refuted")
        assert one.verdicts == ("color extractor", f"not shown: P1a {state}")


def test_models_of_other_shapes_stand_side_by_side_without_their_heads(
    planted_run, toy_run, tmp_path
):
    found = write(planted_run, toy_run, tmp_path / "page.html")
    text = found.page.read_text()
    assert found.compared is None and "6 layers × 4 heads and 4 layers × 4 heads" in text
    assert text.count('<svg class="circuit"') == 2
    assert 'href="#head=' not in text and "two-data" not in text and "<i>" not in text
    assert f"<th>{'all pictures'}</th>" in text and "color extractor" in text


def test_two_trials_test_nothing_and_the_page_says_so(two_trials_run, tmp_path):
    one = pd.read_parquet(two_trials_run / "patch_heads.parquet")
    first = one[one["trial"] == one["trial"].iloc[0]]
    folder = changed(two_trials_run, tmp_path / "one", patch_heads=first)
    found = write(folder, folder, tmp_path / "page.html")
    assert set(found.compared.heads["void"]) == {"one trial"}
    assert found.compared.heads["q_value"].isna().all()
    assert not found.compared.heads["differs"].any()


def test_the_command_writes_page_and_table_and_prints_what_it_did(
    planted_run, weaker, tmp_path, capsys
):
    def printed(*options):
        assert main(["compare", str(planted_run), str(weaker), *map(str, options)]) == 0
        return capsys.readouterr().out

    plain = printed("--out", tmp_path / "out")
    frame = (tmp_path / "out" / "compare_runs.parquet").read_bytes()
    said = printed("--out", tmp_path / "out", "--page", tmp_path / "page.html")
    assert said.startswith(plain) and said.endswith(f"Wrote {tmp_path / 'page.html'}\n")
    assert (tmp_path / "out" / "compare_runs.parquet").read_bytes() == frame
    table = pd.read_parquet(tmp_path / "out" / "compare_heads.parquet")
    pd.testing.assert_frame_equal(table, two_runs(planted_run, weaker).compared.heads)


def test_what_the_command_refuses(planted_run, toy_run, tmp_path, capsys):
    def refused(*arguments):
        assert main(["compare", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "--page sets two runs side by side" in refused(planted_run, "--page", "x.html")
    nowhere = tmp_path / "nowhere" / "page.html"
    assert "there is no folder" in refused(planted_run, planted_run, "--page", nowhere)
    assert "heads of models of different shape" in refused(planted_run, toy_run)
    assert main(["compare", *map(str, (planted_run, toy_run, "--page", tmp_path / "p.html"))]) == 0
    assert "The models have different shapes" in capsys.readouterr().out


def test_a_click_on_a_head_shows_it_in_both_runs(written):
    with browser.browser() as chromium:
        shown = browser.opened(chromium, written.page)
        cards = shown.locator("#explore-compare .card")
        # First the head that differs most.
        cards.nth(1).wait_for()
        assert shown.locator("#two-head").inner_text() == "Head 3.0 in both runs"
        assert "shown to differ" in shown.locator("#two-differences").inner_text()
        shown.locator("#heads .scatter a[href='#head=2.1'] circle").last.click()
        shown.locator("#two-cards[data-shows^='#head=2.1']").wait_for()
        assert [card.count("POI localization") > 0 for card in cards.all_inner_texts()] == [
            True
        ] * 2
        assert "not shown to differ" in shown.locator("#two-differences").inner_text()
        assert cards.locator("canvas").count() == 2
        shown.locator("#two-conditions button", has_text="erased").click()
        shown.locator("#two-cards[data-shows*='condition=erased']").wait_for()
        for kind, beginning in (("png", b"\x89PNG"), ("svg", b"<svg")):
            with shown.expect_download() as file:
                shown.locator(f"#two-{kind}").click()
            assert file.value.suggested_filename == f"head-2.1-in-two-runs.{kind}"
            assert file.value.path().read_bytes().startswith(beginning)
        with shown.expect_download() as file:
            shown.locator("#two-csv").click()
        rows = list(csv.reader(file.value.path().read_text().splitlines()))
        assert {row[0] for row in rows[1:]} == {*written.names, "B less A"}
        again = browser.opened(chromium, written.page, re.sub(r"^[^#]*", "", shown.url))
        again.locator("#two-cards[data-shows^='#head=2.1']").wait_for()
        for one in (shown, again):
            assert not one.errors and all(
                url.startswith(("file:", "data:", "blob:")) for url in one.asked
            )


def test_a_notebook_shows_the_page(planted_run, written):
    assert two_runs(planted_run, planted_run)._repr_html_() is None
    assert "<iframe" in written._repr_html_()


@pytest.mark.parametrize("size", [6e-5, 0.012, 24.0])
def test_numbers_on_axes_are_short_and_told_apart(size):
    point = Point("3.0", (size, size, size), (-size, -size, -size), False, "")
    drawn = scatter([point], share=False, names=("A", "B"), says="both")
    ticks = re.findall(r'class="tick"[^>]*>([^<]*)<', drawn)
    # Each once to the right and once upwards, in the room left of the axis.
    assert len(ticks) == 2 * len(set(ticks)) and max(map(len, ticks)) <= 6, ticks


@pytest.mark.parametrize("share", [True, False])
def test_rounding_is_not_drawn_as_an_effect(share):
    point = Point("3.0", (4e-11,) * 3, (-4e-11,) * 3, False, "")
    drawn = scatter([point], share=share, names=("A", "B"), says="both")
    assert "#head=3.0" not in drawn and "1 head with" in drawn
