"""The published table agrees with itself, with nothing else, and only with models of its
geometry."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses.command import main
from analyses.rgb import published as compare
from rgb_circuit.calls.panels import PANELS, panels


@pytest.fixture(scope="module")
def table():
    return compare.published()


def as_run(table, scale=1.0, trials=("published",), positions="all"):
    """A `patch_heads` frame, as far as `compare` reads it, whose panels are ``scale`` × the
    table's."""
    blocks = [
        table[["layer", "head"]].assign(
            trial=trial,
            source="clean",
            target=target,
            component="z",
            positions=positions,
            role=role,
            effect=scale * table[panel],
        )
        for trial in trials
        for panel, (target, role) in PANELS.items()
    ]
    frame = pd.concat(blocks, ignore_index=True)
    return frame.astype(
        dict.fromkeys(["trial", "source", "target", "component", "positions", "role"], "category")
    )


def write_run(folder, frame, model="llava-hf/llava-1.5-7b-hf", dtype="float16"):
    folder.mkdir(exist_ok=True)
    frame.to_parquet(folder / "patch_heads.parquet", index=False)
    (folder / "manifest.json").write_text(json.dumps({"model": model, "dtype": dtype}))
    return folder


def test_the_published_table_has_the_numbers_its_figures_show(table):
    assert len(table) == 32 * 32 and table.notna().all(axis=None)
    effect = table.set_index(["layer", "head"])
    assert effect["odd, when recolored"].idxmax() == (19, 6) and effect[
        "odd, when erased"
    ].idxmax() == (
        19,
        6,
    )
    assert effect.loc[(19, 6), "odd, when recolored"] == pytest.approx(2.20, abs=0.01)
    assert list(effect["background, when erased"].nlargest(3).index) == [(15, 8), (18, 9), (26, 16)]


def test_the_table_agrees_exactly_with_itself(table):
    for frame in (table, as_run(table), as_run(table).sample(frac=1, random_state=0)):
        agreement = compare.compare(frame)
        assert (agreement[["pearson", "spearman", "overlap"]] == 1).all(axis=None)
        assert set(agreement["heads"]) == {1024}


def test_correlations_and_overlap_do_not_depend_on_scale(table):
    np.testing.assert_allclose(
        compare.compare(as_run(table, 0.3))[["pearson", "spearman", "overlap"]], 1, rtol=1e-12
    )


def test_reversed_effects_agree_negatively_and_share_no_top_head(table):
    agreement = compare.compare(as_run(table, -1.0))
    np.testing.assert_allclose(agreement[["pearson", "spearman"]], -1, rtol=1e-12)
    assert (agreement["shared"] == 0).all()


def test_shuffled_heads_agree_about_as_much_as_chance(table):
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(20):
        shuffled = table.assign(**{panel: rng.permutation(table[panel]) for panel in PANELS})
        draws.append(compare.compare(shuffled)[["pearson", "spearman", "overlap"]].to_numpy())
    draws = np.array(draws)
    # The standard deviation of a correlation of 1,024 unrelated pairs is 1/32.
    assert np.abs(draws[..., :2]).max() < 5 / 32 and np.abs(draws[..., :2].mean(0)).max() < 0.03
    assert draws[..., 2].mean() < 0.05


def test_steps_of_the_published_values_bound_the_rank_correlation_as_the_note_says(table):
    rng = np.random.default_rng(0)
    steps = dict(zip(PANELS, (0.010, 0.006, 0.006)))
    filled = table.assign(
        **{
            panel: table[panel] + rng.uniform(-step / 2, step / 2, len(table))
            for panel, step in steps.items()
        }
    )
    agreement = compare.compare(filled)
    assert agreement["spearman"].between(0.88, 0.97).all() and (agreement["pearson"] > 0.999).all()


def test_heads_tied_with_the_kth_count_as_shared(table):
    first = table[["layer", "head"]].assign(**dict.fromkeys(PANELS, 0.0))
    reference, run = first.copy(), first.copy()
    reference.loc[[3, 5, 7], list(PANELS)] = 1.0
    run.loc[7, list(PANELS)] = 2.0
    agreement = compare.compare(run, reference, k=1)
    assert (agreement["overlap"] == 1).all() and set(agreement["shared_heads"]) == {"0.7"}


def test_effects_that_are_all_equal_have_no_correlation(table):
    assert compare.compare(as_run(table, 0.0))[["pearson", "spearman"]].isna().all(axis=None)


def test_misreadings_hold_the_head_of_the_text_against_that_of_the_figure(table):
    rows = compare.misreadings(as_run(table, 0.5))
    assert set(rows["head"][rows["named_by"] == "text"]) == {"18.6", "14.8"}
    assert set(rows["head"][rows["named_by"] == "figure"]) == {"19.6", "15.8"}
    assert rows.loc[rows["named_by"] == "text", "published"].abs().max() < 0.01
    assert rows.loc[rows["named_by"] == "figure", "published"].min() > 0.9
    np.testing.assert_allclose(rows["run"], rows["published"] / 2)


