"""Out-of-distribution detectors: every method of the kit ends in score_samples, high = in-distribution."""

from oodlab.detectors.autoencoders import MixtureLogDensity, Reencoding
from oodlab.detectors.base import Detector, NotFittedError
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
    "MixtureLogDensity",
    "NearestNeighbour",
    "NotFittedError",
    "Reconstruction",
    "Reencoding",
    "Typicality",
]
