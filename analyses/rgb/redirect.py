"""Is the attention of the found heads enough? Make them look elsewhere, and the model should name
what is there.

Knocking out a head shows that an answer needs it. This asks the reverse: does it *suffice* to turn
where the heads look?

1. Every trial is shown as two pictures: ``clean``, where another place has the background's colour;
   and ``two tiles``, where that place has its own tile, in the colour of ``recolored``. The place
   is drawn at random, two or more tiles from the odd one.
2. The heads' attention from [end] is turned: +bias on scores of the other place's image token,
   −bias on those of the rest of the picture. An infinite bias knocks out everything but the other
   place, including text. Several biases are shown side by side; none is selected.
3. The answer is the likeliest of the trial's words and the colour words that the model knows.
   ``named``: it is the colour at the other place. (`rgb_circuit.generate` lets the model say it
   with the same edits.)
4. The control: many sets of as many other heads of the same layers, drawn at random. The found
   heads are compared with them by rank: the sets are the replicates of that test, not the trials.

If the found heads make the model name the other place and other heads do not, then where the found
heads look decides what is read. Two odd tiles may be answered either way without any edit, so
compare a share with the control's and with the unedited model's, not with zero. On ``clean`` a
model may also fall back on the background once it loses the odd tile; ``two tiles`` is the stricter
of the two.

Cost: the model runs on two pictures per trial, and on one forward of as many tokens as there are
sets × biases.

Source: attention knockout (Geva et al. 2023, arXiv 2304.14767) turned into its opposite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import pandas as pd
from scipy.stats import norm

from rgb_circuit import InputError, Trial, Vlm
from rgb_circuit.arguments import as_number, whole_number
from rgb_circuit.calls.patching import PatchedEdits, in_order
from rgb_circuit.edits import check_edits, check_heads
from rgb_circuit.files.table_text import shortened
from rgb_circuit.measuring.measure import stepwise
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.statistics import decidable, rank_p
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.stimuli.replicates import named_clusters, with_trials
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.trial import as_trials

from ..steering import looking_at as looking_at
from ..steering import others

# Picture → role of the colour at the other place.
PICTURES = {"clean": "background", "two tiles": "other"}
BIASES = (1.0, 2.0, 4.0, 8.0, inf)


@stepwise(stage="patching")
def redirect(
    model: Vlm,
    trials: Sequence[Trial],
    heads: Sequence[tuple[int, int]],
    *,
    biases: Sequence[float] = BIASES,
    draws: int = 19,
    seed: int = 0,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """The model's answers while some heads are made to look at another place than the odd tile.

    Args:
        heads: (layer, head) pairs, such as those that `roles` calls color extractors or POI
            localization.
        biases: added to attention scores, above 0; infinite for all attention.
        draws: the number of sets of other heads to draw, or fewer if there are not that many. With
            fewer than 19 no p reaches 0.05.
        seed: of the other places and the draws.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × picture × heads × bias: ``trial, picture`` (`PICTURES`), ``row, column``
        (the other place), ``heads`` ("none", "found", "random 1", …), ``bias`` (0 for "none"),
        ``answer``, ``expected`` (the colour's word), ``named``.

    Raises:
        InputError: no head or one that does not exist, no other heads, a bias that is not above
            zero, or trials without a tile, a ``recolored`` picture or the words; before any
            forward.

    Examples:
        >>> from analyses.rgb.redirect import redirect
        >>> planted = rgb.load("planted")
        >>> trials = rgb.rgb_trials(planted, 6)
        >>> frame = redirect(planted, trials, [(3, 0), (4, 1)], biases=[np.inf], draws=2)
        >>> frame[frame["picture"] == "clean"].groupby("heads")["named"].mean().to_dict()
        {'found': 1.0, 'none': 0.0, 'random 1': 0.0, 'random 2': 0.0}
    """
    chosen = check_heads(model, heads)
    if not chosen:
        raise InputError(
            "heads is empty; name at least one (layer, head), such as a color extractor"
        )
    given = [as_number(bias) for bias in biases] if isinstance(biases, Iterable) else []
    if not given or not all(bias is not None and bias > 0 for bias in given):
        raise InputError(
            f"biases is {shortened(biases)}; give numbers above 0, and inf to knock out all else"
        )
    trials = as_trials(trials)
    draws, seed = whole_number("draws", draws), whole_number("seed", seed, least=0)
    # The other places do not depend on the heads.
    places, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    sets: dict[str, Sequence[tuple[int, int]]] = {"found": chosen}
    sets |= {f"random {k}": drawn for k, drawn in enumerate(others(model, chosen, draws, rng), 1)}
    about = [(name, float(bias)) for name in sets for bias in biases]
    variants = {f"{name}, {bias}": looking_at(sets[name], bias) for name, bias in about}
    shown = [_shown(model, trial, places) for trial in trials]
    check_edits(model, variants)
    frames = yield [PatchedEdits.of(shown, variants, picture) for picture in PICTURES]
    patched = in_order(frames, shown)
    place = {trial.name: trial.tile for trial in shown}
    expected = {
        (trial.name, picture): trial.answers[PICTURES[picture]]
        for trial in shown
        for picture in PICTURES
    }
    # The rows of any variant have the unedited run too.
    unedited = patched[patched["variant"] == patched["variant"].iloc[0]].assign(variant="none")
    blocks = [
        _likeliest(unedited, "target_logit", {"none": ("none", 0.0)}),
        _likeliest(patched, "patched_logit", dict(zip(variants, about))),
    ]
    frame = pd.concat(blocks, ignore_index=True)
    frame.insert(2, "row", [place[name][0] for name in frame["trial"]])
    frame.insert(3, "column", [place[name][1] for name in frame["trial"]])
    frame["expected"] = [expected[key] for key in zip(frame["trial"], frame["picture"])]
    frame["named"] = frame["answer"] == frame["expected"]
    return frame


def summary(frame: pd.DataFrame, trials: Sequence[Trial] | None = None) -> pd.DataFrame:
    """How often the colour at the other place was named, from the frame of `redirect`.

    Args:
        trials: the frame's trials; needed if several are one observation
            (`rgb_circuit.stimuli.replicates`), which counts once.

    Returns:
        A row per picture × bias: ``picture, bias``; ``unedited, found, random``, shares of trials
        (a trial's random draws count as one, their mean), the last two each with ``_low, _high``,
        Wilson's 95 % interval over trials, which is too wide for draws that differ within a trial;
        ``difference``, found − random, with ``_low, _high`` (`paired_interval`, over trials and for
        these random sets) and ``p_value`` (`rank_p`: how many random sets reach the found heads'
        share); ``n``, trials, or clusters of them; ``random_sets``, their number; ``decidable``,
        whether p could be 0.05 or less among that many.

    Source: Wilson (1927), Probable inference.
    """
    rows = []
    named = frame.assign(kind=frame["heads"].str.split().str[0], named=frame["named"].astype(float))
    if trials is not None:
        named["trial"] = named["trial"].map(named_clusters(trials))
    by_set = named.groupby(["picture", "kind", "bias", "heads", "trial"])["named"].mean()
    means = by_set.groupby(["picture", "kind", "bias", "trial"]).mean()
    for picture in dict.fromkeys(frame["picture"]):
        for bias in sorted(set(frame["bias"]) - {0.0}):
            found, random = (means[picture, which, bias] for which in ("found", "random"))
            row = {"picture": picture, "bias": bias, "unedited": means[picture, "none", 0.0].mean()}
            for which, values in (("found", found), ("random", random)):
                low, high = _wilson(values.mean(), len(values))
                row |= {which: values.mean(), f"{which}_low": low, f"{which}_high": high}
            sets = by_set[picture, "random", bias].groupby("heads").mean()
            low, high = paired_interval(found.to_numpy(), random.to_numpy())
            row |= {
                "difference": found.mean() - random.mean(),
                "difference_low": float(low),
                "difference_high": float(high),
                "p_value": rank_p(found.mean(), sets, slack=1e-9),
                "n": len(found),
                "random_sets": len(sets),
                "decidable": decidable(len(sets)),
            }
            rows.append(row)
    return with_trials(pd.DataFrame(rows), frame["trial"].nunique())


def paired_interval(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of the difference of two shares of the same trials, from Wilson's interval of
    each and the correlation of the two.

    Args:
        one, other: (trials, …), each 0 or 1, or a mean of such.

    Returns:
        ``(low, high)``, each of shape (…).

    Source: Newcombe (1998), Improved confidence intervals for the difference between binomial
        proportions based on paired data, method 10.
    """
    n, means = len(one), (one.mean(0), other.mean(0))
    together = ((one - means[0]) * (other - means[1])).mean(0)
    # Newcombe's correction for continuity, which never goes below no agreement.
    together = np.where(together > 0, np.maximum(together - 1 / (2 * n), 0), together)
    spread = np.sqrt(np.prod([share * (1 - share) for share in means], axis=0))
    alike = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
    (low, high), (low_other, high_other) = (_wilson(share, n) for share in means)
    difference = means[0] - means[1]

    def reach(down, up):
        return np.sqrt(np.maximum(down**2 - 2 * alike * down * up + up**2, 0))

    return (
        difference - reach(means[0] - low, high_other - means[1]),
        difference + reach(high - means[0], means[1] - low_other),
    )


def _likeliest(patched, logit, about):
    """The likeliest word for every trial, picture and variant; ``about``: variant → heads and
    bias."""
    best = patched.loc[
        patched.groupby(["trial", "target", "variant"], observed=True, sort=False)[logit].idxmax()
    ]
    heads, bias = zip(*(about[variant] for variant in best["variant"]))
    return pd.DataFrame(
        {
            "trial": best["trial"].astype(str).to_numpy(),
            "picture": best["target"].astype(str).to_numpy(),
            "heads": heads,
            "bias": bias,
            "answer": best["answer"].astype(str).to_numpy(),
        }
    )


def _shown(model, trial, rng):
    """The trial in its two pictures, with the other place as its tile, and more words as possible
    answers."""
    lacking = {
        "tile": trial.tile is None,
        "'recolored' picture": "recolored" not in trial.images,
        **{f"answer {role!r}": role not in trial.answers for role in PICTURES.values()},
    }
    if any(lacking.values()):
        what = next(name for name, lacks in lacking.items() if lacks)
        raise InputError(
            f"trial {trial.name!r} has no {what}, so there is no other place to name; use "
            "rgb_trials(model, n)"
        )
    places = [(row, column) for row in range(trial.grid) for column in range(trial.grid)]
    # Never the first place: a causal model has nothing to compare it with.
    far = [place for place in places[1:] if max(abs(np.subtract(place, trial.tile))) >= 2]
    if not far:
        raise InputError(
            f"the pictures of trial {trial.name!r} have {trial.grid} × {trial.grid} tiles, and "
            "none is two from the odd one; use 4 or more per side"
        )
    place = far[rng.integers(len(far))]
    side, (row, column) = model.tile_px, trial.tile
    two = trial.images["clean"].copy()
    tile = trial.images["recolored"].crop(
        (column * side, row * side, (column + 1) * side, (row + 1) * side)
    )
    two.paste(tile, (place[1] * side, place[0] * side))
    images = {"clean": trial.sources["clean"], "two tiles": two}
    own_words = {word for accepted in trial.words.values() for word in accepted}
    words = {word: word for word in words_for(model, find("rgb")) if word not in own_words}
    return replace(
        trial,
        images=images,
        answers={**trial.answers, **words},
        tile=place,
        expected={},
        prompts={},
    )


def _wilson(share, n):
    """Wilson's 95 % interval of a share of n trials."""
    z = norm.isf(0.025)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    width = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - width, middle + width
