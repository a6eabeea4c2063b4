"""Autoencoders: the base class, the autoencoder as an energy-based model, and the variational autoencoder.

Convention: reconstruction_error is the mean squared error per dimension, so an
energy of reconstruction_error / temperature does not grow with the image size.

Imports: checks, models.energy, samplers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models.energy import Density, EnergyModel
from oodlab.samplers import Normal, Sphere


class EncoderDecoder(nn.Module):
    """The base class of all autoencoders: an encoder, a decoder, and the error of the reconstruction.

    Subclasses define a density, if there is one.

    Args:
        encoder: (B, *event) -> (B, latent, ...).
        decoder: (B, latent, ...) -> (B, *event).
        latent: Number of latent dimensions (channels of a code); None leaves the number to the networks.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, latent: int | None = None) -> None:
        super().__init__()
        who = type(self).__name__
        for name, network in {"encoder": encoder, "decoder": decoder}.items():
            checks.function(who, name, network, instead="a network")
        if latent is not None:
            checks.whole(who, "latent", latent, least=1)
        self.encoder, self.decoder, self.latent = encoder, decoder, latent

    def encode(self, x: Tensor) -> Tensor:
        """Return latent codes, (B, *event) -> (B, latent, ...)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Return reconstructions, (B, latent, ...) -> (B, *event)."""
        return self.decoder(z)

    def reconstruction_error(self, x: Tensor) -> Tensor:
        """Return the squared error per dimension, (B, *event) -> (B,)."""
        return error_per_dimension(x, self.decode(self.encode(x)))


class Autoencoder(EncoderDecoder, EnergyModel):
    """An autoencoder as an energy-based model: p(x) proportional to exp(-reconstruction_error(x) / temperature).

    Trained by maximum likelihood it is a normalized autoencoder (NAE); trained to
    minimise the reconstruction error it is an ordinary autoencoder.

    Args:
        encoder: (B, *event) -> (B, latent, ...).
        decoder: (B, latent, ...) -> (B, *event).
        latent: Number of latent dimensions.
        sphere: Project latent codes onto the unit sphere over dimension 1.
        temperature: Start value of the trainable temperature, in units of the error; > 0.

    Source: Yoon et al. (2021), arXiv:2105.05735, equations 3-5 with the mean over
    dimensions of its appendix D.3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        latent: int,
        sphere: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(encoder, decoder, latent=latent)
        checks.number("Autoencoder", "temperature", temperature, above=0)
        self.sphere = sphere
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @property
    def temperature(self) -> Tensor:
        """The temperature T > 0, a scalar."""
        return self.log_temperature.exp()

    @property
    def latent_start(self) -> Normal:
        """The distribution of fresh initial states of latent chains: N(0, I), or uniform on the unit sphere."""
        return Normal(sphere=self.sphere)

    def encode(self, x: Tensor) -> Tensor:
        """Return latent codes, on the unit sphere if `sphere` is set, (B, *event) -> (B, latent, ...)."""
        z = super().encode(x)
        return Sphere()(z) if self.sphere else z

    def energy(self, x: Tensor) -> Tensor:
        """Return reconstruction_error(x) / temperature, nats, (B,)."""
        return self.reconstruction_error(x) / self.temperature


class VariationalAutoencoder(EncoderDecoder, Density):
    """A variational autoencoder with a Gaussian latent and a Gaussian decoder of one learned standard deviation.

    Args:
        encoder: (B, *event) -> (B, 2 * latent, ...): posterior mean and log-variance.
        decoder: (B, latent, ...) -> (B, *event): mean of x given z.
        latent: Number of latent dimensions.
        samples: Number of importance samples in log_prob.
        code_shape: Shape of one code; None means (latent,); convolutional networks have (latent, 1, 1).

    log_prob is the log of an importance-sampled marginal: a lower bound in
    expectation that tightens with `samples`.  The latent noise is the same for all
    inputs and has a fixed seed, so log_prob is a function of x alone.

    Source: Kingma & Welling (2014); importance sampling as in Burda et al. (2016).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        latent: int,
        samples: int = 500,
        code_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(encoder, decoder, latent=latent)
        checks.whole("VariationalAutoencoder", "samples", samples, least=1)
        self.code_shape = (latent,) if code_shape is None else tuple(code_shape)
        if math.prod(self.code_shape) != latent:
            raise ValueError(
                f"VariationalAutoencoder expects a code_shape whose sizes multiply to latent = {latent}, got "
                f"{self.code_shape}: one code has that shape; pass ({latent}, 1, 1) for convolutional networks, else None."
            )
        self.samples = samples
        self.log_std = nn.Parameter(torch.zeros(()))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x), each (B, *code_shape)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """Return posterior means, (B, *event) -> (B, *code_shape)."""
        return self.posterior(x)[0]

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z), nats, (B, *event) and (B, *code_shape) -> (B,)."""
        return _log_normal(x, self.decoder(z), self.log_std)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log of the mean over `samples` draws z ~ q(z | x) of p(x, z) / q(z | x), nats, (B,)."""
        mean, log_variance = self.posterior(x)
        log_std = log_variance / 2
        generator = torch.Generator(x.device).manual_seed(0)
        shape = (self.samples, 1, *self.code_shape)
        draws = torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)
        total = torch.full((len(x),), -math.inf, dtype=x.dtype, device=x.device)
        for xi in draws:  # one draw at a time: 500 draws for each point of a grid would not fit into memory
            z = mean + log_std.exp() * xi
            log_prior = _log_normal(z, torch.zeros_like(z), torch.zeros_like(self.log_std))
            log_weight = self.log_likelihood(x, z) + log_prior - _log_normal(z, mean, log_std)
            total = torch.logaddexp(total, log_weight)
        return total - math.log(self.samples)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples, (n, *event): z ~ N(0, I), then x given z."""
        device = self.log_std.device
        dtype = self.log_std.dtype
        z = torch.randn(n, *self.code_shape, generator=generator, dtype=dtype, device=device)
        mean = self.decoder(z)
        return mean + self.log_std.exp() * torch.randn(mean.shape, generator=generator, dtype=dtype, device=device)


def error_per_dimension(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the mean squared difference over the event, (B, *event) -> (B,)."""
    return (x - reconstruction).square().flatten(1).mean(dim=1)


def _log_normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density of N(mean, exp(log_std)^2 I) at x, summed over the event, (B,)."""
    scaled = (x - mean) * (-log_std).exp()
    return (-0.5 * scaled.square() - log_std - 0.5 * math.log(2 * math.pi)).flatten(1).sum(dim=1)
