"""Losses of the autoencoder family.

Every objective is called as objective(model, x, y, generator=..., should_stop=...)
and returns Parts: the scalar "loss" to differentiate and detached numbers to watch.

Imports: checks, models, samplers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models import Autoencoder, EncoderDecoder, VariationalAutoencoder
from oodlab.models.autoencoders import error_per_dimension
from oodlab.samplers import noise

Parts = dict[str, Tensor]


def reconstruction(
    model: EncoderDecoder, x: Tensor, y: Tensor | None = None, *, encoder_l2: float = 0.0, **run: Any
) -> Parts:
    """Mean squared error per dimension: the plain autoencoder.

    The temperature does not enter; grids.best_temperature sets it afterwards.

    Args:
        model: Any autoencoder.
        x: Inputs, (B, *event).
        y: Not used.
        encoder_l2: Weight of the sum of squares of all the encoder's parameters; the released code of
            Yoon et al. (2021), arXiv:2105.05735, has 1e-4.
        **run: Not used.
    """
    checks.number("reconstruction", "encoder_l2", encoder_l2, least=0)
    error = model.reconstruction_error(x).mean()
    loss = error + encoder_l2 * _sum_of_squares(model.encoder) if encoder_l2 else error
    return {"loss": loss, "error": error.detach()}


def denoising(
    model: EncoderDecoder,
    x: Tensor,
    y: Tensor | None = None,
    *,
    noise_std: float = 0.3,
    generator: torch.Generator | None = None,
    **run: Any,
) -> Parts:
    """Mean squared error per dimension between x and the reconstruction of x + noise_std * xi, xi ~ N(0, I).

    The noisy input is not cut back to the range of the data.

    Source: Vincent et al. (2008); noise_std as in Yoon et al. (2021), arXiv:2105.05735.
    """
    checks.number("denoising", "noise_std", noise_std, least=0)
    noisy = x + noise_std * noise(x, generator)
    loss = error_per_dimension(x, model.decode(model.encode(noisy))).mean()
    return {"loss": loss, "error": loss.detach()}


def negative_elbo(
    model: VariationalAutoencoder,
    x: Tensor,
    y: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    **run: Any,
) -> Parts:
    """Negative evidence lower bound with one draw of the posterior, nats per input.

    Source: Kingma & Welling (2014), equation 10; the KL term in closed form.
    """
    mean, log_variance = model.posterior(x)
    xi = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
    kl = kl_to_standard_normal(mean, log_variance).mean()
    misfit = -model.log_likelihood(x, mean + (log_variance / 2).exp() * xi).mean()
    return {"loss": misfit + kl, "misfit": misfit.detach(), "kl": kl.detach()}


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)), nats, (B, *code) -> (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(dim=1)


def _sum_of_squares(module: nn.Module) -> Tensor:
    return torch.stack([p.square().sum() for p in module.parameters()]).sum()


class NormalizedLikelihood(nn.Module):
    """Maximum likelihood of a normalized autoencoder by sampled negatives.

    With E the reconstruction error and T the temperature, the gradient of the
    negative log-likelihood E / T + log Omega needs no normaliser: its expectation
    under the model is the mean over negatives.  The network's gradient is that of
    T times the likelihood, the temperature's is exact, -(E+ - E-) / T^2.

    Args:
        negatives: One of objectives.negatives.
        energy_penalty: Weight of the mean of E^2 over negatives.
        penalise_data: Penalise the mean of E^2 over data, too, with the same weight, as the
            released code does for contrastive divergence, persistent or not.
        latent_penalty: Weight of the mean squared latent code of data and negatives.
        encoder_l2: Weight of the sum of squares of all the encoder's parameters; released: 1e-4 on the sphere.

    Source: Yoon et al. (2021), arXiv:2105.05735, equation 6 and appendix D.3; weights as released.
    """

    advice = "a smaller step_size or more steps of the chains, a larger energy_penalty, a lower rate of log_temperature"

    def __init__(
        self,
        negatives: nn.Module,
        *,
        energy_penalty: float = 1.0,
        penalise_data: bool = False,
        latent_penalty: float = 0.0,
        encoder_l2: float = 0.0,
    ) -> None:
        super().__init__()
        weights = {"energy_penalty": energy_penalty, "latent_penalty": latent_penalty, "encoder_l2": encoder_l2}
        for name, weight in weights.items():
            checks.number("NormalizedLikelihood", name, weight, least=0)
        self.negatives, self.penalise_data = negatives, penalise_data
        self.energy_penalty, self.latent_penalty, self.encoder_l2 = energy_penalty, latent_penalty, encoder_l2

    def forward(self, model: Autoencoder, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the loss, both mean errors, data's minus negatives' as the gap, the temperature, and negatives with their starts."""
        negatives = self.negatives(model, x, **run)
        both = torch.cat([x, negatives.x])
        z = model.encode(both)
        errors = error_per_dimension(both, model.decode(z))
        on_data, on_negatives = errors.split([len(x), len(negatives.x)])
        gap = on_data.mean() - on_negatives.mean()
        loss = gap + self.energy_penalty * on_negatives.square().mean()
        if self.penalise_data:
            loss = loss + self.energy_penalty * on_data.square().mean()
        if self.encoder_l2:
            loss = loss + self.encoder_l2 * _sum_of_squares(model.encoder)
        if self.latent_penalty:
            loss = loss + self.latent_penalty * z.square().mean()
        loss = loss + gap.detach() / model.temperature
        return {
            "loss": loss,
            "error_data": on_data.detach().mean(),
            "error_negatives": on_negatives.detach().mean(),
            "gap": gap.detach(),
            "temperature": model.temperature.detach(),
            "negatives": negatives.x,
            "negatives_start": negatives.start,
        }
