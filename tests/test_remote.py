"""Every public function on a real NDIF server gives the frames that it gives here, by programs that
travel as source."""

import inspect
import io
import pickletools
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nnsight.intervention.serialization import dumps
from transformers import PreTrainedModel

import analyses
import rgb_circuit as rgb
from analyses import (
    attention_statistics,
    audit,
    background_writer,
    circuit,
    color_extractor,
    composition,
    poi_localization,
    roles,
    task_reading,
)
from analyses.evidence import examine
from analyses.rgb import redirect, riddle
from rgb_circuit import programs
from rgb_circuit.conversation import prompt
from rgb_circuit.hypothesis import Hypothesis, Prediction
from rgb_circuit.running import memory
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION


@pytest.fixture
def pair(request, ndif_server, monkeypatch, loaded):
    """The same model here and on the server."""
    ndif_server.connect(monkeypatch)
    name = ndif_server.names["grouped"] if request.param == "grouped" else request.param
    for remote in (False, True):
        if (name, remote) not in loaded:
            loaded[name, remote] = rgb.load(name, remote=remote)
    return loaded[name, False], loaded[name, True]


def heads(model):
    return [(layer, head) for layer in range(model.n_layers) for head in (0, model.n_heads - 1)]


def edits(model):
    last = model.n_layers - 1
    return {
        "one": [rgb.Edit(0, 0)],
        "frozen": [rgb.Edit(0, 1), rgb.Edit(last, 0, source="erased")],
        "ablated": [rgb.Edit(1, 1, source="zero"), rgb.Edit(last, 1, source="mean")],
        "everywhere": [
            rgb.Edit(0, 2, positions="image", component="value"),
            rgb.Edit(1, 0, positions=[-2, -1], component="pattern"),
        ],
    }


def every_kind(model, words):
    """An edit of each component, and of attention, at some positions."""
    layer, [head, *_] = model.n_layers - 2, range(model.n_heads)
    return {
        **{
            kind: [rgb.Edit(layer, head, component=kind, positions=words)]
            for kind in ("z", "pattern", "value", "query", "key")
        },
        **{
            kind: [rgb.Edit(layer, None, component=kind, positions=words)]
            for kind in ("attn_out", "mlp_out", "resid_pre")
        },
        "scaled": [rgb.Edit(0, 1, "own", positions=words, scale=0.5)],
        "mean": [rgb.Edit(layer, None, "mean", "mlp_out", words)],
        "looks less": [rgb.AttentionEdit(layer, queries=words, keys="first", bias=-1.0)],
        "one looks away": [rgb.AttentionEdit(0, head, queries=words, keys="tile")],
        "without the tile": [rgb.Edit(1, head, positions=words, without="tile")],
        "over the picture": [rgb.Edit(1, head, component="pattern", positions=words, over="image")],
    }


def said(model, trials):
    """What is said under an edit of each kind."""
    variants = [
        None,
        *(edits for name, edits in every_kind(model, "end").items() if name != "mean"),
    ]
    return pd.concat(
        [rgb.generate(model, trials[0], "erased", edits or (), 3).tokens for edits in variants]
    )


LOOKS = Hypothesis(
    "looks",
    (
        Prediction.parse("A", "attention image above even: clean"),
        Prediction.parse("B", "attention entropy below median: clean"),
    ),
)

