"""Scores read off a density or an energy.

Imports: models, its own folder.
"""

from __future__ import annotations

from torch import Tensor

from oodlab.detectors.base import Detector
from oodlab.models import EnergyModel, NormalizedAutoencoder


class LogDensity(Detector):
    """The model's log-density: log p(x) up to a constant, nats.

    Source: Bishop (1994), Novelty detection and neural network validation.
    """

    model: EnergyModel

    def _score_batch(self, x: Tensor) -> Tensor:
        return self.model.log_density(x)


class Reconstruction(Detector):
    """Minus the squared reconstruction error per dimension.

    For a normalized autoencoder it ranks inputs as LogDensity does.
    """

    model: NormalizedAutoencoder

    def _score_batch(self, x: Tensor) -> Tensor:
        return -self.model.reconstruction_error(x)
