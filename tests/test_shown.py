"""What shows itself in a notebook: a run's page, a head's card, attention over a picture."""

import re
from html import unescape

import numpy as np
import pytest
import torch
from browser import browser, opened

import rgb_circuit as rgb
from rgb_circuit.plots.attention import veiled


@pytest.fixture(scope="module")
def run(planted_run):
    """A run of the planted model, some of whose heads have roles."""
    return rgb.read_run(planted_run)


def test_a_runs_page_stands_in_a_cell_and_a_click_stays_in_it(run, tmp_path):
    notebook = tmp_path / "notebook.html"
    notebook.write_text(
        f"<!DOCTYPE html><meta charset=utf-8><h1>A notebook</h1>{run._repr_html_()}"
    )
    with browser() as chromium:
        page = opened(chromium, notebook)
        frame = page.frame_locator("iframe")
        frame.locator("#explore .vega-embed").first.wait_for()
        frame.locator("#explore-map path[aria-label^='head: 2; layer: 4; ']").first.click(
            force=True
        )
        frame.locator("#explore[data-shows*='head=4.2']").wait_for()
        # The frame has no address that could be passed on; the part that says what is seen has.
        frame.locator("#explore-copy").click()
        copied = frame.locator("#explore-copied")
        copied.filter(has_text="head=4.2").wait_for()
        assert copied.inner_text().startswith("#head=4.2")
        assert frame.locator("h1").count() == 1
        assert page.locator("h1").inner_text() == "A notebook"
        assert page.errors == [] and page.url == notebook.as_uri()


def test_a_run_without_its_page_shows_itself_as_text(run, tmp_path):
    (tmp_path / "manifest.json").write_bytes((run.folder / "manifest.json").read_bytes())
    assert rgb.read_run(tmp_path)._repr_html_() is None


def test_a_heads_card_says_what_the_frames_say(run):
    # The one that finds the odd tile.
    card, panels = run.head(2, 1), run.frames["panels"]
    own = panels[(panels["layer"] == 2) & (panels["head"] == 1)]
    top = own.loc[own["effect"].abs().idxmax()]
    assert card.verdict == "POI localization"
    restored, share, _ = card.numbers.values()
    assert float(restored.split()[0]) == pytest.approx(top["effect"], rel=5e-3)
    assert float(share.split()[0]) == pytest.approx(100 * top["effect"] / top["gap"], rel=5e-3)
    evidence = run.frames["evidence"].query("layer == 2 and head == 1").set_index("prediction")
    assert len(card.claims) >= 5 and set(card.claims["state"]) == {"shown"}
    for claim in card.claims.itertuples():
        assert evidence.loc[claim.claim, "holds"]
        assert claim.effect == evidence.loc[claim.claim, "effect"]
        assert claim.says and claim.says in unescape(card._repr_html_())
    assert str(card) == repr(card) and "2.1 of planted: POI localization" in str(card)


def test_a_head_without_a_role_has_claims_that_are_not_shown(run):
    card = run.head(0, 0)
    assert card.verdict == "not shown to meet every prediction of a role"
    assert "refuted" in set(card.claims["state"])
    with pytest.raises(rgb.InputError, match=r"no head 30\.1 in this run; give one of its 24"):
        run.head(30, 1)


def test_a_head_of_a_run_that_told_no_roles_says_why(two_trials_run):
    run = rgb.read_run(two_trials_run)
    reasons = run.frames["left_out"].set_index("frame")["reason"]
    print(reasons, "roles" in run.frames)
    card = run.head(3, 1)
    assert card.verdict == f"no role was tested: {reasons['roles']}"


def test_attention_over_a_picture_is_that_of_the_model_run_with_its_attention_returned():
    model = rgb.load("toy", attn_implementation="eager")
    trial = rgb.rgb_trials(model, 1, seed=4)[0]
    text = trial.prompt.replace("<image>", model.processor.image_token)
    inputs = model.processor(text=[text], images=[[trial.images["erased"]]], return_tensors="pt")
    with torch.no_grad():
        out = model.nnsight._module(**inputs, output_attentions=True)
    image = inputs["input_ids"][0] == model.config.image_token_id
    pattern = out.attentions[3][0, 1, -1, image].reshape(model.grid).numpy()
    ax = rgb.attention_over(model, trial, 3, 1, "erased")
    # The middle of each tile: the outline of one lies on its edges.
    drawn, wanted = (
        np.asarray(some)[..., :3].astype(int)[half::step, half::step]
        for some in (ax.images[0].get_array(), veiled(pattern, trial.images["erased"]))
        for step in [len(np.asarray(some)) // model.grid[0]]
        for half in [step // 2]
    )
    assert drawn.shape == wanted.shape == (*model.grid, 3) and np.abs(drawn - wanted).max() <= 1
    share = float(re.search(r"^([\d.]+)", ax.get_xlabel()).group(1)) / 100
    assert share == pytest.approx(float(pattern.sum()), abs=0.006)
