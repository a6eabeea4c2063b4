"""The linear normalized autoencoder: its Gaussian density in closed form, and the maximum-likelihood solution.

With encoder W and decoder W^T the reconstruction error is quadratic, so its
density is N(0, C) with

    C^-1 = 2 (I - W^T W)^2 / (T D),

where D comes from the mean over dimensions (section 7 of Yoon et al. (2021) has no
D: the printed T is T D here). A direction in which W^T W is 0 has the variance T D / 2; a
direction in which W^T W is 1 is reconstructed without error, and the density
cannot be normalised.

Imports: checks, models.autoencoders, models.energy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models.autoencoders import Autoencoder
from oodlab.models.energy import Density


class Transposed(nn.Module):
    """The decoder z -> W^T z of an autoencoder with tied weights, whose encoder is the linear layer x -> W x."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, z: Tensor) -> Tensor:
        """Return reconstructions W^T z, (B, latent) -> (B, D)."""
        return nn.functional.linear(z, self.linear.weight.T)


def linear_autoencoder(weight: Tensor, *, temperature: float = 1.0) -> Autoencoder:
    """Build the autoencoder with encoder W and decoder W^T.

    Args:
        weight: The matrix W, (latent, D); it is copied, and the model has its dtype.
        temperature: Initial temperature, as in Autoencoder.
    """
    if not torch.is_tensor(weight) or weight.ndim != 2 or not weight.is_floating_point():
        kind = f"{weight.dtype} {tuple(weight.shape)}" if torch.is_tensor(weight) else type(weight).__name__
        raise ValueError(
            f"linear_autoencoder expects weight as a floating-point tensor (latent, D), got {kind}: "
            "pass one row per latent dimension."
        )
    latent, dims = weight.shape
    encoder = nn.Linear(dims, latent, bias=False, dtype=weight.dtype)
    encoder.weight.data.copy_(weight)
    model = Autoencoder(encoder, Transposed(encoder), latent=latent, temperature=temperature)
    return model.to(weight.dtype)


class LinearNAE(Density):
    """The normalised Gaussian density of a linear autoencoder with tied weights.

    Args:
        autoencoder: An autoencoder built by linear_autoencoder; its weights and temperature are
            the parameters of the density.

    Source: Yoon et al. (2021), arXiv:2105.05735, section 7 and appendix A.2.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        if not isinstance(getattr(autoencoder, "decoder", None), Transposed):
            raise ValueError(
                f"LinearNAE expects an autoencoder of linear_autoencoder, got {type(autoencoder).__name__}: "
                "other autoencoders have no closed form; normalise them on a grid."
            )
        self.autoencoder = autoencoder

    @property
    def rest(self) -> Tensor:
        """The matrix I - W^T W, (D, D), which maps x to the error of its reconstruction, x - W^T W x."""
        weight = self.autoencoder.encoder.weight
        return torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device) - weight.T @ weight

    @property
    def precision(self) -> Tensor:
        """The inverse covariance 2 (I - W^T W)^2 / (T D), (D, D)."""
        rest = self.rest
        return 2 * rest @ rest / (self.autoencoder.temperature * len(rest))

    def log_normaliser(self) -> Tensor:
        """Return log of the integral of exp(-error / T), nats, a scalar; infinite where W^T W has the eigenvalue 1."""
        rest = self.rest
        dims, log_det = len(rest), torch.linalg.slogdet(rest)[1]
        return dims / 2 * (math.log(math.pi * dims) + self.autoencoder.log_temperature) - log_det

    def expected_nll(self, covariance: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of data with mean 0 and these second moments (D, D), nats, a scalar."""
        return 0.5 * (self.precision * covariance).sum() + self.log_normaliser()

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density, nats, (B, D) -> (B,)."""
        return -self.autoencoder.energy(x) - self.log_normaliser()

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples, (n, D): x = (T D / 2)^(1/2) (I - W^T W)^-1 xi."""
        rest = self.rest
        xi = torch.randn(n, len(rest), generator=generator, dtype=rest.dtype, device=rest.device)
        std = (self.autoencoder.temperature * len(rest) / 2).sqrt()
        return std * torch.linalg.solve(rest, xi, left=False)  # rest is symmetric


