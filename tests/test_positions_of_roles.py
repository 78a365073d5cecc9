"""A circuit whose work is done before [end] is found where it works, and [end] shows only what it
is told."""

import numpy as np
import pytest
import runs

import rgb_circuit as rgb
from analyses import evidence, roles
from analyses.command import main
from rgb_circuit.errors import InputError
from rgb_circuit.models.planted import MODERATE_NOISE, UNKIND, planted
from rgb_circuit.models.small import save

# At the question's first word a head finds the tile and another reads it; a third carries the
# colour to [end].
POI, EXTRACTOR, CARRIER, WRITER = (2, 1), (3, 0), (5, 0), (5, 2)
EARLY = dict(
    grid=4,
    noise=MODERATE_NOISE,
    decoys=("late_background_writer",),
    without=("poi", "extractor"),
    more=[
        (UNKIND["early_poi"], POI),
        (UNKIND["early_extractor"], EXTRACTOR),
        (UNKIND["carrier"], CARRIER),
    ],
)
FOUND = {POI: "POI localization", EXTRACTOR: "color extractor", WRITER: "background writer"}


@pytest.fixture(scope="module")
def early():
    """The model, its processor, and 16 trials."""
    model, processor, _ = planted(**EARLY)
    wrapped = rgb.wrap(model, processor, name="early")
    return wrapped, rgb.rgb_trials(wrapped, 16)


def named(table):
    return table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()


def row(frame, head, prediction):
    own = (frame["layer"] == head[0]) & (frame["head"] == head[1])
    return frame[own & (frame["prediction"] == prediction)].iloc[0]


@pytest.fixture(scope="module")
def at_text(early):
    return roles.evidence(*early, positions="text", progress=False)


def test_the_model_plays_by_what_its_question_was_told(early):
    model, trials = early
    assert rgb.play(model, trials, progress=False)["correct"].all()


def test_at_the_end_no_head_of_it_has_a_role(early):
    found = roles.evidence(*early, progress=False)
    assert named(roles.table(found)) == {}
    # The carrier brings the colour, whatever it looks at: no extractor by either of P2b and P2c.
    assert row(found, CARRIER, "P1b")["holds"] and row(found, CARRIER, "P1b")["effect"] > 9
    assert row(found, CARRIER, "P2b")["state"] == row(found, CARRIER, "P2c")["state"] == "refuted"
    assert row(found, CARRIER, "P2c")["weakest"] == "other down"


def test_at_the_text_and_at_all_positions_its_heads_have_theirs(early, at_text):
    assert named(roles.table(at_text)) == FOUND
    assert named(roles.roles(*early, positions="all", progress=False)) == FOUND


def test_at_the_picture_there_is_nothing(early):
    assert named(roles.roles(*early, positions="image", progress=False)) == {}


def test_heads_are_frozen_where_they_are_restored(early, at_text):
    model, trials = early
    edits = [
        rgb.Edit(*POI, positions="text"),
        rgb.Edit(*EXTRACTOR, source="erased", positions="text"),
    ]
    with_words = evidence.with_controls(roles.GAME, model, trials)
    frame = rgb.patch_edits(model, with_words, {"frozen": edits}, target="erased", progress=False)
    effect = frame.groupby("role", observed=True)["effect"].mean()
    unshown = effect[[role for role in effect.index if role.startswith("unshown")]]
    control = np.mean([effect["other"], effect["other_background"], *unshown])
    assert row(at_text, POI, "P5w")["effect"] == pytest.approx(
        effect["background"] - control, abs=1e-4
    )
    # Nearly all that it does goes through the extractor.
    assert row(at_text, POI, "P5")["share"] == pytest.approx(1, abs=0.02)


def test_the_command_prints_the_roles_of_the_positions_that_it_restores(
    tmp_path, capsys, monkeypatch
):
    runs.undrawn(monkeypatch)
    runs.without_closer_look(monkeypatch)
    folder = save(*planted(**EARLY)[:2], tmp_path / "model")
    command = ["run", "--model", str(folder), "--trials", "16", "--positions", "text"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "Roles from effects at positions 'text'" in printed
    for head, role in (("2.1", "POI localization"), ("3.0", "color extractor")):
        assert any(line.split()[:1] == [head] and role in line for line in printed.splitlines())


def test_positions_that_do_not_exist_are_refused_before_any_forward(early):
    with pytest.raises(InputError, match="positions is 'start'; use 'end', 'all'"):
        roles.roles(*early, positions="start")
