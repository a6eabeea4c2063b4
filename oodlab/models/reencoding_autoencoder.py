"""An autoencoder that encodes its reconstruction once more, with a discriminator beside it.

Imports: checks, models.autoencoders.
"""

from __future__ import annotations

from torch import Tensor, nn

from oodlab import checks
from oodlab.models.autoencoders import EncoderDecoder


class ReencodingAutoencoder(EncoderDecoder):
    """Encoder, decoder, second encoder: inputs unlike the training data come back with another code.

    Args:
        encoder: (B, *event) -> (B, latent, ...).
        decoder: (B, latent, ...) -> (B, *event).
        reencoder: Encoder of the reconstruction, built like the first.
        discriminator: (B, *event) -> (B, features, ...): features that tell data from reconstructions.
        features: Their number, flattened.

    Source: Akcay et al. (2018), GANomaly, arXiv:1805.06725; here on any networks, so without
    batch normalisation.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, reencoder: nn.Module, discriminator: nn.Module, *, features: int
    ) -> None:
        super().__init__(encoder, decoder)
        for name, network in {"reencoder": reencoder, "discriminator": discriminator}.items():
            checks.function("ReencodingAutoencoder", name, network, instead="a network")
        checks.whole("ReencodingAutoencoder", "features", features, least=1)
        self.reencoder = reencoder
        self.discriminator = nn.ModuleDict(
            {"features": nn.Sequential(discriminator, nn.Flatten()), "head": nn.Linear(features, 1)}
        )

    def reencoding_error(self, x: Tensor) -> Tensor:
        """Return the sum of absolute differences between both codes, (B, *event) -> (B,)."""
        z = self.encode(x)
        return (z - self.reencoder(self.decode(z))).abs().flatten(1).sum(dim=1)
