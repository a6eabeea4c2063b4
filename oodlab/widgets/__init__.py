"""Panels for notebooks: sliders, Run and Stop, a live figure."""

from oodlab.widgets.eight_gaussians import eight_gaussians
from oodlab.widgets.panel import DRAWING_SHARE, KEPT, REDRAW_SECONDS, WIDE, Publish, RunPanel, show, slider

__all__ = [
    "DRAWING_SHARE",
    "KEPT",
    "REDRAW_SECONDS",
    "WIDE",
    "Publish",
    "RunPanel",
    "eight_gaussians",
    "show",
    "slider",
]
