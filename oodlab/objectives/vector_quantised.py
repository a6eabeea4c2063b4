"""How an autoencoder with a codebook is trained, though the choice of an entry has no gradient.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from oodlab import checks
from oodlab.models import VectorQuantisedAutoencoder
from oodlab.models.autoencoders import error_per_dimension
from oodlab.objectives.autoencoding import Parts


@dataclass(frozen=True)
class VectorQuantisation:
    """loss = error + mean (sg[z] - e)^2 + commitment * mean (z - sg[e])^2.

    z is what the encoder says, e the nearest entry of the codebook, sg stops the
    gradient. The error's gradient passes straight through from e to z: so it moves
    encoder and decoder, the second term the codebook, the third the encoder. All
    three are means over dimensions, of x or of z.

    Args:
        commitment: beta; >= 0.

    Source: van den Oord et al. (2017), arXiv:1711.00937, equation 3, which has sums, and beta = 0.25.
    """

    commitment: float = 0.25

    def __post_init__(self) -> None:
        checks.number("VectorQuantisation", "commitment", self.commitment, least=0)

    def __call__(self, model: VectorQuantisedAutoencoder, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the loss, the error, and the mean squared distance to the codebook."""
        z = model.encoder(x)
        entry = model.nearest(z)
        straight_through = entry.detach() + (z - z.detach())
        error = error_per_dimension(x, model.decode(straight_through)).mean()
        of_codebook = (z.detach() - entry).square().mean()
        of_encoder = (z - entry.detach()).square().mean()
        loss = error + of_codebook + self.commitment * of_encoder
        return {"loss": loss, "error": error.detach(), "distance": of_codebook.detach()}
