"""Training objectives: functions of (model, batch) that return a loss and its parts."""

from oodlab.objectives.autoencoding import (
    NormalizedLikelihood,
    Parts,
    kl_to_standard_normal,
    negative_elbo,
    reconstruction,
)
from oodlab.objectives.negatives import FromData, FromReplay, Negatives, OnManifold

__all__ = [
    "FromData",
    "FromReplay",
    "Negatives",
    "NormalizedLikelihood",
    "OnManifold",
    "Parts",
    "kl_to_standard_normal",
    "negative_elbo",
    "reconstruction",
]
