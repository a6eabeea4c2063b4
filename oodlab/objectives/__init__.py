"""Training objectives: functions of (model, batch) that return a loss and its parts."""

from oodlab.objectives.autoencoding import (
    NormalizedLikelihood,
    Parts,
    denoising,
    kl_to_standard_normal,
    negative_elbo,
    reconstruction,
)
from oodlab.objectives.contrastive import ContrastiveDivergence
from oodlab.objectives.joint import Joint
from oodlab.objectives.likelihood import PenalisedLikelihood, cost_of_alpha, maximum_likelihood
from oodlab.objectives.negatives import FromData, FromReplay, Negatives, OnManifold
from oodlab.objectives.score_matching import SlicedScoreMatching
from oodlab.objectives.vera import VariationalLikelihood

__all__ = [
    "ContrastiveDivergence",
    "FromData",
    "FromReplay",
    "Joint",
    "Negatives",
    "NormalizedLikelihood",
    "OnManifold",
    "Parts",
    "PenalisedLikelihood",
    "SlicedScoreMatching",
    "VariationalLikelihood",
    "cost_of_alpha",
    "denoising",
    "kl_to_standard_normal",
    "maximum_likelihood",
    "negative_elbo",
    "reconstruction",
]
