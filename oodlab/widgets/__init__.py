"""Panels for notebooks: sliders, Run and Stop, a live figure."""

from oodlab.widgets.ablations import ablations
from oodlab.widgets.eight_gaussians import eight_gaussians
from oodlab.widgets.epoch_curves import epoch_curves
from oodlab.widgets.gamma_sweep import gamma_sweep
from oodlab.widgets.holdout_digits import holdout_digits
from oodlab.widgets.linear_case import LinearPanel, linear_case
from oodlab.widgets.ood_detection import ood_detection
from oodlab.widgets.outlier_reconstruction import OutlierPanel, outlier_reconstruction
from oodlab.widgets.panel import DRAWING_SHARE, KEPT, REDRAW_SECONDS, WIDE, Publish, RunPanel, show, slider
from oodlab.widgets.samples import samples
from oodlab.widgets.smoothness import smoothness
from oodlab.widgets.stepping import Stepper
from oodlab.widgets.two_clusters import two_clusters
from oodlab.widgets.walk import Walk

__all__ = [
    "DRAWING_SHARE",
    "KEPT",
    "REDRAW_SECONDS",
    "WIDE",
    "LinearPanel",
    "OutlierPanel",
    "Publish",
    "RunPanel",
    "Stepper",
    "Walk",
    "ablations",
    "eight_gaussians",
    "epoch_curves",
    "gamma_sweep",
    "holdout_digits",
    "linear_case",
    "ood_detection",
    "outlier_reconstruction",
    "samples",
    "show",
    "slider",
    "smoothness",
    "two_clusters",
]