def test_differences_from_the_published_setting(table):
    manifest = {"model": "llava-hf/llava-1.5-7b-hf", "dtype": "float16"}
    assert compare.differences(as_run(table), manifest).empty
    other = compare.differences(
        as_run(table, trials=("a", "b"), positions="end"), {**manifest, "dtype": "bfloat16"}
    )
    assert dict(zip(other["setting"], other["run"])) == {
        "dtype": "bfloat16",
        "positions": "end",
        "trials": "2 others",
    }


def test_another_geometry_is_refused(grouped):
    frame = rgb.patch_heads(grouped, rgb.rgb_trials(grouped, 2), progress=False)
    for given in (frame, panels(frame)):
        with pytest.raises(
            rgb.InputError,
            match="the run has 12 heads in 3 layers, the reference 1024 heads in 32 layers",
        ):
            compare.compare(given)


def test_frames_that_cannot_be_compared_are_refused(table):
    frame = as_run(table)
    for given, part in [
        (frame[frame["target"] == "erased"], "'recolored'"),
        (frame.drop(columns="effect"), "effect"),
        (frame[frame["head"] > 0], "992 heads"),
    ]:
        with pytest.raises(rgb.InputError, match=part):
            compare.compare(given)
    for k in (0, 1025):
        with pytest.raises(rgb.InputError, match=f"k is {k}"):
            compare.compare(frame, k=k)


def test_scatter_draws_every_head_and_labels_those_that_stand_out(table):
    ax = compare.scatter(as_run(table), "background, when erased")
    assert len(ax.collections[0].get_offsets()) == 1024
    assert {"15.8", "18.9", "26.16", "14.8 in the text"} <= {text.get_text() for text in ax.texts}


@pytest.mark.parametrize("scale, noise", [(1, 0), (0.3, 0), (0.3, 0.02), (0, 0.02)])
@pytest.mark.parametrize("panel", PANELS)
def test_names_in_a_scatter_do_not_run_into_each_other(panel, scale, noise, table):
    rng = np.random.default_rng(0)
    run = table.assign(
        **{name: scale * table[name] + rng.normal(0, noise, len(table)) for name in PANELS}
    )
    ax = compare.scatter(as_run(run), panel)
    ax.figure.canvas.draw()
    for name in ax.texts:
        # Its line may pass under another name.
        name.arrowprops = name.arrow_patch = None
    boxes = [name.get_window_extent() for name in ax.texts]
    assert len(boxes) >= 5 and not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_command_compares_a_run(table, tmp_path, capsys):
    folder = write_run(tmp_path / "run", as_run(table, trials=("a", "b"), positions="end"))
    assert main(["compare", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert (
        "19.6" in printed
        and "18.6" in printed
        and "2 others" in printed
        and "published setting" in printed
    )
    assert len(pd.read_parquet(folder / "compare.parquet")) == 3
    assert (folder / "compare.png").stat().st_size > 10_000


def test_command_is_silent_about_settings_that_agree(table, tmp_path, capsys):
    folder = write_run(tmp_path / "run", as_run(table))
    assert main(["compare", str(folder), "--top", "3", "--out", str(tmp_path / "elsewhere")]) == 0
    assert "published setting" not in capsys.readouterr().out
    assert (tmp_path / "elsewhere" / "compare.png").is_file() and not (
        folder / "compare.png"
    ).exists()


def remove(name):
    return lambda folder: (folder / name).unlink()


def overwrite(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    "spoil, part",
    [
        (remove("patch_heads.parquet"), "holds no patch_heads.parquet"),
        (remove("manifest.json"), "holds no manifest.json"),
        (overwrite("patch_heads.parquet", "no frame"), "cannot read"),
        (overwrite("patch_heads.parquet", ""), "cannot read"),
        (overwrite("manifest.json", "{"), "cannot read"),
        (overwrite("manifest.json", "[]"), "names no model"),
        (
            lambda folder: pd.DataFrame({"layer": [0]}).to_parquet(folder / "patch_heads.parquet"),
            "lacks the columns trial,",
        ),
        (
            lambda folder: [file.unlink() for file in folder.iterdir()] + [folder.rmdir()],
            "no folder",
        ),
    ],
)
def test_a_folder_that_holds_no_run_ends_with_one_sentence(spoil, part, table, tmp_path, capsys):
    folder = write_run(tmp_path / "run", as_run(table))
    spoil(folder)
    assert main(["compare", str(folder)]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("rgb-circuit: ") and part in error


def test_the_toys_own_run_is_refused_for_its_geometry(two_trials_run, capsys):
    assert main(["compare", str(two_trials_run)]) == 2
    assert "16 heads in 4 layers" in capsys.readouterr().err
