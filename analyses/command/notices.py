"""Notices about a user's own pictures, printed before a model is shown them: where it sees less
than the user does."""

import math
from collections.abc import Sequence

from rgb_circuit.bars import tqdm
from rgb_circuit.errors import InputError
from rgb_circuit.pictures import identical, picture_hash
from rgb_circuit.pictures.as_seen import as_seen, fit
from rgb_circuit.stimuli.replicates import of_one_source
from rgb_circuit.tables.trials_from import TrialsFrom
from rgb_circuit.trial import Trial
from rgb_circuit.vlm import Vlm

# The least change of proportions to report (log); rounding to whole tokens mostly changes less.
VISIBLE = 0.05


def about_pictures(model: Vlm, trials: Sequence[Trial]) -> None:
    """Print which trials are one observation, and over which pictures nothing can be drawn; for the
    others, which pictures the model sees changed, and which it cannot tell apart."""
    if shared := of_one_source(trials):
        print(shared)
    reasons = _undrawable(model, trials)
    drawable = [trial for trial in trials if not reasons.keys() & set(trial.sizes.values())]
    if reasons:
        *_, reason = reasons.values()
        print(
            f"For {len(trials) - len(drawable)} of {len(trials)} trials nothing is drawn over the "
            f"pictures: {reason}"
        )
    _print_changed(model, drawable)
    _print_alike(model, drawable)


def about_rows(trials: TrialsFrom) -> None:
    """Print how many rows of a table are left out, and the reason for the first."""
    if len(left_out := trials.left_out):
        first = left_out.iloc[0]
        print(
            f"{len(left_out)} of {len(trials.rows)} rows are left out, such as row {first['row']} "
            f"(from 0): {first['says']}"
        )


def _undrawable(model, trials):
    """Size → why the places of the model's tokens in pictures of that size are unknown."""
    reasons = {}
    # The places depend only on the size, so one picture per size is enough.
    of_size = {
        size: (trial, condition) for trial in trials for condition, size in trial.sizes.items()
    }
    for size, (trial, condition) in of_size.items():
        try:
            as_seen(model, trial.images[condition])
        except InputError as error:
            reasons[size] = error
    return reasons


def _print_changed(model, trials):
    """Print which pictures the model sees cropped, padded or stretched."""
    sizes = dict.fromkeys(size for trial in trials for size in trial.sizes.values())
    fits = {size: fit(model, size) for size in sizes}
    for does, how in (("cuts margins off", _lost), ("pads", _padding), ("stretches", _proportion)):
        changed = {
            trial.name: size for trial in trials for size in trial.sizes.values() if how(fits[size])
        }
        if changed:
            name, (width, height) = next(iter(changed.items()))
            views = fits[width, height].views
            where = f", in the first of {views} views" if views > 1 else ""
            print(
                f"{model.name} {does} the pictures of {len(changed)} of {len(trials)} trials, e.g. "
                f"of {name!r} "
                f"({width} × {height} px: {how(fits[width, height])}{where})"
            )


def _lost(fit):
    return ", ".join(f"{100 * share:.2g} % at the {side}" for side, share in fit.lost.items())


def _padding(fit):
    return f"{100 * fit.padding:.2g} % of what it sees is padding" if fit.padding else ""


def _proportion(fit):
    return (
        f"a square becomes {fit.proportion:.2g} times as wide as high"
        if abs(math.log(fit.proportion)) > VISIBLE
        else ""
    )


def _print_alike(model, trials):
    """Print the pairs of pictures that are the same, or look the same to the model."""
    for ((first, second), same_picture), names in _alike(model, trials).items():
        which = f"{len(names)} of {len(trials)} trials, e.g. of {names[0]!r}"
        pictures = f"the pictures {first!r} and {second!r} of {which}"
        if same_picture:
            print(f"No difference between {pictures}: they are the same picture")
        else:
            print(
                f"{model.name} sees no difference between {pictures}: the difference is cut off, "
                "or too fine for what the model is shown"
            )


def _alike(model, trials):
    """(Pair of conditions that look the same to the model, whether the pictures are identical) →
    names of trials."""
    alike = {}
    # Hash of a picture → hash of the picture as the model sees it.
    seen = {}
    for trial in tqdm(trials, desc="comparing pictures", unit="trial", delay=2):
        hashes = {condition: picture_hash(source) for condition, source in trial.sources.items()}
        for condition, pixels in hashes.items():
            if pixels not in seen:
                seen[pixels] = picture_hash(as_seen(model, trial.images[condition]))
        same = identical(hashes)
        for pair in identical({condition: seen[pixels] for condition, pixels in hashes.items()}):
            alike.setdefault((pair, pair in same), []).append(trial.name)
    return alike
