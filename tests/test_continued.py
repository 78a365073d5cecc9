"""The same picture under another question goes on from where the two prompts part."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import KINDS
from test_exactness import kernels_of, subject_of

import rgb_circuit as rgb
from analyses import task_reading
from rgb_circuit.measuring import estimate, measure
from rgb_circuit.measuring.measure import _in_common
from rgb_circuit.programs import continued
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION, ODD_QUESTION


@pytest.fixture
def after(monkeypatch):
    """Which condition went on from which, program by program."""
    seen, pictures_of = [], measure.pictures_of

    def noted(*arguments):
        pictures = pictures_of(*arguments)
        seen.append({name: one["after"] and one["after"][0] for name, one in pictures.items()})
        return pictures

    monkeypatch.setattr(measure, "pictures_of", noted)
    return seen


def asked(model, trials, question=BACKGROUND_QUESTION):
    return task_reading.patch_questions(
        model, trials, question=question, positions=("end", "after"), progress=False
    )


@pytest.mark.parametrize("name", KINDS)
def test_what_goes_on_is_what_runs_from_the_start(name, after, monkeypatch):
    subject = subject_of(name)
    for kernel in kernels_of(name):
        model = subject.model(kernel)
        short = asked(model, subject.trials)
        with monkeypatch.context() as without:
            without.setattr(measure, "_go_on", lambda *_: None)
            whole = asked(model, subject.trials)
        for column in ("source_logit", "target_logit", "effect"):
            np.testing.assert_allclose(short[column], whole[column], rtol=0, atol=subject.close)
        # Image tokens that see what comes after them hold the question already.
        goes_on = model.ahead == "none"
        assert after[0][task_reading.OTHER] == ("clean" if goes_on else None)
        after.clear()


def test_only_a_shorter_prompt_about_the_same_picture_goes_on(grouped, after):
    [trial] = rgb.rgb_trials(grouped, 1)
    longer = replace(trial, prompts={"erased": grouped.prompt(ODD_QUESTION + " , red or green")})
    for shown in (
        longer,
        replace(longer, images={**trial.images, "erased": trial.images["clean"]}),
    ):
        rgb.patch_heads(grouped, [shown], source="erased", target="clean", progress=False)
    other = replace(trial, prompts={"erased": grouped.prompt(BACKGROUND_QUESTION)})
    rgb.patch_heads(grouped, [other], source="erased", target="clean", progress=False)
    assert [set(one.values()) for one in after] == [{None}] * 3


def test_prompts_that_part_before_the_picture_ends_share_nothing():
    model = SimpleNamespace(config=SimpleNamespace(image_token_id=9))
    one, *others = (
        {"input_ids": torch.tensor([ids])}
        for ids in ([1, 2, 9, 9, 3], [1, 2, 9, 9, 4], [1, 4, 9, 9, 3], [1, 2, 9, 4, 3])
    )
    assert [_in_common(model, one, other) for other in others] == [4, 0, 0]


def test_wrong_angles_are_noticed(grouped, monkeypatch):
    def earlier(angles, count):
        if isinstance(angles, tuple):
            return tuple(earlier(part, count) for part in angles)
        return angles[..., :count, :].roll(1, -2)

    monkeypatch.setattr(continued, "first_rows", earlier)
    with pytest.raises(rgb.InputError, match="edits nothing moves its logits"):
        asked(grouped, rgb.rgb_trials(grouped, 1))


def test_the_account_knows_what_goes_on(grouped, monkeypatch):
    trials = rgb.rgb_trials(grouped, 2)
    wanted = task_reading.questions(trials, positions=("end",))
    short = estimate.cost(grouped, wanted)
    monkeypatch.setattr(measure, "_go_on", lambda *_: None)
    whole = estimate.cost(grouped, wanted)
    assert (short.captures, whole.captures) == (2, 4)
    assert 1 < whole.forwards - short.forwards < 2
