"""The planted circuits do what their truth frame says: checked by patching with plain PyTorch
hooks.

Expected numbers are worked out from the gains of the parts, which are in logits: color extractor
10, content extractor 6, each of the redundant pair 5, each background writer 3, suppressor −2;
"white" always has 5.
"""

from contextlib import contextmanager
from itertools import permutations

import pytest
import torch

from rgb_circuit.boards import Canvas, draw
from rgb_circuit.conversation import TEMPLATE, prompt
from rgb_circuit.errors import InputError
from rgb_circuit.models import small
from rgb_circuit.models.planted import (
    DECOYS,
    MODERATE_NOISE,
    PARTS,
    WHITE,
    WORDS,
    Placement,
    gap,
    planted,
    random_placement,
)
from rgb_circuit.stimuli.tasks.rgb import NOTHING_ODD, ODD_QUESTION, PALETTE
from rgb_circuit.stimuli.tasks.rgb import draw as draw_game

ROLES = ("odd", "other", "background", "other_background", "none")
PLACEMENT = Placement()
EXTRACTORS = [PLACEMENT.extractor, *PLACEMENT.redundant_pair]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def game():
    """The default model with 16 trials."""
    return Game(planted(), 16)


class Game:
    """A model, trials on its grid, and its runs on all conditions (one batch per condition)."""

    def __init__(self, made, n):
        self.model, self.processor, self.truth = made
        self.model.set_attn_implementation("eager")
        vision = self.model.config.vision_config
        self.grid = vision.image_size // vision.patch_size
        self.trials = draw_game(Canvas(self.grid, vision.patch_size, 0, TEMPLATE), WORDS, n, 0, {})
        self.layers = self.model.model.language_model.layers
        self.d_head = self.layers[0].self_attn.head_dim
        self.runs = {condition: self.run(condition) for condition in self.trials[0].images}

    def inputs(self, condition):
        return encode(self.processor, [trial.images[condition] for trial in self.trials])

    def run(self, condition):
        """Logits, and per layer z, values (batch, head, position, d_head) and patterns."""
        seen = {"z": [], "value": []}
        hooks = []
        for layer in self.layers:
            attention = layer.self_attn
            hooks.append(
                attention.o_proj.register_forward_pre_hook(
                    lambda _, args: seen["z"].append(args[0])
                )
            )
            hooks.append(
                attention.v_proj.register_forward_hook(
                    lambda _, args, out: seen["value"].append(out)
                )
            )
        with torch.no_grad():
            out = self.model(**self.inputs(condition), output_attentions=True)
        for hook in hooks:
            hook.remove()
        per_head = {
            name: [t.unflatten(-1, (-1, self.d_head)).transpose(1, 2) for t in seen[name]]
            for name in seen
        }
        return {"logits": out.logits[:, -1], "pattern": out.attentions, **per_head}

    def z_end(self, place, source, target=None, component="z"):
        """(trial, d_head): one head's z at [end], or the source's pattern over the target's
        values."""
        layer, head = place
        if component == "z":
            return self.runs[source]["z"][layer][:, head, -1]
        values = self.runs[target]["value"][layer]
        group = head * values.shape[1] // self.runs[target]["z"][layer].shape[1]
        return torch.einsum(
            "bj,bjd->bd", self.runs[source]["pattern"][layer][:, head, -1], values[:, group]
        )

    def effect(self, place, source, target, component="z", frozen=()):
        """role → mean effect at [end] of one head's patch, other heads ``frozen`` at their target
        run."""
        edits = {place: self.z_end(place, source, target, component)}
        edits.update({other: self.z_end(other, target) for other in frozen})
        with self.patched(edits), torch.no_grad():
            logits = self.model(**self.inputs(target)).logits[:, -1]
        return self.by_role(logits - self.runs[target]["logits"])

    @contextmanager
    def patched(self, edits):
        def write(layer):
            def hook(_, args):
                z = args[0].clone()
                for (at, head), value in edits.items():
                    if at == layer:
                        z[:, -1, head * self.d_head : (head + 1) * self.d_head] = value
                return (z,)

            return hook

        hooks = [
            layer.self_attn.o_proj.register_forward_pre_hook(write(index))
            for index, layer in enumerate(self.layers)
        ]
        yield
        for hook in hooks:
            hook.remove()

    def by_role(self, logits):
        """role → mean over trials of the logits of each trial's own words."""
        ids = [
            self.processor.tokenizer.convert_tokens_to_ids([trial.answers[role] for role in ROLES])
            for trial in self.trials
        ]
        chosen = logits.gather(1, torch.tensor(ids))
        return dict(zip(ROLES, chosen.mean(0).tolist()))

    def accuracy(self):
        right = [
            self.processor.tokenizer.decode(answer) == trial.answers[trial.expected[condition]]
            for condition, run in self.runs.items()
            for trial, answer in zip(self.trials, run["logits"].argmax(-1))
        ]
        return sum(right) / len(right)


