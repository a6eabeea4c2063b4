"""Settings of "Autoencoding Under Normalization Constraints" (Yoon et al., 2021, arXiv:2105.05735).

"table 10" and the like are the paper's; "released" is the authors' published
code (swyoon/normalized-autoencoders).

Imports: its own folder.
"""

from oodlab.presets.nae.eight_gaussians import EIGHT_GAUSSIANS
from oodlab.presets.nae.image_budgets import BUDGETS, COLOUR_BUDGETS
from oodlab.presets.nae.image_chains import (
    FreshChains,
    image_features,
    likeness,
    nearest_images,
)
from oodlab.presets.nae.image_methods import METHODS, SETTINGS
from oodlab.presets.nae.images import KINDS, image_detectors, image_training
from oodlab.presets.nae.linear_case import LINEAR_CASE, PLANE, SPACE, TEMPERATURES
from oodlab.presets.nae.ood_detection import (
    OOD_DETECTION,
    OOD_DETECTION_RELEASED,
    OOD_SETS,
    OodInputs,
    ood_inputs,
)
from oodlab.presets.nae.outlier_reconstruction import (
    OUTLIER_RECONSTRUCTION,
    OUTLIER_RECONSTRUCTION_RELEASED,
    OutlierInputs,
    outlier_inputs,
)
from oodlab.presets.nae.samples import SAMPLES, SAMPLES_RELEASED, sample_trainings
from oodlab.presets.nae.two_clusters import TWO_CLUSTERS

__all__ = [
    "BUDGETS",
    "COLOUR_BUDGETS",
    "EIGHT_GAUSSIANS",
    "KINDS",
    "LINEAR_CASE",
    "METHODS",
    "OOD_DETECTION",
    "OOD_DETECTION_RELEASED",
    "OOD_SETS",
    "OUTLIER_RECONSTRUCTION",
    "OUTLIER_RECONSTRUCTION_RELEASED",
    "PLANE",
    "SAMPLES",
    "SAMPLES_RELEASED",
    "SETTINGS",
    "SPACE",
    "TEMPERATURES",
    "TWO_CLUSTERS",
    "FreshChains",
    "OodInputs",
    "OutlierInputs",
    "image_detectors",
    "image_features",
    "image_training",
    "likeness",
    "nearest_images",
    "ood_inputs",
    "outlier_inputs",
    "sample_trainings",
]