@dataclass(frozen=True)
class LinearOptimum:
    """The maximum-likelihood linear normalized autoencoder of data with a given covariance.

    Attributes:
        nll: Mean negative log-likelihood of the data, nats.
        temperature: Temperature T, in units of the mean squared error per dimension.
        kept: Indices into `variances` of the principal directions whose variance the model matches exactly.
        variances: Variances of the data along its principal directions, in ascending order.
        weight: One encoder W that reaches nll, (latent, D).
    """

    nll: float
    temperature: float
    kept: tuple[int, ...]
    variances: tuple[float, ...]
    weight: Tensor


def most_likely_linear_nae(covariance: Tensor, latent: int, *, temperature: float | None = None) -> LinearOptimum:
    """Return the linear normalized autoencoder of maximum likelihood in closed form.

    For each latent dimension, the model matches the data's variance in one principal
    direction; in all other directions its variance is T D / 2. With T free, T D / 2 is
    the mean of the variances that are not matched, which lie next to each other in
    order of size; so D_z = D - 1 is as good as D_z = D. With T fixed, the matched
    directions are those that gain most, (r - 1 - log r) / 2 nats each, where r is the
    direction's variance divided by T D / 2: very small variances gain, too.

    Args:
        covariance: Second moments of data with mean 0, (D, D).
        latent: Number of latent dimensions, D_z >= 1.
        temperature: Temperature T if it is fixed; None chooses the best T.

    Raises:
        ValueError: covariance is not symmetric and positive definite.

    Source: Yoon et al. (2021), appendix A.2, which has the over-complete case; the
    under-complete ones follow from the eigenvalues of the precision.
    """
    _check_covariance(covariance)
    checks.whole("most_likely_linear_nae", "latent", latent, least=1)
    if temperature is not None:
        checks.number("most_likely_linear_nae", "temperature", temperature, above=0)
    variances, directions = torch.linalg.eigh(covariance.double())
    dims = len(variances)
    left = max(0, dims - latent)
    if temperature is not None:
        shared = temperature * dims / 2
        ratio = variances / shared
        gain = ratio - 1 - ratio.log()
        kept = sorted(gain.topk(dims - left).indices.tolist())
    elif left:  # left out are neighbours: of two that others lie between, one of those would do better
        spent = [
            (left * part.mean().log() - part.log().sum(), i) for i, part in enumerate(variances.unfold(0, left, 1))
        ]
        first = min(spent)[1]
        kept = [i for i in range(dims) if not first <= i < first + left]
        shared = float(variances[first : first + left].mean())
    else:  # T is one of many: this one lets every eigenvalue of W^T W be below 1
        kept, shared = list(range(dims)), float(variances[0])
    of_model = torch.full_like(variances, shared)
    of_model[kept] = variances[kept]
    nll = 0.5 * float((of_model.log() + variances / of_model).sum() + dims * math.log(2 * math.pi))
    root = (shared / of_model[kept]).sqrt()
    eigenvalues = torch.where(root <= 1, 1 - root, 1 + root)  # of W^T W, which has no negative ones
    weight = torch.zeros(latent, dims, dtype=torch.float64)
    weight[: len(kept)] = eigenvalues.sqrt()[:, None] * directions.T[kept]
    return LinearOptimum(nll, 2 * shared / dims, tuple(kept), tuple(variances.tolist()), weight)


def _check_covariance(covariance: Tensor) -> None:
    square = torch.is_tensor(covariance) and covariance.ndim == 2 and covariance.shape[0] == covariance.shape[1]
    if (
        not square
        or not torch.allclose(covariance, covariance.T)
        or not bool((torch.linalg.eigvalsh(covariance) > 0).all())
    ):
        kind = f"a tensor {tuple(covariance.shape)}" if torch.is_tensor(covariance) else type(covariance).__name__
        raise ValueError(
            f"most_likely_linear_nae expects a symmetric, positive definite covariance (D, D), got {kind}: "
            "for data x with mean 0 it is x.T @ x / len(x)."
        )