def encode(processor, images):
    return processor(text=[prompt(ODD_QUESTION)] * len(images), images=images, return_tensors="pt")


def answers(model, processor, images):
    found = []
    with torch.no_grad():
        for start in range(0, len(images), 64):
            logits = model(
                **encode(processor, images[start : start + 64]), logits_to_keep=1
            ).logits[:, -1]
            found += processor.tokenizer.convert_ids_to_tokens(logits.argmax(-1).tolist())
    return found


def is_effect(found, **expected):
    """Every role's effect is the expected one; roles not named, 0."""
    assert found == pytest.approx({**dict.fromkeys(ROLES, 0.0), **expected}, abs=0.01)


# Playing


@pytest.mark.parametrize(
    "decoys",
    [(), DECOYS, *((decoy,) for decoy in DECOYS)],
    ids=lambda decoys: "+".join(decoys) or "none",
)
def test_every_pair_and_tile_but_the_first_is_answered_with_any_decoy(decoys):
    model, processor, _ = planted(decoys=decoys)
    tiles = [(row, column) for row in range(6) for column in range(6)][1:]
    pairs = list(permutations(WORDS, 2))
    if decoys != DECOYS:
        # Sampled here: every tile and every pair, though not every combination.
        cases = [
            (*pairs[index % len(pairs)], tiles[index % len(tiles)])
            for index in range(2 * len(pairs))
        ]
    else:
        cases = [(odd, background, tile) for odd, background in pairs for tile in tiles]
    images = [
        draw(PALETTE[background], {tile: PALETTE[odd]}, 6, 4) for odd, background, tile in cases
    ]
    images += [draw(PALETTE[word], {}, 6, 4) for word in WORDS]
    assert answers(model, processor, images) == [odd for odd, _, _ in cases] + [NOTHING_ODD] * len(
        WORDS
    )


def test_first_tile_cannot_be_odd():
    model, processor, _ = planted()
    image = draw(PALETTE["blue"], {(0, 0): PALETTE["red"]}, 6, 4)
    assert answers(model, processor, [image]) == ["blue"]


@pytest.mark.parametrize(
    "options",
    [
        dict(grid=24, tile_px=2),
        dict(grid=24, tile_px=2, kv_heads=2, placement=random_placement(6, 4, seed=1)),
        dict(heads=4, kv_heads=1),
        dict(grid=7, layers=9, heads=6, kv_heads=3, placement=random_placement(9, 6, seed=2)),
        dict(
            layers=3,
            heads=1,
            decoys=(),
            placement=Placement(mean=(0, 0), poi=(1, 0), extractor=(2, 0)),
        ),
    ],
    ids=["24x24", "24x24 moved, grouped", "one key-value head", "7x7 moved, grouped", "smallest"],
)
def test_other_sizes_and_placements_play_without_error(options):
    game = Game(planted(**options), 2 if options.get("grid") == 24 else 16)
    assert game.accuracy() == 1


def test_second_tile_is_answered_on_a_large_grid():
    model, processor, _ = planted(grid=24, tile_px=2)
    tiles = [(0, 1), (0, 2), (1, 0), (23, 23)]
    images = [draw(PALETTE["cyan"], {tile: PALETTE["orange"]}, 24, 2) for tile in tiles]
    assert answers(model, processor, images) == ["orange"] * len(tiles)


def test_logits_of_the_clean_picture_are_the_sum_of_the_gains(game):
    # odd: 10 + 6 + 5 + 5 − 2; background: 3 + 3.
    expected = {"odd": 24, "background": 6, "other": 0, "other_background": 0, "none": WHITE}
    assert game.by_role(game.runs["clean"]["logits"]) == pytest.approx(expected, abs=0.01)
    bare = Game(planted(decoys=()), 8)
    expected = {"odd": 10, "background": 0, "other": 0, "other_background": 0, "none": WHITE}
    assert bare.by_role(bare.runs["clean"]["logits"]) == pytest.approx(expected, abs=0.01)


