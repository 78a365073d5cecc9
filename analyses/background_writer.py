"""Background writers: heads that carry the background's colour into the answer when there is an odd
tile.

They pass the seed's test of a POI localization head (P3) without finding a place for any head.
Restored at [end], or at other ``positions``:

| prediction | restored | in | expected |
|---|---|---|---|
| P3a | z from clean | erased | background up, odd not up |
| P3b | z from clean | recolored | odd, other, background unchanged |
| P4w | z from clean | swapped | background up: the colour that the head saw, not shown here |
| P5w | z from clean, extractors frozen | erased | background up, mostly past the extractors |
| P8 | z zeroed | erased | background unchanged: the head is at rest there |

For a head that also reads the odd colour or localizes, P3c, P3d and P5b stand in for P3a, P3b and
P5w (`poi_localization`).

P4w and P5w are what P4 and P5 of `poi_localization` predict for a writer. No head passes both P5
and P5w, and none passes either if no color extractor is found. P8 tells a writer from a head that
holds the canvas's colour down when nothing is odd (`canvas_suppressor`). With one background in all
trials, a head that always says its word would pass for a writer: P4w is then void.

Source: the riddle of head 26.16 in the seed note of the RGB game. How predictions are tested:
    `analyses.evidence`.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import Head
from rgb_circuit.stimuli.tasks import find

from . import evidence as _evidence

TASK = find("rgb")
HYPOTHESIS = TASK.hypothesis("background writer")


def evidence(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    *,
    extractors: Iterable[tuple[int, int]] | None = None,
    **options,
) -> pd.DataFrame:
    """P3a, P3b, P3c, P3d, P4w, P5w, P5b and P8 for every head.

    Args:
        extractors: (layer, head) pairs that P5w freezes; by default those that `color_extractor`
            finds on the same trials.
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
    """The (layer, head) pairs of the background writers: every prediction holds, or the one that
    may stand in for it."""
    return _evidence.heads(evidence, HYPOTHESIS)
