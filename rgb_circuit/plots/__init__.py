"""Figures: frame in, Axes out.

Every function draws on the ``ax`` it is given, or on its own figure, and changes no setting of
matplotlib. Nothing is registered with pyplot, so nothing needs to be closed. A notebook shows a new
figure if the call ends a cell.
"""

from .attention import attention_over_picture, veiled
from .composition import composition_diagram, composition_map
from .estimate import estimates_against_exact
from .faithfulness import faithfulness_curve
from .forest import effect_forest
from .heatmap import head_heatmap, panel_heatmaps
from .knockout import knockout_lines
from .layers import layer_heatmaps
from .lens import lens_over_layers, lens_over_picture
from .paths import path_parts
from .precision_recall import precision_recall, precision_recall_panels, recall_over_trials
from .redirect import redirect_panels
from .transfer import transfer_maps

__all__ = [
    "attention_over_picture",
    "composition_diagram",
    "composition_map",
    "effect_forest",
    "estimates_against_exact",
    "faithfulness_curve",
    "head_heatmap",
    "knockout_lines",
    "layer_heatmaps",
    "lens_over_layers",
    "lens_over_picture",
    "panel_heatmaps",
    "path_parts",
    "precision_recall",
    "precision_recall_panels",
    "recall_over_trials",
    "redirect_panels",
    "transfer_maps",
    "veiled",
]
