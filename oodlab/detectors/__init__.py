"""Out-of-distribution detectors: every method of the kit ends in score_samples, high = in-distribution."""

from oodlab.detectors.autoencoders import MixtureEnergy, Reencoding
from oodlab.detectors.base import Detector, NotFittedError, cached_scores
from oodlab.detectors.classifiers import LogSumExp, MaxSoftmax
from oodlab.detectors.densities import ApproximateMass, BitsPerDim, LogDensity, Reconstruction, Typicality
from oodlab.detectors.features import FeatureDetector, Features, Mahalanobis, NearestNeighbour
from oodlab.detectors.groups import BatchMass, GroupMean

__all__ = [
    "ApproximateMass",
    "BatchMass",
    "BitsPerDim",
    "Detector",
    "FeatureDetector",
    "Features",
    "GroupMean",
    "LogDensity",
    "LogSumExp",
    "Mahalanobis",
    "MaxSoftmax",
    "MixtureEnergy",
    "NearestNeighbour",
    "NotFittedError",
    "Reconstruction",
    "Reencoding",
    "Typicality",
    "cached_scores",
]
