"""What would the model answer if some heads looked somewhere else? One forward answers for every
place of a picture.

1. The attention from [end] of some heads is turned to one place of the picture (`looking_at`):
   +bias on the score of that place's image token, −bias on those of the rest of the picture. An
   infinite bias knocks out everything but the place, including text. Every place is a separate row.
2. In addition, the same heads are switched off (their output at [end] times 0) and doubled (times
   2).
3. The sets of heads are: the found heads together; as many other heads of the same layers, drawn at
   random; and single heads, in the order given, as many as `ROWS` has room for.
4. The logits of the trial's words and of the task's other words are read. The answer is the
   likeliest of these.

Nothing is tested here: three pictures are shown, and every place of them. Whether the found heads
decide what is read is tested by `analyses.rgb.redirect`, if there is a tile to look at.

Cost: one picture per trial through the model, and a row of one token for every set × bias × place,
from the set's first layer on. On 576 places that is about two plain forwards per trial for the
found and the random set; a single head takes half a forward per bias, and ``whole`` asks for eight
of them and more biases.

Source: as for `analyses.rgb.redirect`: attention knockout (Geva et al. 2023, arXiv 2304.14767)
turned into its opposite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import ClassVar

import numpy as np
import pandas as pd

from rgb_circuit import AttentionEdit, Edit, InputError, Trial, Vlm
from rgb_circuit.arguments import whole_number
from rgb_circuit.edits import AnyEdit, Positions, check_heads
from rgb_circuit.errors import NotApplicable
from rgb_circuit.heads import Head
from rgb_circuit.measuring.measure import stepwise
from rgb_circuit.measuring.measurement import OfPictures, Request, Seen, Steps
from rgb_circuit.pictures.views import laid_out
from rgb_circuit.prompts import answer_ids, check_trials, locate, prompt_ids, rerun_from
from rgb_circuit.remote.jobs import Jobs
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.trial import as_trials

# Biases, those of a whole run, and the number of single heads there.
BIASES, MORE, HEADS = (4.0, inf), (1.0, 2.0, 4.0, 8.0, inf), 8
# Rows per trial up to which single heads are asked in any run, and the number of words read.
ROWS, WORDS = 2000, 16
# The factor on what heads give at [end].
FACTORS = {"off": 0.0, "double": 2.0}

Heads = tuple[tuple[int, int], ...]


@stepwise(stage="steering")
def steering(
    model: Vlm,
    trials: Sequence[Trial],
    found: Sequence[tuple[int, int]],
    heads: Sequence[tuple[int, int]] = (),
    *,
    whole: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """The model's answers to the clean pictures while heads look elsewhere, are off, or are
    doubled.

    Args:
        found: (layer, head) pairs that are turned together.
        heads: single heads, in order: turned as far as `ROWS` has room; at least the first `HEADS`
            are switched off and doubled.
        whole: use more biases, and turn the first `HEADS` single heads at any cost.
        seed: of the random heads.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × heads × edit × place × word: ``trial, condition``; ``heads`` ("found",
        "random" or a head's name) and ``members`` (their names); ``edit`` ("look", "off",
        "double"); ``bias`` (1 and more, infinite for no other attention; 0 unless it looks),
        ``row, column`` of the place (−1 unless it looks); ``word, role`` (of the trial, or empty);
        ``unedited, logit``.

    Raises:
        InputError: a head that does not exist, none at all, pictures whose tokens cannot be laid
            over them, or a model whose earlier positions see [end], unless ``whole``; before any
            forward.

    Examples:
        >>> from analyses.steering import steering
        >>> planted = rgb.load("planted")
        >>> frame = steering(planted, rgb.rgb_trials(planted, 1), [(3, 0), (4, 1)])
        >>> frame.groupby("edit")["row"].nunique().to_dict()
        {'double': 1, 'look': 6, 'off': 1}
    """
    trials, seed = as_trials(trials), whole_number("seed", seed, least=0)
    chosen, ordered = check_heads(model, found), check_heads(model, heads)
    if not chosen:
        raise InputError("found is empty; name at least one (layer, head)")
    if not whole and model.ahead == "all":
        raise NotApplicable(
            f"earlier positions of {model.name} see the last one, so that every place is a forward "
            "over all positions; rgb-circuit run --steer makes them all the same"
        )
    several: dict[str, Heads] = {"found": tuple(chosen)}
    try:
        several["random"] = tuple(others(model, chosen, 1, np.random.default_rng(seed))[0])
    except InputError:
        # Too few heads are left to compare with.
        pass
    shown = tuple(_with_words(model, trial) for trial in trials)
    [frame] = yield [
        Steered(
            shown,
            tuple(several.items()),
            tuple((str(head), ((head.layer, head.head),)) for head in ordered),
            MORE if whole else BIASES,
            HEADS if whole else 0,
        )
    ]
    return frame


def looking_at(
    heads: Sequence[tuple[int, int]],
    bias: float,
    there: Positions = "tile",
    rest: Positions = "rest",
) -> list[AttentionEdit]:
    """Edits that make heads look from [end] at some of the image tokens; by default at the trial's
    tile.

    Args:
        bias: on the scores of these tokens, and its negative on the ``rest`` of the image tokens;
            infinite to look at nothing else.
    """
    words = {rest: -inf, "text": -inf} if bias == inf else {there: bias, rest: -bias}
    return [
        AttentionEdit(layer, head, queries="end", keys=keys, bias=number)
        for layer, head in heads
        for keys, number in words.items()
    ]


def others(
    model: Vlm, chosen: Sequence[tuple[int, int]], draws: int, rng: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """Sets of heads other than the chosen ones, as many in each layer; if a layer has too few, the
    remaining ones come from any layer.

    Args:
        draws: the number of sets, or fewer if there are not that many.

    Raises:
        InputError: fewer other heads than chosen ones.
    """
    drawn: dict[tuple, None] = {}
    # Many tries, since small models have few sets and may draw the same one again.
    for _ in range(20 * draws):
        free = [head for head in model.heads() if head not in chosen]
        heads: list[tuple[int, int]] = []
        for layer in sorted({layer for layer, _ in chosen}):
            in_layer = [head for head in free if head[0] == layer]
            count = sum(one == layer for one, _ in chosen)
            heads += [in_layer[k] for k in rng.permutation(len(in_layer))[:count]]
        left = [head for head in free if head not in heads]
        heads += [left[k] for k in rng.permutation(len(left))[: len(chosen) - len(heads)]]
        if len(heads) < len(chosen):
            raise InputError(
                f"{len(chosen)} of the {len(model.heads())} heads of {model.name} are named, and "
                "too few are left to compare them with; name fewer"
            )
        drawn[tuple(sorted(heads))] = None
        if len(drawn) == draws:
            break
    return [list(heads) for heads in drawn]


def _with_words(model, trial):
    """The trial with only its clean picture, and more of the task's words as possible answers."""
    own_words = {word for accepted in trial.words.values() for word in accepted}
    more = [word for word in words_for(model, task_of([trial])) if word not in own_words]
    answers = {**trial.words, **{word: (word,) for word in more if word not in trial.answers}}
    return replace(
        trial,
        images={"clean": trial.sources["clean"]},
        answers=dict(list(answers.items())[:WORDS]),
        also={},
        expected=_of_clean(trial.expected),
        prompts=_of_clean(trial.prompts),
        boxes=_of_clean(trial.boxes),
    )


