"""Settings of "Autoencoding Under Normalization Constraints" (Yoon et al., 2021, arXiv:2105.05735).

"table 10" and the like are the paper's; "released" is the authors' published
code (swyoon/normalized-autoencoders).

Imports: its own folder.
"""

from oodlab.presets.nae.ablations import (
    ABLATED,
    ABLATIONS,
    ABLATIONS_RELEASED,
    EXTENTS,
    Ablation,
    ablated_training,
)
from oodlab.presets.nae.eight_gaussians import EIGHT_GAUSSIANS
from oodlab.presets.nae.holdout_digits import (
    HOLDOUT_DIGITS,
    HOLDOUT_DIGITS_RELEASED,
    HOLDOUT_DIGITS_SMALL,
    held_out_inputs,
)
from oodlab.presets.nae.image_budgets import BUDGETS, COLOUR_BUDGETS
from oodlab.presets.nae.image_methods import METHODS, SETTINGS
from oodlab.presets.nae.images import KINDS, image_detectors, image_training
from oodlab.presets.nae.linear_case import LINEAR_CASE, PLANE, SPACE, TEMPERATURES
from oodlab.presets.nae.two_clusters import TWO_CLUSTERS

__all__ = [
    "ABLATED",
    "ABLATIONS",
    "ABLATIONS_RELEASED",
    "BUDGETS",
    "COLOUR_BUDGETS",
    "EIGHT_GAUSSIANS",
    "EXTENTS",
    "HOLDOUT_DIGITS",
    "HOLDOUT_DIGITS_RELEASED",
    "HOLDOUT_DIGITS_SMALL",
    "KINDS",
    "LINEAR_CASE",
    "METHODS",
    "PLANE",
    "SETTINGS",
    "SPACE",
    "TEMPERATURES",
    "TWO_CLUSTERS",
    "Ablation",
    "ablated_training",
    "held_out_inputs",
    "image_detectors",
    "image_training",
]
