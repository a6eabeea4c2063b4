"""Scores read off a density or an energy.

Imports: checks, data, models, its own folder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from oodlab import checks, data
from oodlab.detectors.base import Detector
from oodlab.models import Density, EncoderDecoder, EnergyModel
from oodlab.models.flows.mass import SPACES, Space, approximate_mass


class LogDensity(Detector):
    """The model's log-density: log p(x) up to a constant, nats.

    Source: Bishop (1994), Novelty detection and neural network validation.
    """

    model: EnergyModel
    needs = ("log_density",)

    def _score_batch(self, x: Tensor) -> Tensor:
        return self.model.log_density(x)


class Reconstruction(Detector):
    """Minus the squared reconstruction error per dimension.

    For a normalized autoencoder it ranks inputs as LogDensity does.
    """

    model: EncoderDecoder
    needs = ("reconstruction_error",)

    def _score_batch(self, x: Tensor) -> Tensor:
        return -self.model.reconstruction_error(x)


class ApproximateMass(Detector):
    """Minus the Euclidean norm of the gradient of log p(x), nats per unit of the space.

    Args:
        space: What the gradient is with respect to: pixels in [0, 1], the model's
            input, or the logit of a flow's input; see models.flows.mass.

    Source: Grathwohl et al. (2020), arXiv:1912.03263, section 5.3; Chali et al. (2023).
    """

    model: Density
    needs = ("log_prob",)

    def __init__(self, model: Density, *, event_shape: tuple[int, ...] | None = None, space: Space = "pixel") -> None:
        super().__init__(model, event_shape=event_shape)
        checks.one_of("ApproximateMass", "space", space, SPACES)
        self.space = space

    def _score_batch(self, x: Tensor) -> Tensor:
        return -approximate_mass(self.model, x, space=self.space)


class Typicality(Detector):
    """Minus the distance in nats between -log p(x) and its mean on training data.

    Source: Nalisnick et al. (2019), arXiv:1906.02994, with a single input per test.
    """

    model: EnergyModel
    needs = ("log_density", "energy")
    learned = ("mean_nll_",)

    def fit(self, x: Tensor, y: Tensor | None = None) -> Typicality:
        """Learn the mean of -log p over training inputs, (N, *event)."""
        self.mean_nll_ = -float(LogDensity(self.model, event_shape=self.event_shape).score_samples(x).mean())
        return self

    def _score_batch(self, x: Tensor) -> Tensor:
        return -(self.model.energy(x) - self.mean_nll_).abs()


class BitsPerDim(Detector):
    """Minus the bits per dimension of 8-bit images, at one noise sample per image.

    Its mean over a set is minus the set's bits per dimension: a uniform density gives 8.

    Args:
        model: Density of w in [0, 1]^D.
        noise_seed: Seed of the noise, drawn anew for each set.
        event_shape: Shape of one input, as in Detector.
    """

    model: Density
    needs = ("log_prob",)

    def __init__(self, model: Density, *, noise_seed: int = 0, event_shape: tuple[int, ...] | None = None) -> None:
        super().__init__(model, event_shape=event_shape)
        self.noise_seed = noise_seed

    def _as_scored(self, x: Tensor) -> Tensor:
        return data.dequantize(data.to_uint8(x.cpu()), torch.Generator().manual_seed(self.noise_seed))

    def _score_batch(self, x: Tensor) -> Tensor:
        dims = x[0].numel()
        return (self.model.log_prob(x) / dims - math.log(256)) / math.log(2)
