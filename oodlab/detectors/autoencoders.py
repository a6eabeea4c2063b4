"""Scores of autoencoders that have more to say than their reconstruction error.

Imports: models, its own folder.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from oodlab.detectors.base import Detector, in_float32
from oodlab.models import GaussianMixture, MixtureAutoencoder, ReencodingAutoencoder, frozen


class MixtureLogDensity(Detector):
    """Log-density of a mixture of Gaussians over the code and the quality of its reconstruction, nats.

    The mixture is that of the training data.

    Source: Zong et al. (2018), DAGMM.
    """

    model: MixtureAutoencoder
    needs = ("features", "memberships")
    learned = ("log_weights_", "means_", "factors_")

    def fit(self, x: Tensor, y: Tensor | None = None) -> MixtureLogDensity:
        """Estimate the mixture from training inputs, (N, *event)."""
        device = next(itertools.chain(self.model.parameters(), self.model.buffers())).device
        with frozen(self.model), torch.no_grad(), in_float32():
            features = torch.cat([self.model.features(part.to(device, torch.float32)) for part in x.split(1000)])
            mixture = GaussianMixture.of(features.double(), self.model.memberships(features).double())
        if not all(value.isfinite().all() for value in (mixture.log_weights, mixture.means, mixture.factors)):
            raise FloatingPointError(
                "MixtureLogDensity.fit: the mixture of the training data is not finite: a component is degenerate or an input is; "
                "look at the inputs, or train with a larger covariance_weight or fewer components."
            )
        self.log_weights_, self.means_, self.factors_ = mixture.log_weights, mixture.means, mixture.factors
        return self

    def _score_batch(self, x: Tensor) -> Tensor:
        learned = (self.log_weights_, self.means_, self.factors_)  # where it was fitted; the model may have moved since
        return -GaussianMixture(*(value.to(x.device) for value in learned)).energy(self.model.features(x).double())


class Reencoding(Detector):
    """Minus the sum of absolute differences between the codes of an input and of its reconstruction.

    Source: Akcay et al. (2018), GANomaly, arXiv:1805.06725, equation 6.
    """

    model: ReencodingAutoencoder
    needs = ("reencoding_error",)

    def _score_batch(self, x: Tensor) -> Tensor:
        return -self.model.reencoding_error(x)