# What runs the model, as a user would call it.
CALLS = {
    "play": rgb.play,
    "patch_heads": rgb.patch_heads,
    **{
        f"patch_heads, {component}, {at}": lambda model, trials, component=component, at=at: (
            rgb.patch_heads(model, trials[:2], component=component, positions=at)
        )
        for component in ("z", "pattern", "value")
        for at in ("all", "tile", "text")
    },
    "patch_heads, mean": lambda model, trials: rgb.patch_heads(model, trials, source="mean"),
    "patch_edits": lambda model, trials: rgb.patch_edits(
        model, trials[:4], edits(model), target="erased"
    ),
    **{
        f"patch_edits, every kind, {words}": lambda model, trials, words=words: rgb.patch_edits(
            model, trials[:2], every_kind(model, words), target="erased"
        )
        for words in ("end", "tile")
    },
    "knockout": lambda model, trials: rgb.knockout(
        model, trials[:2], queries=["end", "question"], keys=["tile", "rest"], window=2
    ),
    "generate": said,
    "patch_layers": lambda model, trials: rgb.patch_layers(model, trials[:2]),
    "patch_paths": lambda model, trials: rgb.patch_paths(
        model,
        trials[:4],
        [*heads(model)[:3], ("mlp", 0), "embedding"],
        heads(model)[-3:],
        into=("query", "key", "value"),
    ),
    "patch_heads, rounding": lambda model, trials: rgb.patch_heads(
        model, trials[:2], source="rounding"
    ),
    "noise_floor": lambda model, trials: pd.DataFrame(
        {"floor": [rgb.noise_floor(model, trials[:2], target="erased")]}
    ),
    # A question that is new to the model.
    "answer_pieces": lambda model, trials: rgb.answer_pieces(
        model, [replace(trial, prompt=prompt(BACKGROUND_QUESTION)) for trial in trials]
    ),
    "attribute": rgb.attribute,
    "attribute, positions": lambda model, trials: rgb.attribute(
        model, trials[:3], positions=["all", "tile", [0, -1]], method="atp-ig"
    ),
    "attribute, zero": lambda model, trials: rgb.attribute(
        model, trials[:2], source="zero", positions="each", heads=[(1, 0)]
    ),
    "direct_effects": rgb.direct_effects,
    **{
        f"lens, {component}": lambda model, trials, component=component: rgb.lens(
            model, trials[:2], ("clean", "erased"), component=component, positions="tile"
        )
        for component in ("resid_pre", "resid_post", "z", "attn_out", "mlp_out")
    },
    "lens": rgb.lens,
    "scores": lambda model, trials: rgb.scores(model, trials[:4]),
    "audit.audit": lambda model, trials: audit.audit(
        model, trials[:4], {"some": heads(model)[:2]}, random_lists=3
    ),
    "evidence.examine": lambda model, trials: examine(model, trials, [LOOKS]),
    "attention_statistics.attention_statistics": attention_statistics.attention_statistics,
    "color_extractor.evidence": color_extractor.evidence,
    "poi_localization.evidence": poi_localization.evidence,
    "background_writer.evidence": background_writer.evidence,
    "roles.evidence": roles.evidence,
    "roles.roles": roles.roles,
    "riddle.riddle": riddle.riddle,
    "redirect.redirect": lambda model, trials: redirect.redirect(
        model, trials[:3], heads(model)[-1:]
    ),
    "composition.evidence": composition.evidence,
    "composition.composition": lambda model, trials: composition.composition(
        model, trials, heads(model)[:3], heads(model)[-2:]
    ),
    "composition.paths": lambda model, trials: composition.paths(
        model, trials, heads(model)[:3], heads(model)[-2:]
    ),
    "composition.mediation": lambda model, trials: composition.mediation(
        model, trials, heads(model)[:3], heads(model)[-2:]
    ),
    "circuit.circuit": lambda model, trials: circuit.circuit(model, trials, heads(model)),
    "circuit.ranked": circuit.ranked,
    "circuit.curve": lambda model, trials: circuit.curve(
        model, trials, heads(model) + [h for h in model.heads() if h not in heads(model)]
    ),
    "task_reading.patch_questions": task_reading.patch_questions,
    "task_reading.evidence": task_reading.evidence,
    "task_reading.reading": task_reading.reading,
}


def test_no_public_function_is_forgotten():
    modules = [
        rgb,
        attention_statistics,
        audit,
        background_writer,
        circuit,
        color_extractor,
        composition,
        poi_localization,
        redirect,
        riddle,
        roles,
    ]
    for module in [*modules, task_reading]:
        short = module.__name__.rpartition(".")[2] + "." if module is not rgb else ""
        names = (
            module.__all__
            if module is rgb
            else [name for name in vars(module) if not name.startswith("_")]
        )
        for name in names:
            function = getattr(module, name)
            # Steps and needs say what is to be measured, and run nothing.
            if (
                inspect.isfunction(function)
                and function.__module__.startswith(module.__name__)
                and name.split("_")[-1] not in ("steps", "needs")
            ):
                if list(inspect.signature(function).parameters)[:2] == ["model", "trials"]:
                    assert short + name in CALLS


# What reads heads, on random weights whose heads share keys and values; what follows from effects,
# on the planted model, where roles are found and heads frozen; and where no head has a role, what
# is refused.
CASES = [
    *(("planted" if "." in call else "grouped", call) for call in CALLS),
    *(("toy", call) for call in ("play", "patch_heads", "roles.roles", "composition.evidence")),
]


@pytest.mark.filterwarnings("ignore:.*wrongly on at least one picture")
@pytest.mark.parametrize("pair, call", CASES, indirect=["pair"])
def test_a_server_gives_the_same_frame(pair, call):
    here, there = pair
    # Roles are tested from ten trials on; what only measures is asked of four.
    trials = rgb.rgb_trials(here, 10 if "." in call else 4)
    try:
        local = CALLS[call](here, trials)
    except rgb.InputError as error:
        # Such as an analysis of extractors where none is found.
        with pytest.raises(rgb.InputError) as remote:
            CALLS[call](there, trials)
        assert str(remote.value) == str(error)
        return
    remote = CALLS[call](there, trials)
    assert list(remote) == list(local) and (remote.dtypes == local.dtypes).all()
    for column in local:
        if column == "share":
            # A quotient of two effects that may both be rounding; effects are columns of their own.
            continue
        if local[column].dtype.kind == "f" and column not in ("p_value", "q_value"):
            np.testing.assert_allclose(
                remote[column], local[column], rtol=1e-4, atol=1e-4, err_msg=column
            )
        elif column not in ("p_value", "q_value"):
            assert remote[column].astype(str).tolist() == local[column].astype(str).tolist(), column
    assert there.server.requests > 1


