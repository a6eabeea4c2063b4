"""An autoencoder with a mixture of Gaussians over its codes and reconstruction errors (DAGMM).

Imports: checks, models.autoencoders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models.autoencoders import EncoderDecoder, error_per_dimension

SMALLEST = 1e-10  # smallest divisor: the norm of a black image is 0


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of K Gaussians in D dimensions.

    Attributes:
        log_weights: Logarithms of the components' weights, (K,).
        means: Means of the components, (K, D).
        factors: Lower-triangular Cholesky factors of the covariances, (K, D, D).
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    @classmethod
    def of(cls, features: Tensor, memberships: Tensor, *, ridge: float = 1e-6) -> GaussianMixture:
        """Return the mixture estimated from points and the probabilities of each point's components.

        Args:
            features: Points, (N, D), in float32 or better.
            memberships: Probability of each component for each point, (N, K); rows sum to 1.
            ridge: Number added to the covariances' diagonals, in units of the features squared.

        Returns:
            The mixture; NaN in a component whose covariance is not positive definite.
        """
        with torch.autocast(features.device.type, enabled=False):  # covariances are differences of near numbers
            total = memberships.sum(dim=0).clamp(min=SMALLEST)
            means = memberships.T @ features / total[:, None]
            centred = features[:, None] - means
            covariances = torch.einsum("nki,nkj->kij", memberships[..., None] * centred, centred) / total[:, None, None]
            eye = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
            factors, info = torch.linalg.cholesky_ex(covariances + ridge * eye)  # does not wait for the device
            factors = torch.where((info == 0)[:, None, None], factors, math.nan)
        return cls((total / len(features)).log(), means, factors)

    def energy(self, features: Tensor) -> Tensor:
        """Return minus the log-density, nats, (B, D) -> (B,)."""
        with torch.autocast(features.device.type, enabled=False):
            centred = (features - self.means[:, None]).mT  # (K, D, B)
            whitened = torch.linalg.solve_triangular(self.factors, centred, upper=False)
            half_logdet = self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
            constant = self.log_weights - half_logdet - 0.5 * self.means.shape[1] * math.log(2 * math.pi)
            return -torch.logsumexp(constant[:, None] - whitened.square().sum(dim=1) / 2, dim=0)

    def inverse_variances(self) -> Tensor:
        """Return the sum of 1 / variance over components and dimensions, scalar."""
        return (1 / self.factors.square().sum(dim=2)).sum()


class MixtureAutoencoder(EncoderDecoder):
    """An autoencoder with a network that gives the probability of each component of a Gaussian mixture.

    The mixture's features are the code and two numbers on the reconstruction x': |x - x'| / |x|
    and the cosine between x and x'. Its weights, means and covariances are not parameters but
    estimated from data; see GaussianMixture.of.

    Args:
        encoder: (B, *event) -> (B, latent, ...).
        decoder: (B, latent, ...) -> (B, *event).
        estimator: (B, latent + 2) -> (B, K), logits of the memberships.

    Source: Zong et al. (2018), Deep autoencoding Gaussian mixture model (DAGMM), ICLR.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, estimator: nn.Module) -> None:
        super().__init__(encoder, decoder)
        checks.function("MixtureAutoencoder", "estimator", estimator, instead="a network")
        self.estimator = estimator

    def features(self, x: Tensor) -> Tensor:
        """Return code, relative error and cosine, (B, *event) -> (B, latent + 2)."""
        return self.features_and_error(x)[0]

    def features_and_error(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features(x), (B, latent + 2), and reconstruction_error(x), (B,), from one pass of the networks."""
        z = self.encode(x)
        reconstruction = self.decode(z)
        flat, again = x.flatten(1), reconstruction.flatten(1).to(x.dtype)
        relative = (flat - again).norm(dim=1) / flat.norm(dim=1).clamp(min=SMALLEST)
        cosine = nn.functional.cosine_similarity(flat, again, dim=1)
        features = torch.cat([z.flatten(1).to(x.dtype), relative[:, None], cosine[:, None]], dim=1)
        return features, error_per_dimension(x, reconstruction)

    def memberships(self, features: Tensor) -> Tensor:
        """Return the probability of each component, (B, latent + 2) -> (B, K)."""
        return self.estimator(features).to(features.dtype).softmax(dim=1)