def test_saved_folder_gives_the_same_logits(tmp_path):
    model, processor, _ = planted()
    folder = small.save(model, processor, tmp_path / "planted")
    again = type(model).from_pretrained(folder)
    inputs = encode(processor, [draw(PALETTE["blue"], {(3, 2): PALETTE["red"]}, 6, 4)])
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, again(**inputs).logits)


# The circuit


def test_own_z_changes_nothing(game):
    for place in [PLACEMENT.poi, PLACEMENT.extractor]:
        is_effect(game.effect(place, "erased", "erased"))


@pytest.mark.parametrize(
    "place, logit",
    [
        (PLACEMENT.extractor, 10),
        (PLACEMENT.content_extractor, 6),
        *((place, 5) for place in PLACEMENT.redundant_pair),
    ],
)
def test_extractors_write_the_colour_that_they_attend_to(game, place, logit):
    is_effect(game.effect(place, "clean", "recolored"), odd=logit, other=-logit)
    is_effect(game.effect(place, "clean", "erased"), odd=logit)
    is_effect(game.effect(place, "clean", "recolored", "pattern"))
    is_effect(game.effect(place, "clean", "erased", "pattern"), background=logit)
    is_effect(game.effect(place, "moved", "recolored"), odd=logit, other=-logit)


def test_poi_head_moves_the_reading_of_the_extractors_to_its_place(game):
    # The extractor (10) and the pair (5 each) read the place that the POI head writes.
    is_effect(game.effect(PLACEMENT.poi, "clean", "erased"), background=20)
    is_effect(game.effect(PLACEMENT.poi, "clean", "recolored"))
    is_effect(game.effect(PLACEMENT.poi, "clean", "swapped"), other_background=20)
    is_effect(game.effect(PLACEMENT.poi, "moved", "recolored"), background=20, other=-20)


def test_poi_head_acts_through_the_extractors_only(game):
    is_effect(
        game.effect(PLACEMENT.poi, "clean", "erased", frozen=[PLACEMENT.extractor]), background=10
    )
    is_effect(game.effect(PLACEMENT.poi, "clean", "erased", frozen=EXTRACTORS))
    is_effect(game.effect(PLACEMENT.poi, "clean", "swapped", frozen=EXTRACTORS))
    is_effect(game.effect(PLACEMENT.poi, "moved", "recolored", frozen=EXTRACTORS))


def test_mean_head_does_nothing_at_the_end(game):
    for target in ("recolored", "erased", "swapped"):
        is_effect(game.effect(PLACEMENT.mean, "clean", target))


# Decoys


@pytest.mark.parametrize(
    "place", [PLACEMENT.early_background_writer, PLACEMENT.late_background_writer]
)
def test_background_writers_pass_the_published_poi_test_but_write_what_they_saw(game, place):
    is_effect(game.effect(place, "clean", "erased"), background=3)
    is_effect(game.effect(place, "clean", "recolored"))
    is_effect(game.effect(place, "clean", "swapped"), background=3)
    is_effect(game.effect(place, "moved", "recolored"))
    is_effect(
        game.effect(place, "clean", "erased", frozen=[*EXTRACTORS, PLACEMENT.content_extractor]),
        background=3,
    )


def test_suppressor_lowers_the_odd_colour(game):
    is_effect(game.effect(PLACEMENT.suppressor, "clean", "erased"), odd=-2)
    is_effect(game.effect(PLACEMENT.suppressor, "clean", "recolored"), odd=-2, other=2)


def test_idle_watcher_attends_to_the_odd_tile_in_vain(game):
    layer, head = PLACEMENT.idle_watcher
    tokens = game.inputs("clean")["input_ids"][0].tolist()
    for index, trial in enumerate(game.trials):
        odd = (
            tokens.index(game.model.config.image_token_index)
            + trial.tile[0] * game.grid
            + trial.tile[1]
        )
        assert game.runs["clean"]["pattern"][layer][index, head, -1, odd] > 0.999
    for target in ("recolored", "erased", "swapped"):
        is_effect(game.effect((layer, head), "clean", target))


