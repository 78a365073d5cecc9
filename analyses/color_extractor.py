"""Color extractors: heads that read the colour of the odd tile and write it at [end].

Like name movers, they carry what they attend to into the answer. Restored at [end], or at other
``positions``:

| prediction | restored from clean | in | expected |
|---|---|---|---|
| P1a | z | recolored | odd up |
| P1b | z | erased | odd up |
| P2a | pattern only | recolored | odd not up, other not down: the answer stays the tile's colour |
| P2b | pattern only | erased | background up, odd not up: it reads what is now there |
| P1c | z | erased | odd above others: no other word rises as much, for any colour that it serves |
| P2d | z without its attention to the picture | erased | odd below half: it saw what it brings |
| P2c | value only | recolored | odd up: what it finds where it looks makes the answer |
| | pattern only, from moved | recolored | other down: looking elsewhere takes it away |

P2c may stand in for P2b. A head that rests on the plain canvas when nothing is odd reads the
background there already, so looking at the tile's place changes nothing: LLaVA-1.5's 19.6 looks
like that (it *lowers* blue on the blue canvas). Both predictions say that the head carries the
colour of what it looks at. A head that carries to [end] a colour that another head noted at an
earlier word looks at that word in every picture, and passes neither.

Source: the seed note of the RGB game, results 1 and 2; such heads are modelled on the name movers
of Wang et al. (2022), Interpretability in the Wild. `analyses.evidence` explains how predictions
are tested.
"""

from collections.abc import Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import Head
from rgb_circuit.stimuli.tasks import find

from . import evidence as _evidence

TASK = find("rgb")
HYPOTHESIS = TASK.hypothesis("color extractor")


def evidence(model: rgb.Vlm, trials: Sequence[rgb.Trial], **options) -> pd.DataFrame:
    """P1a, P1b, P1c, P2a, P2b, P2c and P2d for every head.

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
    """The (layer, head) pairs of the color extractors: P1a, P1b, P1c, P2a, P2d, and P2b or P2c
    hold."""
    return _evidence.heads(evidence, HYPOTHESIS)
