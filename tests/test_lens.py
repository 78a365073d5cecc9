"""A lens puts what is inside the model through its own final norm and lm_head, whole or as a
share."""

import copy
import functools
from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from brute_force import BruteForce
from families import FAMILIES, KINDS
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit import plots
from rgb_circuit.models.planted import PARTS, Placement
from rgb_circuit.programs import states
from rgb_circuit.prompts import answer_tokens
from rgb_circuit.running import memory
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION

WHOLE, PART = ("resid_pre", "resid_post"), ("z", "attn_out", "mlp_out")
# Folder → its bare model, which no test changes.
bare_of = functools.cache(BruteForce)


@pytest.fixture(scope="module")
def trials(model):
    return rgb.rgb_trials(model, 2, seed=3)


class Inside:
    """What one picture does inside a bare model, by hooks: lists of a layer's states, (positions,
    width)."""

    @torch.no_grad()
    def __init__(self, bare, trial, condition):
        self.bare = bare
        inner = bare.model.model
        self.text = inner.text_model if hasattr(inner, "text_model") else inner.language_model
        seen = {name: [] for name in ("resid_pre", "resid_post", "z", "attn_out", "mlp_out", "end")}

        def before(name):
            return lambda module, given: seen[name].append(given[0][0].clone())

        def behind(name):
            def hook(module, given, made):
                seen[name].append((made[0] if isinstance(made, tuple) else made)[0].clone())

            return hook

        hooks = [self.text.norm.register_forward_pre_hook(before("end"))]
        for layer in bare.layers:
            hooks.append(layer.register_forward_pre_hook(before("resid_pre")))
            hooks.append(layer.register_forward_hook(behind("resid_post")))
            hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(before("z")))
            hooks.append(layer.self_attn.register_forward_hook(behind("attn_out")))
            hooks.append(layer.mlp.register_forward_hook(behind("mlp_out")))
        try:
            bare.model(**bare.inputs(trial, condition))
        finally:
            for hook in hooks:
                hook.remove()
        self.end = seen.pop("end")[0]
        self.seen = seen

    def adds_up(self):
        """Whether each layer adds what its attention and its MLP return, and the final norm
        subtracts nothing."""
        every = zip(
            *(self.seen[name] for name in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        )
        every = all(
            torch.allclose(one + two + three, left, atol=1e-4) for one, two, three, left in every
        )
        return every and float(self.gain.abs().max()) > 0.1

    @property
    def gain(self):
        """What the final norm multiplies a state of size one by, (width,)."""
        return self.text.norm(torch.ones(self.end.shape[-1])).detach()

    @torch.no_grad()
    def read(self, component, place, tokens):
        """(layers, heads or 1, tokens) at one position, with the parameters of the final norm and
        lm_head."""
        norm, cap = (
            self.text.norm,
            getattr(self.bare.model.config.text_config, "final_logit_softcapping", None),
        )
        size = (self.end[place].square().mean() + self.epsilon).sqrt()
        layers = []
        for layer, state in zip(self.bare.layers, self.seen[component]):
            states = [state[place]]
            if component == "z":
                written = layer.self_attn.o_proj.weight.split(self.bare.d_head, dim=1)
                states = [
                    matrix @ z for matrix, z in zip(written, state[place].split(self.bare.d_head))
                ]
            if component in WHOLE:
                logits = [self.bare.model.lm_head(norm(one)) for one in states]
                logits = [cap * (one / cap).tanh() for one in logits] if cap else logits
            else:
                logits = [self.bare.model.lm_head(one / size * self.gain) for one in states]
            layers.append(torch.stack(logits)[:, tokens])
        return torch.stack(layers)

    @property
    def epsilon(self):
        return getattr(self.text.norm, "variance_epsilon", getattr(self.text.norm, "eps", 0))


def assert_read(frame, wanted):
    """At one position; equal up to rounding, as a fraction of the largest."""
    wanted = wanted.flatten().numpy()
    np.testing.assert_allclose(
        frame["logit"], wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max())
    )
    assert np.abs(wanted).max() > 1e-2


