"""Color extractors: heads that read the colour of the odd tile and write it at [end].

Like name movers, they carry what they attend to into the answer. Restored at [end]:

| prediction | restored from clean | in | expected |
|---|---|---|---|
| P1a | z | recolored | odd up |
| P1b | z | erased | odd up |
| P2a | pattern only | recolored | odd not up, other not down: the answer stays the tile's actual colour |
| P2b | pattern only | erased | background up, odd not up: the head reads what is now at that place |

Source: the seed note of the RGB game, results 1 and 2; its model of such a head are the name movers of Wang et al. (2022),
Interpretability in the Wild. How predictions are tested: `analyses.evidence`.
"""

from collections.abc import Sequence

import pandas as pd

import rgb_circuit as rgb

from . import evidence as _evidence
from .evidence import Claim, Prediction, Sweep

_PATTERN_RECOLORED, _PATTERN_ERASED = Sweep("recolored", component="pattern"), Sweep("erased", component="pattern")

PREDICTIONS = (
    Prediction("P1a", (Claim("odd", "up", Sweep("recolored")),)),
    Prediction("P1b", (Claim("odd", "up", Sweep("erased")),)),
    Prediction("P2a", (Claim("odd", "not up", _PATTERN_RECOLORED), Claim("other", "not down", _PATTERN_RECOLORED))),
    Prediction("P2b", (Claim("background", "up", _PATTERN_ERASED), Claim("odd", "not up", _PATTERN_ERASED))),
)


def evidence(model: rgb.Vlm, trials: Sequence[rgb.Trial], **options) -> pd.DataFrame:
    """P1a, P1b, P2a and P2b for every head.

    Args:
        options: ``margin, least, level, split, only_correct, progress`` of `analyses.evidence.examine`.

    Returns:
        A row per head × prediction: ``layer, head, prediction, expected, effect, ci_low, ci_high, p_value, q_value, n, holds,
        restored_fraction, answer, weakest, found, wrong``; see `analyses.evidence.examine`.

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks.
    """
    return _evidence.examine(model, trials, [PREDICTIONS], **options)


def heads(evidence: pd.DataFrame) -> list[tuple[int, int]]:
    """The (layer, head) pairs of the color extractors: every prediction holds."""
    return _evidence.heads(evidence, PREDICTIONS)
