"""Flows of images and their scores, as the studies of `mass` share them.

Imports: data, detectors, models, objectives, study, training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodlab import data
from oodlab.detectors import ApproximateMass, BatchMass, BitsPerDim, Detector, GroupMean, LogDensity
from oodlab.models import Flow, image_realnvp
from oodlab.study import Inputs, Models

GROUP = 32  # images that share one score in the released scripts
MASS, LOG_P, BITS = "mass", "log p", "bits per dimension"
GROUPED_MASS, BATCH_MASS = f"mass of {GROUP} images", f"released mass of {GROUP} images"


@dataclass(frozen=True)
class ImageFlow:
    """A RealNVP of images: called, it builds the flow; the fields are the arguments of models.image_realnvp."""

    shape: tuple[int, int, int]
    scales: int
    blocks: int
    width: int
    couplings: int = 3
    activation: Callable[[], nn.Module] = nn.ReLU
    norm: Callable[[int], nn.Module] = nn.Identity

    def __call__(self) -> Flow:
        """Build the flow with fresh weights."""
        return image_realnvp(
            self.shape,
            scales=self.scales,
            blocks=self.blocks,
            width=self.width,
            couplings=self.couplings,
            activation=self.activation,
            norm=self.norm,
        )


def noisy_pixels(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return w in [0, 1) with fresh uniform noise within each pixel's bin, for training."""
    return data.dequantize(x, generator)


def bin_centres(inputs: Inputs, models: Models) -> Callable[[Tensor], Tensor]:
    """Prepare images for scores: w at the bins' centres, the same at every call."""
    return data.bin_center


def flow_scores(models: Models) -> Mapping[str, Detector]:
    """Return the scores of a flow per image, the mass also of groups of images."""
    flow = models["flow"]
    mass = ApproximateMass(flow)
    return {MASS: mass, LOG_P: LogDensity(flow), BITS: BitsPerDim(flow), GROUPED_MASS: GroupMean(mass, GROUP)}


def released_scores(models: Models) -> Mapping[str, Detector]:
    """Return the scores of a flow per image, and the batch's mass as the released script computes it."""
    return {**flow_scores(models), BATCH_MASS: BatchMass(models["flow"], group=GROUP)}
