"""POI localization heads: they find the odd tile and tell the color extractors where to look.

"POI" is the seed's "foreign medium point of interest". Such a head writes a place at [end], not a
colour; the extractors, later than it, read the colour at that place. Restored at [end], or at other
``positions``:

| prediction | restored | in | expected |
|---|---|---|---|
| P3a | z from clean | erased | background up, odd not up: the extractors read what is now there |
| P3b | z from clean | recolored | odd, other, background unchanged: the place was right already |
| P4 | z from clean | swapped | other_background up: the colour now there, not the one it saw |
| P5 | z from clean, extractors frozen | erased | background up, mostly through the extractors |
| P6 | z from moved | recolored | background up, other down: the reading goes to the other place |
| P7 | pattern over the picture, extractors frozen or not | erased | background up through them |

P7 tells a head that finds the tile from one that hands on what another found (`place_relay`). For a
localizer the extractors need the values at that place, whatever is there, so looking at the picture
as before is enough. A head that looks at a word where another head noted the place passes all but
P7.

A head may do something else in addition:

| prediction | restored | in | expected |
|---|---|---|---|
| P3c, for P3a | z from clean | erased, recolored | background up in erased, odd up in both |
| P3d, for P3b | z from clean | recolored | background unchanged, odd up |
| P5b, for P5 | z from clean, extractors frozen or not | erased | background up either way |

P3 alone does not tell a POI head from a background writer, since the colour at that place and the
background are one word in ``erased`` and ``recolored``. If no color extractor is found, P5 cannot
be tested, and no head passes it.

Source: the seed note of the RGB game, result 3 (P3); P4 to P7 are the controls that its head 26.16
calls for. Freezing is as in path patching: Goldowsky-Dill et al. (2023). `analyses.evidence`
explains how predictions are tested.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import Head
from rgb_circuit.stimuli.tasks import find

from . import evidence as _evidence

TASK = find("rgb")
HYPOTHESIS = TASK.hypothesis("POI localization")


def evidence(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    *,
    extractors: Iterable[tuple[int, int]] | None = None,
    **options,
) -> pd.DataFrame:
    """P3a, P3b, P3c, P3d, P4, P5, P5b, P6 and P7 for every head.

    Args:
        extractors: (layer, head) pairs that P5 and P7 freeze; by default those that
            `color_extractor` finds on the same trials.
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
    """The (layer, head) pairs of the POI localization heads: every prediction holds, or the one
    that may stand in for it."""
    return _evidence.heads(evidence, HYPOTHESIS)
