"""Settings of "Autoencoding Under Normalization Constraints" (Yoon et al., 2021, arXiv:2105.05735).

"table 10" and the like are the paper's; "released" is the authors' published
code (swyoon/normalized-autoencoders).

Imports: its own folder.
"""

from oodlab.presets.nae.eight_gaussians import EIGHT_GAUSSIANS
from oodlab.presets.nae.holdout_digits import HOLDOUT_DIGITS, held_out_inputs
from oodlab.presets.nae.image_chains import (
    FreshChains,
    image_features,
    likeness,
    nearest_images,
)
from oodlab.presets.nae.images import BUDGETS, METHODS, SETTINGS, image_detectors, image_training
from oodlab.presets.nae.linear_case import LINEAR_CASE, PLANE, SPACE, TEMPERATURES
from oodlab.presets.nae.samples import SAMPLES, SAMPLES_RELEASED, sample_trainings
from oodlab.presets.nae.two_clusters import TWO_CLUSTERS

__all__ = [
    "BUDGETS",
    "EIGHT_GAUSSIANS",
    "HOLDOUT_DIGITS",
    "LINEAR_CASE",
    "METHODS",
    "PLANE",
    "SAMPLES",
    "SAMPLES_RELEASED",
    "SETTINGS",
    "SPACE",
    "TEMPERATURES",
    "TWO_CLUSTERS",
    "FreshChains",
    "held_out_inputs",
    "image_detectors",
    "image_features",
    "image_training",
    "likeness",
    "nearest_images",
    "sample_trainings",
]
