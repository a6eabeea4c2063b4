"""Kinds of panels: sliders, Run and Stop, a live figure; a notebook's own panel lies in its room."""

from oodlab.widgets.panel import DRAWING_SHARE, KEPT, REDRAW_SECONDS, WIDE, Publish, RunPanel, show, slider
from oodlab.widgets.stepping import Stepper
from oodlab.widgets.walk import Walk

__all__ = [
    "DRAWING_SHARE",
    "KEPT",
    "REDRAW_SECONDS",
    "WIDE",
    "Publish",
    "RunPanel",
    "Stepper",
    "Walk",
    "show",
    "slider",
]
