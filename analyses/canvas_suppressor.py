"""Canvas suppressors: heads that hold the canvas's colour down while nothing is odd.

In the clean picture such a head does nothing. Restored from there, it no longer holds the colour
down on a plain canvas. The background then rises as it would for a POI localization head, on any
canvas, and without an extractor. Restored at [end], or at other ``positions``:

| prediction | restored | in | expected |
|---|---|---|---|
| P3a, P3b, P4 | | | as `poi_localization` has them |
| P5w | z from clean, extractors frozen | erased | background up, mostly past the extractors |
| P8s | z zeroed | erased | background up: the head was holding it down |

With one background in all trials, the head could hold down that word whatever it sees: P8s is then
void. This is the most natural reading of LLaVA-1.5's head 26.16. `analyses.evidence` explains how
predictions are tested.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import Head
from rgb_circuit.stimuli.tasks import find

from . import evidence as _evidence

TASK = find("rgb")
HYPOTHESIS = TASK.hypothesis("canvas suppressor")


def evidence(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    *,
    extractors: Iterable[tuple[int, int]] | None = None,
    **options,
) -> pd.DataFrame:
    """P3a, P3b, P4, P5w and P8s for every head.

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
    """The (layer, head) pairs of the canvas suppressors: every prediction holds."""
    return _evidence.heads(evidence, HYPOTHESIS)