def test_content_extractor_needs_no_poi_head(game):
    alone = Game(planted(decoys=["content_extractor"]), 8)
    zero = torch.zeros(len(alone.trials), alone.d_head)
    with alone.patched({PLACEMENT.poi: zero}), torch.no_grad():
        logits = alone.model(**alone.inputs("clean")).logits[:, -1]
    expected = {"odd": 6, "background": 0, "other": 0, "other_background": 0, "none": WHITE}
    assert alone.by_role(logits) == pytest.approx(expected, abs=0.01)


# Truth and noise


def test_truth_has_a_row_per_head_and_names_every_part(game):
    assert list(game.truth.columns) == ["layer", "head", "role", "name"]
    assert list(zip(game.truth.layer, game.truth["head"])) == [
        (layer, head) for layer in range(6) for head in range(4)
    ]
    named = game.truth.set_index(["layer", "head"])
    assert named.loc[PLACEMENT.poi, "role"] == "POI localization"
    assert [named.loc[place, "role"] for place in EXTRACTORS] == ["color extractor"] * 3
    assert set(named.name) == {part.name for part in PARTS.values()} | {"none"}
    _, _, bare = planted(decoys=())
    assert (bare.name != "none").sum() == 3


@pytest.mark.parametrize(
    "decoys",
    [
        DECOYS,
        (),
        ("content_extractor", "suppressor"),
        ("redundant_pair", "early_background_writer"),
    ],
)
def test_the_gap_is_by_how_much_the_odd_word_falls(decoys):
    alone = Game(planted(decoys=decoys), 8)
    logits = {
        name: alone.by_role(alone.runs[name]["logits"])["odd"]
        for name in ("clean", "recolored", "erased")
    }
    assert logits["clean"] - logits["recolored"] == pytest.approx(gap(decoys), abs=0.01)
    assert logits["clean"] - logits["erased"] == pytest.approx(gap(decoys), abs=0.01)
    assert gap() == 24


def test_noise_heads_and_mlps_reach_the_logits_and_the_game_is_still_won():
    noisy = Game(planted(noise=MODERATE_NOISE), 16)
    assert noisy.accuracy() == 1
    clean = noisy.runs["clean"]["logits"]
    unused = noisy.truth[noisy.truth.name == "none"]
    assert len(unused) == 14
    for place in zip(unused.layer, unused["head"]):
        with noisy.patched({place: torch.zeros(16, noisy.d_head)}), torch.no_grad():
            logits = noisy.model(**noisy.inputs("clean")).logits[:, -1]
        assert (logits - clean).abs().max() > 0.2
    for index in range(1, 6):
        hook = noisy.layers[index].mlp.register_forward_hook(lambda _, args, out: 0 * out)
        with torch.no_grad():
            logits = noisy.model(**noisy.inputs("clean")).logits[:, -1]
        hook.remove()
        assert (logits - clean).abs().max() > 0.2


def test_circuit_survives_moderate_noise():
    noisy = Game(planted(noise=MODERATE_NOISE, seed=1), 16)
    assert noisy.effect(PLACEMENT.extractor, "clean", "erased")["odd"] == pytest.approx(10, abs=1)
    assert noisy.effect(PLACEMENT.poi, "clean", "erased")["background"] == pytest.approx(20, abs=2)
    assert noisy.effect(PLACEMENT.late_background_writer, "clean", "swapped")[
        "background"
    ] == pytest.approx(3, abs=1)


def test_noise_is_drawn_from_the_seed():
    first, again, other = (planted(noise=0.04, seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# Bad input


@pytest.mark.parametrize(
    "options, message",
    [
        (
            dict(layers=4),
            "redundant_pair, suppressor would sit outside 4 layers × 4 heads; use layers=6, "
            "heads=4",
        ),
        (dict(heads=3), "use layers=6, heads=4"),
        (dict(kv_heads=3), "cannot share"),
        (dict(grid=2), "use grid=3 or more"),
        (dict(decoys=["early"]), "no decoy is called early"),
        (dict(placement=Placement(poi=(0, 0))), "poi is in layer 0 but must come after mean"),
        (dict(placement=Placement(poi=(3, 0))), "extractor and poi are both placed at 3.0"),
        (
            dict(placement=Placement(late_background_writer=(2, 0))),
            "late_background_writer is in layer 2 but must come after",
        ),
    ],
)
def test_impossible_models_are_refused_in_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        planted(**options)


def test_random_placements_need_room():
    with pytest.raises(InputError, match="layers=4 or more"):
        random_placement(3, 8)
    with pytest.raises(InputError, match="no room"):
        random_placement(4, 1)
