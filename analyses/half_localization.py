"""Heads that find the odd tile's row, or its column, and need another head for the rest.

The color extractors look where row and column cross. So a head that brings only one of the two does
nothing alone on a plain canvas, and passes no test of a POI localization head there. If another
head brings the rest, it moves the reading. Restored at [end], or at other ``positions``:

| prediction | restored | in | expected |
|---|---|---|---|
| P3n | z from clean | erased | background not up, odd not up: alone it is not enough |
| P3b | z from clean | recolored | odd, other, background unchanged: the place was right already |
| P6 | z from moved | recolored | background up, other down: it moves the reading |
| P6p | pattern only, from moved | recolored | background up, other down: it looks at the tile |

These pictures cannot tell row from column: ``moved`` has the tile in another row and another
column. `analyses.evidence` explains how predictions are tested.
"""

from collections.abc import Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import Head
from rgb_circuit.stimuli.tasks import find

from . import evidence as _evidence

TASK = find("rgb")
HYPOTHESIS = TASK.hypothesis("row or column localization")


def evidence(model: rgb.Vlm, trials: Sequence[rgb.Trial], **options) -> pd.DataFrame:
    """P3n, P3b, P6 and P6p for every head.

    Args:
        options: ``margin, least, level, split, only_correct, positions, progress`` of
            `analyses.evidence.examine`.

    Returns:
        A row per head × prediction: ``layer, head, prediction, expected, effect, ci_low, ci_high,
        p_value, q_value, n, holds, state`` and more; see `analyses.evidence.examine`.

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks.
    """
    return _evidence.examine(model, trials, [HYPOTHESIS], task=TASK, **options)


def heads(evidence: pd.DataFrame) -> list[Head]:
    """The (layer, head) pairs of the row or column localizers: every prediction holds."""
    return _evidence.heads(evidence, HYPOTHESIS)
