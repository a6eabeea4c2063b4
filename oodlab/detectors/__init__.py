"""Out-of-distribution detectors: every method of the kit ends in score_samples, high = in-distribution."""

from oodlab.detectors.autoencoders import MixtureEnergy, Reencoding
from oodlab.detectors.base import Detector, NotFittedError
from oodlab.detectors.classifiers import LogSumExp, MaxSoftmax
from oodlab.detectors.densities import ApproximateMass, LogDensity, Reconstruction, Typicality

__all__ = [
    "ApproximateMass",
    "Detector",
    "LogDensity",
    "LogSumExp",
    "MaxSoftmax",
    "MixtureEnergy",
    "NotFittedError",
    "Reconstruction",
    "Reencoding",
    "Typicality",
]
