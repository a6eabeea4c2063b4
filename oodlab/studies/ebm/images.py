"""Energies of images and the way there from stored ones, as the studies of `ebm` share them.

Imports: data, models, study.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodlab import data
from oodlab.data import Augment
from oodlab.models import JointEnergy, WideResNet
from oodlab.models.wide_resnet import LeakyReLU
from oodlab.study import Inputs, Models


@dataclass(frozen=True)
class ImageEnergy:
    """An energy of images from a wide residual network: called, it builds one; the fields are WideResNet's arguments."""

    channels: int
    outputs: int
    depth: int = 10  # released: WRN-10-2
    widen: int = 2  # released
    width: int = 16  # arXiv:1605.07146
    bottleneck: float | None = None
    activation: Callable[[], nn.Module] = LeakyReLU  # released

    def __call__(self) -> JointEnergy:
        """Build the energy with fresh weights."""
        return JointEnergy(
            WideResNet(
                channels=self.channels,
                outputs=self.outputs,
                depth=self.depth,
                widen=self.widen,
                width=self.width,
                bottleneck=self.bottleneck,
                activation=self.activation,
            )
        )


@dataclass(frozen=True)
class SignedImages:
    """The way from stored images to training's: called with a batch, it scales to [-1, 1], then augments.

    Attributes:
        augment: What is done to each image at random.
    """

    augment: Augment

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the augmented images, (B, C, H, W)."""
        return data.augmented_signed(x, generator, augment=self.augment)


def signed(inputs: Inputs, models: Models) -> Callable[[Tensor], Tensor]:
    """Prepare stored images for scores: in [-1, 1], as they are."""
    return data.scale_signed
