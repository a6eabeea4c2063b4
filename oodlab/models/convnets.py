"""Small convolutional networks without normalisation.

Imports: torch only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    """3x3 convolutions, each halving the side, global average pool, linear head.

    Args:
        channels: Of the images.
        outputs: Numbers per image: classes, or 1 for a plain energy.
        widths: Channels of each convolution.
        activation: Called without arguments. Score matching needs one with a second
            derivative, e.g. nn.SiLU or nn.Softplus.
    """

    def __init__(
        self, *, channels: int, outputs: int, widths: Sequence[int], activation: Callable[[], nn.Module] = nn.SiLU
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([channels, *widths]):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), activation()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], outputs)

    def features(self, x: Tensor) -> Tensor:
        """Return the embedding, (B, channels, H, W) -> (B, widths[-1]), in the head's precision."""
        return self.layers(x).to(self.head.weight.dtype).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (B, channels, H, W) -> (B, outputs)."""
        features = self.features(x)
        with torch.autocast(x.device.type, enabled=False):  # near each other, energies share a bfloat16 value
            return self.head(features)
