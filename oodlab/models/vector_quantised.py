"""A vector-quantised autoencoder, whose codes are entries of a learned codebook.

Imports: checks, models.autoencoders, models.energy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models.autoencoders import EncoderDecoder
from oodlab.models.energy import EnergyModel


class VectorQuantisedAutoencoder(EncoderDecoder, EnergyModel):
    """An autoencoder that replaces each vector of the encoder's output by the nearest entry of a learned codebook.

    The energy is the mean squared error per dimension. Its gradient with respect to x is exact: codes
    are constant except where the nearest entry changes, so nothing flows through the encoder.

    Args:
        encoder: (B, *event) -> (B, latent, ...), one vector for every position.
        decoder: (B, latent, ...) -> (B, *event).
        latent: Number of dimensions of one entry.
        codes: Number of entries of the codebook, K.

    Source: van den Oord et al. (2017), arXiv:1711.00937, which has K = 512; the entries are
    initialised uniformly in [-1 / K, 1 / K].
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, latent: int, codes: int = 512) -> None:
        super().__init__(encoder, decoder, latent=latent)
        checks.whole("VectorQuantisedAutoencoder", "codes", codes, least=1)
        self.codebook = nn.Parameter(torch.empty(codes, latent).uniform_(-1 / codes, 1 / codes))

    def nearest(self, z: Tensor) -> Tensor:
        """Return the entry nearest to each vector, (B, latent, ...) -> same shape, with gradients for the codebook alone."""
        vectors = z.detach().movedim(1, -1)
        flat = vectors.flatten(0, -2)
        distances = torch.cdist(flat, self.codebook.detach(), compute_mode="donot_use_mm_for_euclid_dist")
        entries = self.codebook.index_select(0, distances.argmin(dim=1))
        return entries.reshape(vectors.shape).movedim(-1, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes, entries of the codebook, (B, *event) -> (B, latent, ...)."""
        return self.nearest(super().encode(x))

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy reconstruction_error(x), (B, *event) -> (B,)."""
        return self.reconstruction_error(x)
