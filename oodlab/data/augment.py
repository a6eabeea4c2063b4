"""Augmentation of image batches: one random affine map per image, applied with a single interpolation.

Imports: oodlab.checks, oodlab.data.transforms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from oodlab import checks
from oodlab.data.transforms import scale_signed


@dataclass(frozen=True)
class Augment:
    """A transform that rotates, mirrors and shifts each image of a batch at random, then adds noise.

    Attributes:
        degrees: Largest angle of rotation; angles are drawn from U(-degrees, degrees).
        flip: Probability of a horizontal mirror image.
        shift: Largest shift; each axis is shifted by a whole number of pixels drawn from -shift..shift.
        noise_std: Standard deviation of the noise added, in units of x.

    Pixels that enter at a border come from the image reflected about its outermost pixels,
    so that a shift equals reflection padding by `shift` pixels and a random crop.
    """

    degrees: float = 0.0
    flip: float = 0.0
    shift: int = 0
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        checks.number("Augment", "degrees", self.degrees, least=0)
        checks.number("Augment", "flip", self.flip, least=0, most=1, why="it is a probability")
        checks.whole("Augment", "shift", self.shift, least=0)
        checks.number("Augment", "noise_std", self.noise_std, least=0)

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return augmented images, (B, C, H, W) floating point, same dtype and device."""
        n = len(x)

        def uniform(count: int) -> Tensor:
            return torch.rand(n, count, generator=generator, dtype=x.dtype, device=x.device)

        if self.degrees or self.flip or self.shift:
            angle = math.radians(self.degrees) * (2 * uniform(1)[:, 0] - 1)
            mirrored = uniform(1)[:, 0] < self.flip
            moves = ((2 * self.shift + 1) * uniform(2)).floor() - self.shift
            x = moved(x, angle, mirrored, moves)
        if self.noise_std:
            xi = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            x = x + self.noise_std * xi
        return x


def augmented_signed(x: Tensor, generator: torch.Generator | None = None, *, augment: Augment) -> Tensor:
    """Return a batch of stored uint8 images scaled to [-1, 1], then augmented, (B, C, H, W) float32."""
    return augment(scale_signed(x), generator)


def moved(x: Tensor, angle: Tensor, mirrored: Tensor, moves: Tensor) -> Tensor:
    """Rotate each image about its centre, mirror it, then shift it, with one bilinear interpolation for all three.

    Args:
        x: Images, (B, C, H, W).
        angle: Counter-clockwise rotation as seen, radians, (B,).
        mirrored: Whether left and right are exchanged, (B,) bool.
        moves: Pixels by which the content is shifted (right, down), (B, 2).

    Returns:
        Images like x; beyond the border the image is reflected about its outermost pixels.
    """
    height, width = x.shape[2:]
    cos, sin = angle.cos(), angle.sin()
    sign = torch.where(mirrored, -1.0, 1.0).to(x.dtype)
    # Where to read the value of the output's pixel p: R (S (p - moves)), pixels from the centre.
    read = torch.stack([torch.stack([cos * sign, -sin], 1), torch.stack([sin * sign, cos], 1)], 1)
    offset = -(read @ moves[:, :, None])
    half = x.new_tensor([(width - 1) / 2, (height - 1) / 2])  # align_corners: +-1 are the outermost pixels' centres
    theta = torch.cat([read * half / half[:, None], offset / half[:, None]], dim=2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
