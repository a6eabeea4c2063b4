"""An autoencoder with a second encoder of its reconstruction, and with a discriminator (GANomaly).

Imports: checks, models.autoencoders.
"""

from __future__ import annotations

from torch import Tensor, nn

from oodlab import checks
from oodlab.models.autoencoders import EncoderDecoder


class ReencodingAutoencoder(EncoderDecoder):
    """An autoencoder whose reconstruction is encoded again: for inputs unlike the training data the two codes differ.

    Args:
        encoder: (B, *event) -> (B, latent, ...).
        decoder: (B, latent, ...) -> (B, *event).
        reencoder: Encoder of the reconstruction, built like `encoder`.
        discriminator: (B, *event) -> (B, features, ...): features that tell data from reconstructions.
        features: Number of the discriminator's features, flattened.

    Source: Akcay et al. (2018), GANomaly, arXiv:1805.06725; here with any networks, so without
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
        """Return the sum of absolute differences between the codes of x and of its reconstruction, (B, *event) -> (B,)."""
        z = self.encode(x)
        return (z - self.reencoder(self.decode(z))).abs().flatten(1).sum(dim=1)
