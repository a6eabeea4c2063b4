"""An autoencoder whose codes come from a list.

Imports: checks, models.autoencoders, models.energy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models.autoencoders import EncoderDecoder
from oodlab.models.energy import EnergyModel


class VectorQuantisedAutoencoder(EncoderDecoder, EnergyModel):
    """Decodes the entry of a codebook that is nearest to what the encoder says, place by place.

    The energy is the squared error per dimension. Its gradient by x is that of the
    function it is: constant codes but where the nearest entry changes.

    Args:
        encoder: (B, *event) -> (B, latent, ...), one vector for every place.
        decoder: (B, latent, ...) -> (B, *event).
        latent: Numbers in one entry.
        codes: Number of entries, K.

    Source: van den Oord et al. (2017), arXiv:1711.00937, which has K = 512; the entries begin
    uniform in [-1 / K, 1 / K].
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, latent: int, codes: int = 512) -> None:
        super().__init__(encoder, decoder, latent=latent)
        checks.whole("VectorQuantisedAutoencoder", "codes", codes, least=1)
        self.codebook = nn.Parameter(torch.empty(codes, latent).uniform_(-1 / codes, 1 / codes))

    def nearest(self, z: Tensor) -> Tensor:
        """Return the entry nearest to each vector, (B, latent, ...) -> same shape; its gradient goes to the codebook alone."""
        vectors = z.detach().movedim(1, -1)
        flat = vectors.flatten(0, -2)
        distances = torch.cdist(flat, self.codebook.detach(), compute_mode="donot_use_mm_for_euclid_dist")
        entries = self.codebook.index_select(0, distances.argmin(dim=1))
        return entries.reshape(vectors.shape).movedim(-1, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Return entries of the codebook, (B, *event) -> (B, latent, ...)."""
        return self.nearest(super().encode(x))

    def energy(self, x: Tensor) -> Tensor:
        """Return reconstruction_error(x), (B,)."""
        return self.reconstruction_error(x)
