"""Networks of images, as the studies of `nae` share them: each is its size, and called it builds the network.

Imports: models.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

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

HALVES = {28: (Conv28Encoder, Conv28Decoder), 32: (Conv32Encoder, Conv32Decoder)}  # table 10
RESIDUAL = (Conv32BigEncoder, Conv32BigDecoder)  # released, cifar10


@dataclass(frozen=True)
class Halves:
    """Encoder and decoder of images.

    Attributes:
        latent: Numbers in a code.
        side, channels: Size of the images; the paper has networks for 28 and 32 pixels a side, others get small ones.
        width: Channels of the first convolution.
        residual: Whether images of 32 pixels a side get the residual networks of the released code.
    """

    latent: int
    side: int
    channels: int
    width: int
    residual: bool = False

    def encoder(self, outputs: int) -> nn.Module:
        """Build an encoder with so many outputs."""
        given = {"channels": self.channels, "width": self.width}
        if self.residual:
            return RESIDUAL[0](outputs, **given)
        if self.side in HALVES:
            return HALVES[self.side][0](outputs, **given)
        return SmallEncoder(outputs, side=self.side, **given)

    def decoder(self) -> nn.Module:
        """Build the decoder."""
        given = {"channels": self.channels, "width": self.width}
        if self.residual:
            return RESIDUAL[1](self.latent, **given)
        if self.side in HALVES:
            return HALVES[self.side][1](self.latent, **given)
        return SmallDecoder(self.latent, side=self.side, **given)


@dataclass(frozen=True)
class ImageAutoencoder:
    """Autoencoder at temperature 1, its codes on the unit sphere or in R^D."""

    halves: Halves
    sphere: bool = True

    def __call__(self) -> Autoencoder:
        """Build it with fresh weights."""
        latent = self.halves.latent
        return Autoencoder(self.halves.encoder(latent), self.halves.decoder(), latent=latent, sphere=self.sphere)


@dataclass(frozen=True)
class ImageVAE:
    """Variational autoencoder; `samples` are the importance samples of its likelihood."""

    halves: Halves
    samples: int

    def __call__(self) -> VariationalAutoencoder:
        """Build it with fresh weights."""
        latent = self.halves.latent
        pair = self.halves.encoder(2 * latent), self.halves.decoder()
        return VariationalAutoencoder(*pair, latent=latent, samples=self.samples, code_shape=(latent, 1, 1))


@dataclass(frozen=True)
class ImageCodebook:
    """Autoencoder whose one code per image is an entry of a codebook."""

    halves: Halves
    codes: int

    def __call__(self) -> VectorQuantisedAutoencoder:
        """Build it with fresh weights."""
        latent = self.halves.latent
        pair = self.halves.encoder(latent), self.halves.decoder()
        return VectorQuantisedAutoencoder(*pair, latent=latent, codes=self.codes)


@dataclass(frozen=True)
class ImageMixture:
    """Autoencoder with a mixture over codes; `hidden` and `components` are of the network that assigns them."""

    halves: Halves
    hidden: int
    components: int

    def __call__(self) -> MixtureAutoencoder:
        """Build it with fresh weights."""
        latent = self.halves.latent
        assign = MLP(latent + 2, [self.hidden], self.components, nn.Tanh)
        return MixtureAutoencoder(self.halves.encoder(latent), self.halves.decoder(), assign)


@dataclass(frozen=True)
class ImageReencoder:
    """Autoencoder that encodes its reconstruction once more, with a discriminator of so many features."""

    halves: Halves
    features: int

    def __call__(self) -> ReencodingAutoencoder:
        """Build it with fresh weights."""
        latent = self.halves.latent
        encoder, decoder = self.halves.encoder(latent), self.halves.decoder()
        again, discriminator = self.halves.encoder(latent), self.halves.encoder(self.features)
        return ReencodingAutoencoder(encoder, decoder, again, discriminator, features=self.features)


@dataclass(frozen=True)
class ImageEnergy:
    """Energy from the encoder with one output, every layer of spectral norm 1."""

    halves: Halves

    def __call__(self) -> JointEnergy:
        """Build it with fresh weights."""
        encoder = self.halves.encoder(1)
        for layer in encoder.modules():
            if isinstance(layer, nn.Conv2d):
                spectral_norm(layer)
        return JointEnergy(nn.Sequential(encoder, nn.Flatten()))