@pytest.mark.parametrize("component", WHOLE + PART)
def test_a_lens_agrees_with_plain_hooks(model, trials, component):
    bare = bare_of(model.name)
    insides = {
        (trial.name, condition): Inside(bare, trial, condition)
        for trial in trials
        for condition in ("clean", "erased")
    }
    for positions in ("end", "tile", (3, -2)):
        frame = rgb.lens(
            model,
            trials,
            ("clean", "erased"),
            component=component,
            positions=positions,
            progress=False,
        )
        for trial in trials:
            tokens = list(answer_tokens(model, trial).values())
            for condition in ("clean", "erased"):
                inside = insides[trial.name, condition]
                rows = frame.query("trial == @trial.name and condition == @condition")
                assert rows["position"].nunique() == (2 if positions == (3, -2) else 1)
                for place, at_place in rows.groupby("position"):
                    assert_read(at_place, inside.read(component, place, tokens))


@pytest.mark.parametrize("name", KINDS)
def test_every_family_agrees_with_plain_hooks_or_is_refused(name):
    module, processor = families.built(name)
    bare = BruteForce(copy.deepcopy(module), processor, FAMILIES[name].options)
    model = rgb.wrap(module, processor, name=name, tiles=FAMILIES[name].tiles)
    [trial] = rgb.rgb_trials(model, 1, seed=2)
    tokens, inside = list(answer_tokens(model, trial).values()), Inside(bare, trial, "clean")
    for component in WHOLE + PART:
        for positions in ("end", "tile"):
            ask = dict(component=component, positions=positions, progress=False)
            if component in PART and not (inside.adds_up() and model.softcap is None):
                with pytest.raises(rgb.errors.NotApplicable, match="use component='resid_post'"):
                    rgb.lens(model, [trial], **ask)
                continue
            frame = rgb.lens(model, [trial], **ask)
            # A tile has a token in every view of the picture.
            assert frame["position"].nunique() == (
                FAMILIES[name].views if positions == "tile" else 1
            )
            for place, rows in frame.groupby("position"):
                assert_read(rows, inside.read(component, place, tokens))
            if positions == "tile":
                assert set(zip(frame["row"], frame["column"])) == {trial.tile}


def test_the_last_layers_residual_at_the_end_says_the_logits(model, trials):
    frame = rgb.lens(
        model, trials, ("clean", "erased"), layers=[model.n_layers - 1], progress=False
    )
    played = rgb.play(model, trials, ("clean", "erased"), progress=False)
    for role, rows in frame.groupby("role", observed=True):
        np.testing.assert_allclose(rows["logit"], played[f"logit_{role}"], atol=1e-5)


def test_a_heads_share_at_the_end_is_its_direct_effect(model, trials):
    effects = rgb.direct_effects(model, trials, progress=False).query("component == 'head'")
    frame = rgb.lens(model, trials, component="z", progress=False)
    keys = ["trial", "layer", "head", "role"]
    both = frame.merge(effects, on=keys)
    assert len(both) == len(frame) == len(effects)
    np.testing.assert_allclose(both["logit"], both["direct_effect"], atol=1e-5)


