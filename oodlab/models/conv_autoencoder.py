"""Convolutional halves of an autoencoder of images, without normalisation layers.

Imports: torch only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Layers(nn.Sequential):
    """Layers whose weights lie channels-last and whose result has their own precision."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(self[-1].weight.dtype)


class Conv28Encoder(_Layers):
    """Codes of 28 x 28 images, (B, channels, 28, 28) -> (B, latent, 1, 1).

    Sides 28, 26, 24, pooled 12, 10, 8, pooled 4, 1: convolutions without padding.

    Args:
        latent: Channels of the code.
        channels: Of the image.
        width: Channels of the first convolution; the others have 2, 2, 4 and 32 times as many.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10, whose printed padding of 1 does not
    fit its own shapes; width 32.
    """

    def __init__(self, latent: int, *, channels: int = 1, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4 * width, 32 * width, 4),
            nn.ReLU(),
            nn.Conv2d(32 * width, latent, 1),
        )


class Conv28Decoder(_Layers):
    """Images in (0, 1) from codes, (B, latent, 1, 1) -> (B, channels, 28, 28).

    Sides 1, 4, doubled 8, 10, 12, doubled 24, 26, 28.

    Args:
        latent: Channels of the code.
        channels: Of the image.
        width: As of the encoder.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10, whose printed last kernel of 4 gives 29 pixels.
    """

    def __init__(self, latent: int, *, channels: int = 1, width: int = 32) -> None:
        super().__init__(
            nn.ConvTranspose2d(latent, 4 * width, 4),
            nn.ReLU(),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.ConvTranspose2d(4 * width, 2 * width, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, 2 * width, 3),
            nn.ReLU(),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.ConvTranspose2d(2 * width, width, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 3),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return images."""
        return super().forward(z).sigmoid()
