"""The riddle of head 26.16: why does a head after the extractor shift the answer to the background?

The seed's test of a POI localization head (P3) cannot tell a head that finds the odd tile's place from one that carries the
background's colour: on its pictures both make the answer "blue". For every head that passes P3, this puts side by side what decides:

1. what it *writes*: on a canvas of another colour (P4, P4w) the colour there, or the one that it saw;
2. by which *route*: through the color extractors (P5) or past them (P5w);
3. whether it carries a *place*: taken from a picture with the tile elsewhere, does it move the reading there (P6)?

Source: the last paragraph of the seed note of the RGB game.
"""

from collections.abc import Sequence

import pandas as pd

import rgb_circuit as rgb

from . import color_extractor, poi_localization
from . import evidence as _evidence
from . import roles as _roles
from .background_writer import WRITES
from .poi_localization import LOCALIZES, PASSES_THE_SEED

ASKS = {
    "P4": "the other canvas's colour",
    "P4w": "the colour it saw",
    "P5": "background, through the extractors",
    "P5w": "background, past the extractors",
    "P6": "background, tile moved",
}


def riddle(model: rgb.Vlm, trials: Sequence[rgb.Trial], **options) -> pd.DataFrame:
    """Whether each head that passes P3 localizes or writes the background, and by which route.

    Args:
        options: those of `analyses.roles.evidence`.

    Returns:
        See `table`.

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks.
    """
    return table(_roles.evidence(model, trials, **options))


def table(evidence: pd.DataFrame) -> pd.DataFrame:
    """The riddle's rows from the frame of `analyses.roles.evidence`.

    Returns:
        A row per head that passes P3a and P3b × prediction (P4, P4w, P5, P5w, P6): ``layer, head, verdict, route, late,
        prediction, expected, raises`` (in words), ``effect, ci_low, ci_high, restored_fraction, n, holds``.
        ``verdict``: "localizes" (P4, P5, P6 hold), "writes the background" (P4w, P5w hold), or "undecided".
        ``route``: "through the extractors" (P5), "past the extractors" (P5w), or "undecided".
        ``late``: color extractors were found, and none in a later layer, so that nothing can go through one.
    """
    layers = [layer for layer, _ in color_extractor.heads(evidence)]
    localizes, writes = _evidence.heads(evidence, LOCALIZES), _evidence.heads(evidence, WRITES)
    through = _evidence.heads(evidence, [prediction for prediction in poi_localization.PREDICTIONS if prediction.name == "P5"])
    past = _evidence.heads(evidence, [prediction for prediction in WRITES if prediction.name == "P5w"])
    columns = "layer head verdict route late prediction expected raises effect ci_low ci_high restored_fraction n holds".split()
    blocks = []
    for head in _evidence.heads(evidence, PASSES_THE_SEED):
        rows = evidence[(evidence["layer"] == head[0]) & (evidence["head"] == head[1]) & evidence["prediction"].isin(ASKS)]
        verdict = "localizes" if head in localizes else "writes the background" if head in writes else "undecided"
        route = "through the extractors" if head in through else "past the extractors" if head in past else "undecided"
        late = bool(layers) and all(layer <= head[0] for layer in layers)
        rows = rows.assign(verdict=verdict, route=route, late=late, raises=rows["prediction"].map(ASKS))
        blocks.append(rows.set_index("prediction", drop=False).loc[list(ASKS), columns])
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=columns)