@pytest.mark.parametrize("pair", ["grouped"], indirect=True)
def test_all_accepted_words_count_on_a_server_too(pair):
    here, there = pair
    answers = {"right": ("red", "cyan", "black"), "other": ("green", "purple")}
    trials = [
        replace(trial, answers=answers, expected={}) for trial in rgb.rgb_trials(here, 2, odd="red")
    ]
    for ask in (
        lambda model: rgb.play(model, trials),
        lambda model: rgb.patch_heads(model, trials),
        lambda model: rgb.attribute(model, trials, method="atp-ig"),
        lambda model: rgb.lens(model, trials, component="z"),
        lambda model: rgb.direct_effects(model, trials),
    ):
        local, remote = ask(here), ask(there)
        for column in local.select_dtypes("float"):
            np.testing.assert_allclose(remote[column], local[column], rtol=1e-4, atol=1e-4)


def test_the_client_holds_no_weights(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch)

    def refuse(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", refuse)
    model = rgb.load("toy", remote=True)
    assert len(rgb.patch_heads(model, rgb.rgb_trials(model, 1)))
    assert all(parameter.is_meta for parameter in model.nnsight._module.parameters())
    assert model.dtype is torch.float32


def test_one_request_a_trial_and_only_numbers_come_back(far, monkeypatch):
    trials = rgb.rgb_trials(far, 3)
    before = far.server.requests, far.server.received
    frame = rgb.patch_heads(far, trials)
    assert far.server.requests - before[0] == 1
    # Two logits a row at most, and what torch.save and zstd put around them.
    assert far.server.received - before[1] < 8 * len(frame) + 4096

    monkeypatch.setitem(memory.MOST_TOKENS, "server", 200)
    before = far.server.requests
    in_parts = rgb.patch_heads(far, trials)
    assert far.server.requests - before == len(trials)
    np.testing.assert_allclose(in_parts["effect"], frame["effect"], atol=1e-4)


def test_programs_run_in_the_sandbox_of_ordinary_users(far, ndif_server, monkeypatch, toy):
    # Loaded by the trusted key, since every job there takes seconds.
    ndif_server.connect(monkeypatch, key=ndif_server.key)
    here, there = toy, far
    trials = rgb.rgb_trials(here, 1)
    local, remote = (rgb.patch_heads(model, trials, component="pattern") for model in (here, there))
    np.testing.assert_allclose(remote["effect"], local["effect"], atol=1e-4)
    edits = [
        rgb.Edit(1, 0, "erased"),
        rgb.AttentionEdit(2, keys="tile"),
        rgb.Edit(3, 0, "own", scale=0),
    ]
    local, remote = (
        rgb.generate(model, trials[0], edits=edits, max_new_tokens=3) for model in (here, there)
    )
    assert repr(remote) == repr(local)
    np.testing.assert_allclose(remote.tokens["logit"], local.tokens["logit"], atol=1e-4)


def test_gradients_do_not_come_back_from_the_sandbox_and_that_is_said(
    far, ndif_server, monkeypatch
):
    ndif_server.connect(monkeypatch, key=ndif_server.key)
    with pytest.raises(rgb.ServerError, match="where no gradients come back; use patch_heads"):
        rgb.attribute(far, rgb.rgb_trials(far, 1))


PROGRAMS = {
    name: function
    for file in Path(programs.__path__[0]).glob("[!_]*.py")
    for name, function in vars(import_module(f"rgb_circuit.programs.{file.stem}")).items()
    if inspect.isfunction(function) and function.__module__ == f"rgb_circuit.programs.{file.stem}"
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_travels_as_source_that_any_python_can_read(program, far):
    names = {
        text
        for _, text, _ in pickletools.genops(io.BytesIO(dumps(program)))
        if isinstance(text, str)
    }
    # Bytecode is of one Python version; a class or function that goes by name is not there.
    assert not {"CodeType", "_make_function", "_make_skeleton_class"} & names
    assert not {
        name
        for name in names
        if name.split(".")[0] in ("rgb_circuit", "analyses", "pandas", "tqdm")
    }


def test_what_is_executed_stands_where_programs_stand():
    executed = set()
    for package in (rgb, analyses):
        for file in Path(package.__path__[0]).rglob("*.py"):
            executed |= set(re.findall(r"\bexecute\(\s*model,\s*(\w+)", file.read_text()))
    assert {"measured", "summed", "shares"} <= executed <= set(PROGRAMS)


def test_what_is_said_is_one_request(far):
    trial = rgb.rgb_trials(far, 1)[0]
    edits = [
        rgb.Edit(1, 0, "erased"),
        rgb.Edit(2, 1, "moved", "pattern"),
        rgb.AttentionEdit(2, keys="tile"),
    ]
    before = far.server.requests
    rgb.generate(far, trial, edits=edits, max_new_tokens=3)
    assert far.server.requests - before == 1
