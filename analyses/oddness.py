"""Oddness heads: heads that say that there is an odd tile, whatever its colour.

On a plain canvas the answer is the word for "nothing is odd" ("white"). Such a head lowers that
word when there is an odd tile. Restored at [end], or at other ``positions``:

| prediction | restored | in | expected |
|---|---|---|---|
| P9a | z from clean | erased | the word for nothing down, odd and background not up |
| P9b | z from clean | recolored | that word unchanged: there was an odd tile already |

If trials have no such word among their answers (the role ``none``), both are void.
`analyses.evidence` explains how predictions are tested.
"""

from collections.abc import Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import Head
from rgb_circuit.stimuli.tasks import find

from . import evidence as _evidence

TASK = find("rgb")
HYPOTHESIS = TASK.hypothesis("oddness")


def evidence(model: rgb.Vlm, trials: Sequence[rgb.Trial], **options) -> pd.DataFrame:
    """P9a and P9b for every head.

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
    """The (layer, head) pairs of the oddness heads: every prediction holds."""
    return _evidence.heads(evidence, HYPOTHESIS)