def test_shares_of_heads_add_up_to_their_layers(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    ask = dict(positions="image", progress=False)
    keys = ["trial", "layer", "position", "role"]
    of_heads = (
        rgb.lens(grouped, trials, component="z", **ask).groupby(keys, observed=True)["logit"].sum()
    )
    of_layers = rgb.lens(grouped, trials, component="attn_out", **ask).set_index(keys)["logit"]
    np.testing.assert_allclose(of_heads, of_layers[of_heads.index], atol=1e-4)


def test_what_enters_a_layer_is_what_left_the_one_before(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    later = rgb.lens(
        grouped, trials, component="resid_pre", positions="all", layers=[1, 2], progress=False
    )
    before = rgb.lens(
        grouped, trials, component="resid_post", positions="all", layers=[0, 1], progress=False
    )
    np.testing.assert_allclose(later["logit"], before["logit"], atol=1e-5)


def test_planted_extractors_write_the_odd_tiles_word_and_localizers_none(planted):
    model, place = planted, Placement()
    trials = rgb.rgb_trials(model, 4)
    heads = [place.extractor, place.poi, place.suppressor]
    frame = rgb.lens(model, trials, component="z", heads=heads, progress=False)
    mean = frame.groupby(["layer", "head", "role"], observed=True)["logit"].mean()
    gain = PARTS["extractor"].gain
    assert mean[*place.extractor, "odd"] == pytest.approx(gain, abs=0.01)
    assert mean[*place.suppressor, "odd"] == pytest.approx(PARTS["suppressor"].gain, abs=0.01)
    for role in ("other", "background", "none"):
        assert mean[*place.extractor, role] == pytest.approx(0, abs=0.01)
    for role in trials[0].answers:
        assert mean[*place.poi, role] == pytest.approx(0, abs=0.01)
    # The answer appears at [end] where the extractor writes it.
    stream = (
        rgb.lens(model, trials, progress=False)
        .query("role == 'odd'")
        .groupby("layer")["logit"]
        .mean()
    )
    layer = place.extractor[0]
    assert stream[layer] - stream[layer - 1] > 0.9 * gain
    assert abs(stream[layer - 1]) < 0.01


def test_image_tokens_are_laid_on_their_places(grouped):
    [trial] = rgb.rgb_trials(grouped, 1)
    frame = rgb.lens(grouped, [trial], positions="all", layers=[0], progress=False)
    one = frame[frame["role"] == "odd"]
    rows, columns = grouped.grid
    on = one.dropna(subset=["row"])
    assert on[["row", "column"]].values.tolist() == [
        [r, c] for r in range(rows) for c in range(columns)
    ]
    assert on["position"].diff().dropna().eq(1).all() and len(one) > len(on)
    assert one["row"].isna().tolist() == one["column"].isna().tolist()


def test_tokens_of_a_picture_of_another_shape_have_its_places(tmp_path):
    model = rgb.load(str(families.saved("qwen3_vl", tmp_path)), tiles=6)
    # 4 × 9 tokens, as many as 6 × 6.
    trial = rgb.Trial(
        "wide", model.prompt(ODD_QUESTION), {"clean": Image.new("RGB", (72, 32))}, {"right": "red"}
    )
    frame = rgb.lens(model, [trial], positions="image", layers=[0], progress=False)
    places = [(row, column) for row in range(4) for column in range(9)]
    assert list(zip(frame["row"], frame["column"])) == places


def test_logits_made_a_few_states_at_a_time_are_the_same(grouped, monkeypatch):
    trials, vocabulary = rgb.rgb_trials(grouped, 2), grouped.config.text_config.vocab_size
    for component in ("z", "resid_pre"):
        ask = dict(component=component, positions="image", progress=False)
        whole = rgb.lens(grouped, trials, **ask)
        read = []
        with monkeypatch.context() as patch:
            patch.setattr(memory, "LOGIT_BYTES", 24 * 4 * vocabulary)
            patch.setattr(
                states,
                "logits_of",
                lambda *given, real=states.logits_of: read.append(given) or real(*given),
            )
            few = rgb.lens(grouped, trials, **ask)
        np.testing.assert_allclose(few["logit"], whole["logit"], atol=1e-5)
        assert component == "z" or {given[2].shape[1] for given in read} == {12}


def test_half_precision_stays_within_its_rounding(random_folder):
    exact, half = (
        rgb.load(str(random_folder["grouped"]), dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    trials = rgb.rgb_trials(exact, 2)
    for component in ("resid_post", "z"):
        frames = [
            rgb.lens(model, trials, component=component, progress=False) for model in (exact, half)
        ]
        size = frames[0]["logit"].abs().max()
        np.testing.assert_allclose(frames[1]["logit"], frames[0]["logit"], rtol=0, atol=0.05 * size)


@pytest.mark.parametrize(
    "options, complaint",
    [
        (
            dict(component="resid_mid"),
            "component is 'resid_mid'; use 'resid_pre', 'resid_post', 'z'",
        ),
        (dict(component="z", layers=[1]), "component 'z' is heads'; name heads"),
        (dict(heads=[(0, 1)]), "component 'resid_post' is the whole layer's; name layers"),
        (dict(layers=[9]), "layer 9 does not exist"),
        (dict(layers=[]), "there is nothing to read"),
        (dict(component="z", heads=[(0, 9)]), "head 0.9 does not exist"),
        (dict(positions="edn"), "positions is 'edn'"),
        (dict(positions=[999]), "not all in the prompt"),
        (dict(conditions=["recoloured"]), "no condition 'recoloured'"),
    ],
)
def test_what_cannot_be_read_is_refused(grouped, options, complaint):
    with pytest.raises(rgb.InputError, match=complaint):
        rgb.lens(grouped, rgb.rgb_trials(grouped, 1), **options)


def test_over_the_picture_each_token_stands_on_its_place(grouped):
    [trial] = rgb.rgb_trials(grouped, 1)
    frame = rgb.lens(grouped, [trial], component="z", positions="image", progress=False)
    image = trial.images["clean"]
    ax = plots.lens_over_picture(frame, image, "odd", layer=1, head=2)
    grey, drawn = (one.get_array() for one in ax.images)
    assert np.array_equal(grey, np.asarray(image.convert("L")))
    rows = frame.query("role == 'odd' and layer == 1 and head == 2")
    for row, column, logit in rows[["row", "column", "logit"]].itertuples(index=False):
        assert drawn[row, column] == pytest.approx(logit)
    assert all(list(one.get_extent()) == [0, image.width, image.height, 0] for one in ax.images)
    low, high = ax.images[1].get_clim()
    assert -low == high == pytest.approx(rows["logit"].abs().max())
    assert ax.get_title() == "odd: z of 1.2, clean picture"
    for options, complaint in [
        (
            dict(role="colour", layer=1, head=2),
            "no image tokens of role 'colour' in layer 1, head 2",
        ),
        (dict(role="odd", layer=1), "several heads; choose one"),
    ]:
        with pytest.raises(rgb.InputError, match=complaint):
            plots.lens_over_picture(frame, image, **options)
    for positions, complaint in [("tile", "some image tokens only"), ("end", "no image tokens")]:
        part = rgb.lens(grouped, [trial], positions=positions, progress=False)
        with pytest.raises(rgb.InputError, match=complaint):
            plots.lens_over_picture(part, image, "odd", layer=1)


def test_over_the_layers_each_answer_is_a_line_with_its_interval(grouped):
    frame = rgb.lens(grouped, rgb.rgb_trials(grouped, 5), progress=False)
    ax = plots.lens_over_layers(frame, "small")
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["odd", "other", "background", "other_background", "none"]
    for role, line in lines.items():
        means = frame[frame["role"] == role].groupby("layer")["logit"].mean()
        np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-5)
    assert len(ax.collections) == 5 and "n = 5" in ax.get_title() and ax.get_ylabel() == "logit"
    both = rgb.lens(grouped, rgb.rgb_trials(grouped, 1), ("clean", "erased"), progress=False)
    with pytest.raises(rgb.InputError, match="several conditions; choose one"):
        plots.lens_over_layers(both, "small")


def test_one_trial_is_a_list_of_one(grouped):
    [trial] = rgb.rgb_trials(grouped, 1)
    assert rgb.lens(grouped, trial, progress=False).equals(
        rgb.lens(grouped, [trial], progress=False)
    )


def test_over_the_layers_trials_of_one_source_count_once(grouped):
    trials = [
        replace(one, cluster=str(number // 2))
        for number, one in enumerate(rgb.rgb_trials(grouped, 6))
    ]
    frame = rgb.lens(grouped, trials, progress=False)
    wide, narrow = (plots.lens_over_layers(frame, "small", trials=some) for some in (trials, None))
    assert "n = 6 trials in 3 clusters" in wide.get_title()
    np.testing.assert_allclose(wide.lines[1].get_ydata(), narrow.lines[1].get_ydata(), rtol=1e-5)
