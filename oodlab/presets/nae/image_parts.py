"""What trainings on images are composed of: networks, objectives and what is measured on the way.

Imports: data, models, objectives, replay, samplers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from oodlab import data
from oodlab.models import (
    MLP,
    Autoencoder,
    Conv28Decoder,
    Conv28Encoder,
    Conv32BigDecoder,
    Conv32BigEncoder,
    Conv32Decoder,
    Conv32Encoder,
    JointEnergy,
    MixtureAutoencoder,
    ReencodingAutoencoder,
    SmallDecoder,
    SmallEncoder,
    VariationalAutoencoder,
    VectorQuantisedAutoencoder,
)
from oodlab.objectives import (
    AdversarialReencoding,
    ContrastiveDivergence,
    FromReplay,
    MixtureLikelihood,
    VectorQuantisation,
    WassersteinMMD,
)
from oodlab.replay import ReplayBuffer, Uniform
from oodlab.samplers import LangevinChain

_HALVES = {28: (Conv28Encoder, Conv28Decoder), 32: (Conv32Encoder, Conv32Decoder)}
_RESIDUAL = (Conv32BigEncoder, Conv32BigDecoder)


def halves(
    latent: int, *, side: int, channels: int, width: int, residual: bool, outputs: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Build encoder and decoder.

    Args:
        latent: Numbers in a code.
        side, channels: Of the images; the paper has networks for 28 and 32 pixels a side, others get small ones.
        width: Channels of the first convolution.
        residual: Whether 32 x 32 images get the residual networks of the released code.
        outputs: Of the encoder, per number of a code.
    """
    small = partial(SmallEncoder, side=side), partial(SmallDecoder, side=side)
    encoder, decoder = _RESIDUAL if residual else _HALVES.get(side, small)
    return encoder(outputs * latent, channels=channels, width=width), decoder(latent, channels=channels, width=width)


def image_autoencoder(*, latent: int, sphere: bool, **size: int) -> Autoencoder:
    """Build an autoencoder of images at temperature 1."""
    return Autoencoder(*halves(latent, **size), latent=latent, sphere=sphere)


def image_vae(*, latent: int, samples: int, **size: int) -> VariationalAutoencoder:
    """Build a variational autoencoder of images."""
    pair = halves(latent, **size, outputs=2)
    return VariationalAutoencoder(*pair, latent=latent, samples=samples, code_shape=(latent, 1, 1))


def image_codebook(*, latent: int, codes: int, **size: int) -> VectorQuantisedAutoencoder:
    """Build an autoencoder of images whose one code is an entry of a codebook."""
    return VectorQuantisedAutoencoder(*halves(latent, **size), latent=latent, codes=codes)


def image_mixture(*, latent: int, hidden: int, components: int, **size: int) -> MixtureAutoencoder:
    """Build an autoencoder of images with a mixture over codes."""
    return MixtureAutoencoder(*halves(latent, **size), MLP(latent + 2, [hidden], components, nn.Tanh))


def image_reencoder(*, latent: int, features: int, **size: int) -> ReencodingAutoencoder:
    """Build an autoencoder of images that encodes its reconstruction once more, with a discriminator."""
    encoder, decoder = halves(latent, **size)
    again, discriminator = halves(latent, **size)[0], halves(features, **size)[0]
    return ReencodingAutoencoder(encoder, decoder, again, discriminator, features=features)


def image_energy(**size: int) -> JointEnergy:
    """Build an energy of images from the encoder with one output, every layer of spectral norm 1."""
    encoder, _ = halves(1, **size)
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            spectral_norm(layer)
    return JointEnergy(nn.Sequential(encoder, nn.Flatten()))


def wasserstein(model: nn.Module, *, coefficient: float) -> WassersteinMMD:
    """Train by reconstruction and the discrepancy between codes and their prior."""
    return WassersteinMMD(coefficient)


def quantised(model: nn.Module, *, commitment: float) -> VectorQuantisation:
    """Train an autoencoder with a codebook."""
    return VectorQuantisation(commitment)


def mixture(model: nn.Module, *, energy_weight: float, covariance_weight: float) -> MixtureLikelihood:
    """Train by reconstruction and the likelihood of a mixture over codes."""
    return MixtureLikelihood(energy_weight, covariance_weight)


def reencoding(model: nn.Module, **weights: float) -> AdversarialReencoding:
    """Train against a discriminator of data and reconstructions."""
    return AdversarialReencoding(**weights)


def energy_by_persistence(
    model: nn.Module, *, chain: LangevinChain, shape: tuple[int, ...], capacity: int, restart: float, l2: float
) -> ContrastiveDivergence:
    """Train an energy by persistent contrastive divergence from uniform noise."""
    replay = ReplayBuffer(capacity, shape, start=Uniform(0.0, 1.0), restart=restart, fifo=False)
    return ContrastiveDivergence(FromReplay(chain, replay), l2=l2)


def unit_pixels(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Scale stored images to [0, 1]; no noise is drawn."""
    return data.scale_unit(x)


@dataclass(frozen=True)
class ValidationErrors:
    """Measure reconstruction errors of validation images, in [0, 1].

    Attributes:
        sets: Stored images by name, uint8 (N, C, H, W).
    """

    sets: Mapping[str, Tensor]

    def __call__(self, model: Autoencoder) -> dict[str, Tensor]:
        """Return squared errors per pixel by set, (N,) each."""
        place = next(model.parameters()).device
        with torch.no_grad():
            return {
                name: torch.cat([model.reconstruction_error(unit_pixels(part).to(place)) for part in x.split(500)])
                for name, x in self.sets.items()
            }


def validation_errors(*, name: str, held_out: int, channels: int, side: int, n: int) -> ValidationErrors:
    """Build the measurement on the validation part's known images and those of the class held out, n of each at most."""
    shape = (channels, side, side)
    parts = {"in": {"without": held_out}, "out": {"only": held_out}}
    loaded = {key: data.load(name, "val", **which, download=False).x[:n] for key, which in parts.items()}
    return ValidationErrors({key: data.as_shape(x, shape) for key, x in loaded.items()})
