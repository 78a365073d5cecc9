"""Figures: frame in, Axes out.

Every function draws on the ``ax`` it is given, or on a figure of its own, and changes no setting of
matplotlib: nothing is registered with pyplot, so nothing need be closed. To see a new figure in a notebook,
end the cell with ``.figure``.
"""

from .attention import attention_over_picture, veiled
from .composition import composition_diagram, composition_map
from .faithfulness import faithfulness_curve
from .forest import effect_forest
from .heatmap import head_heatmap, panel_heatmaps
from .knockout import knockout_lines
from .layers import layer_heatmaps
from .precision_recall import precision_recall, precision_recall_panels, recall_over_trials
from .redirect import redirect_panels

__all__ = [
    "attention_over_picture",
    "composition_diagram",
    "composition_map",
    "effect_forest",
    "faithfulness_curve",
    "head_heatmap",
    "knockout_lines",
    "layer_heatmaps",
    "panel_heatmaps",
    "precision_recall",
    "precision_recall_panels",
    "recall_over_trials",
    "redirect_panels",
    "veiled",
]
