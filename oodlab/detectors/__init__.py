"""Out-of-distribution detectors: every method of the kit ends in score_samples, high = in-distribution."""

from oodlab.detectors.autoencoders import MixtureLogDensity, Reencoding
from oodlab.detectors.base import Detector, NotFittedError
from oodlab.detectors.classifiers import LogSumExp, MaxSoftmax
from oodlab.detectors.densities import ApproximateMass, LogDensity, Reconstruction, Typicality

__all__ = [
    "ApproximateMass",
    "Detector",
    "LogDensity",
    "LogSumExp",
    "MaxSoftmax",
    "MixtureLogDensity",
    "NotFittedError",
    "Reconstruction",
    "Reencoding",
    "Typicality",
]
