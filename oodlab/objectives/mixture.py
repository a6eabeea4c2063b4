"""Reconstruction and the likelihood of a mixture over codes, trained together.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from oodlab import checks
from oodlab.models import GaussianMixture, MixtureAutoencoder
from oodlab.objectives.autoencoding import Parts


@dataclass(frozen=True)
class MixtureLikelihood:
    """loss = error + energy_weight * mean energy + covariance_weight * sum of 1 / variance.

    error is the mean squared error per dimension, the energy minus the log-density, in
    nats, of the mixture that the batch itself makes; the last term keeps its variances
    from vanishing.

    Args:
        energy_weight: lambda_1; >= 0.
        covariance_weight: lambda_2; >= 0.

    Source: Zong et al. (2018), DAGMM, section 3.4, whose weights these are; its error is a sum over dimensions.
    """

    energy_weight: float = 0.1
    covariance_weight: float = 0.005
    couples_batch: ClassVar[bool] = True  # the mixture of a slice is not that of the batch
    advice: ClassVar[str] = "a larger covariance_weight, larger batches, fewer components"

    def __post_init__(self) -> None:
        for name in ("energy_weight", "covariance_weight"):
            checks.number("MixtureLikelihood", name, getattr(self, name), least=0)

    def __call__(self, model: MixtureAutoencoder, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the loss, the error, the energy and the penalty."""
        features, errors = model.features_and_error(x)
        points = features.double()  # float32 has too few digits for a covariance that is all but singular
        mixture = GaussianMixture.of(points, model.memberships(features).double())
        energy, penalty, error = mixture.energy(points).mean(), mixture.inverse_variances(), errors.mean()
        loss = error + self.energy_weight * energy + self.covariance_weight * penalty
        return {"loss": loss, "error": error.detach(), "energy": energy.detach(), "penalty": penalty.detach()}
