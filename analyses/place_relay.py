"""Place relays: heads that hand on to the color extractors a place that another head found.

A head at earlier text positions can find the odd tile, and another head can carry its place to
[end]. The carrier passes every test of a POI localization head but one. Restored at [end], or at
other ``positions``:

| prediction | restored | in | expected |
|---|---|---|---|
| P3a, P3b, P4, P5, P6 | | | as `poi_localization` has them |
| P7r | pattern only | erased | background not up: another head must put the place there |

To see which head found the place, restore heads at all text positions (``rgb.patch_heads(…,
positions="text")``). `analyses.evidence` explains how predictions are tested.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import Head
from rgb_circuit.stimuli.tasks import find

from . import evidence as _evidence

TASK = find("rgb")
HYPOTHESIS = TASK.hypothesis("place relay")


def evidence(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    *,
    extractors: Iterable[tuple[int, int]] | None = None,
    **options,
) -> pd.DataFrame:
    """P3a, P3b, P4, P5, P6 and P7r for every head.

    Args:
        extractors: (layer, head) pairs to freeze; by default those that read the odd colour on the
            same trials.
        options: ``margin, least, level, split, only_correct, positions, progress`` of
            `analyses.evidence.examine`.

    Returns:
        A row per head × prediction: ``layer, head, prediction, expected, effect, ci_low, ci_high,
        p_value, q_value, n, holds, state`` and more; see `analyses.evidence.examine`.

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks.
    """
    frozen = None if extractors is None else {"extractors": extractors}
    return _evidence.examine(model, trials, [HYPOTHESIS], task=TASK, frozen=frozen, **options)


def heads(evidence: pd.DataFrame) -> list[Head]:
    """The (layer, head) pairs of the place relays: every prediction holds."""
    return _evidence.heads(evidence, HYPOTHESIS)
