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
from oodlab.objectives.mixture import MixtureLikelihood
from oodlab.objectives.negatives import FromData, FromReplay, Negatives, OnManifold
from oodlab.objectives.reencoding import AdversarialReencoding
from oodlab.objectives.score_matching import SlicedScoreMatching
from oodlab.objectives.settings import (
    AgainstGenerator,
    Contrastive,
    DataChains,
    ManifoldChains,
    Normalised,
    ReplayChains,
    ScoreMatching,
    SquaredError,
    WithLabels,
)
from oodlab.objectives.vector_quantised import VectorQuantisation
from oodlab.objectives.vera import VariationalLikelihood
from oodlab.objectives.wasserstein import WassersteinMMD, mmd_squared

__all__ = [
    "AdversarialReencoding",
    "AgainstGenerator",
    "Contrastive",
    "ContrastiveDivergence",
    "DataChains",
    "FromData",
    "FromReplay",
    "Joint",
    "ManifoldChains",
    "MixtureLikelihood",
    "Negatives",
    "Normalised",
    "NormalizedLikelihood",
    "OnManifold",
    "Parts",
    "PenalisedLikelihood",
    "ReplayChains",
    "ScoreMatching",
    "SlicedScoreMatching",
    "SquaredError",
    "VariationalLikelihood",
    "VectorQuantisation",
    "WassersteinMMD",
    "WithLabels",
    "cost_of_alpha",
    "denoising",
    "kl_to_standard_normal",
    "maximum_likelihood",
    "mmd_squared",
    "negative_elbo",
    "reconstruction",
]