def _of_clean(by_condition):
    return {name: value for name, value in by_condition.items() if name == "clean"}


@dataclass(frozen=True)
class Steered(OfPictures):
    """The rows of `steering`.

    Attributes:
        several: name → heads that are turned together.
        singles: name → head, in order.
        biases: of every set.
        least: how many of the singles are turned at any cost.
    """

    several: tuple[tuple[str, Heads], ...]
    singles: tuple[tuple[str, Heads], ...]
    biases: tuple[float, ...]
    least: int

    function: ClassVar[str] = "steered"

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Callable[[Trial], Request]:
        check_trials(model, self.trials, ["clean"])
        every = prompt_ids(model, self.trials, "clean")
        return partial(self._request, model, every)

    def _request(self, model, every, trial):
        ids = every[trial.name]
        places = laid_out(model, trial.images["clean"], ids)
        image, text = (locate(model, trial, word, ids) for word in ("image", "text"))
        end = locate(model, trial, "end", ids)
        spots: dict[Positions, list[int]] = {"end": end, "text": text}
        for number, token in enumerate(places.ravel().tolist()):
            spots[f"place {number}"] = [token]
            spots[f"rest {number}"] = [other for other in image if other != token]
        about, edits = zip(*self.rows(*places.shape))
        kept = len(ids) - rerun_from(model, end[0], ids)
        return Request(
            trial=trial,
            lengths={"clean": len(ids)},
            ids=tuple(answer_ids(model, trial).values()),
            part=partial(_part, trial, about),
            target="clean",
            edits=edits,
            kept=kept,
            looked_at=1,
            spots=spots,
        )

    def rows(
        self, rows: int, columns: int
    ) -> list[tuple[Mapping[str, object], tuple[AnyEdit, ...]]]:
        """The description of each row of the frame, and its edits, for a picture with that many
        places."""
        variants: list[tuple[Mapping[str, object], tuple[AnyEdit, ...]]] = []
        size = rows * columns * len(self.biases)
        room = max(self.least, (ROWS - size * len(self.several)) // size)
        for name, heads in [*self.several, *self.singles[:room]]:
            for bias in self.biases:
                for place in range(rows * columns):
                    edits = looking_at(heads, bias, f"place {place}", f"rest {place}")
                    where = dict(bias=bias, row=place // columns, column=place % columns)
                    variants.append((_about(name, heads, "look", where), tuple(edits)))
        nowhere = dict(bias=0.0, row=-1, column=-1)
        for name, heads in [*self.several, *self.singles[: max(room, HEADS)]]:
            for edit, factor in FACTORS.items():
                scaled = tuple(Edit(*head, "own", scale=factor) for head in heads)
                variants.append((_about(name, heads, edit, nowhere), scaled))
        return variants


def _about(name, heads, edit, where):
    members = " ".join(str(Head(*head)) for head in heads)
    return dict(heads=name, members=members, edit=edit, **where)


def _part(trial: Trial, about: Sequence[Mapping], seen: Seen) -> pd.DataFrame:
    """One trial's rows."""
    words = list(trial.accepted.values())
    roles = [role if role != word else "" for role, word in trial.answers.items()]
    unedited, n = seen.logits["clean"], len(words)
    columns = {name: np.repeat(np.asarray([one[name] for one in about]), n) for name in about[0]}
    return pd.DataFrame(
        {
            "trial": trial.name,
            "condition": "clean",
            **columns,
            "word": np.tile(np.asarray(words), len(about)),
            "role": np.tile(np.asarray(roles), len(about)),
            "unedited": np.tile(unedited, len(about)),
            "logit": (unedited + seen.effects).ravel(),
        }
    )
