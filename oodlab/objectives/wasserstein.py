"""Autoencoders whose codes are drawn to a prior by the maximum mean discrepancy.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from oodlab import checks
from oodlab.models import Autoencoder
from oodlab.models.autoencoders import error_per_dimension
from oodlab.objectives.autoencoding import Parts


@dataclass(frozen=True)
class WassersteinMMD:
    """loss = mean squared error per dimension + coefficient * MMD^2(codes, draws of the prior).

    The prior is where the model's latent chains start: N(0, I), or uniform on the
    sphere. The kernel's bandwidth is that of mmd_squared, new for every batch.

    Args:
        coefficient: Weight of the discrepancy; >= 0.

    Source: Tolstikhin et al. (2018), arXiv:1711.01558, with the RBF kernel and the
    coefficients .001 to .1 of Yoon et al. (2021), arXiv:2105.05735.
    """

    coefficient: float
    couples_batch: ClassVar[bool] = True  # pairs of a slice are not those of the batch

    def __post_init__(self) -> None:
        checks.number("WassersteinMMD", "coefficient", self.coefficient, least=0)

    def __call__(
        self,
        model: Autoencoder,
        x: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **run: Any,
    ) -> Parts:
        """Return the loss, the error and the squared discrepancy."""
        z = model.encode(x)
        discrepancy = mmd_squared(z.flatten(1), model.latent_start(z, generator).flatten(1))
        error = error_per_dimension(x, model.decode(z)).mean()
        loss = error + self.coefficient * discrepancy
        return {"loss": loss, "error": error.detach(), "mmd_squared": discrepancy.detach()}


def mmd_squared(a: Tensor, b: Tensor, *, bandwidth: float | None = None) -> Tensor:
    """Estimate the squared maximum mean discrepancy of two laws, without bias, so below 0 at times.

    Args:
        a: Draws of one, (N, D), N >= 2.
        b: Draws of the other, (M, D), M >= 2.
        bandwidth: s of the kernel exp(-|u - v|^2 / (2 s^2)), in units of the draws. None takes the
            median distance between any two of all draws (the lower one of two), as a constant.

    Returns:
        Mean kernel of two a plus that of two b minus twice that of an a and a b, scalar.

    Source: Gretton et al. (2012), equation 3.
    """
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(
            f"mmd_squared expects two draws of each at least, got {n} and {m}: it compares pairs; use larger batches."
        )
    both = torch.cat([a, b])
    squares = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").square()
    if bandwidth is None:
        i, j = torch.triu_indices(n + m, n + m, offset=1, device=both.device)
        variance = squares.detach()[i, j].median()
    else:
        checks.number("mmd_squared", "bandwidth", bandwidth, above=0)
        variance = bandwidth**2
    kernel = (-squares / (2 * variance)).exp()
    same_a, same_b = kernel[:n, :n].sum() - n, kernel[n:, n:].sum() - m  # less those with themselves
    return same_a / (n * (n - 1)) + same_b / (m * (m - 1)) - 2 * kernel[:n, n:].mean()
