"""Batches of named data sets, as recipes hold them.

Imports: checks, data, training.batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from oodlab import checks, data
from oodlab.data import Stored
from oodlab.training.batches import Shuffled, Transformed


@dataclass(frozen=True)
class StoredBatches:
    """Shuffled batches of stored items, each changed anew on its way to the model.

    Attributes:
        stored: Items.
        batch_size: Items per step.
        seed: Seed of the order of every epoch.
        transform: transform(stored values of a batch, generator) -> the model's input.
        shape: (C, H, W) that images are brought to; None keeps stored ones.
    """

    stored: Stored
    batch_size: int
    seed: int
    transform: Callable[[Tensor, torch.Generator], Tensor]
    shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        checks.whole("StoredBatches", "batch_size", self.batch_size, least=1)
        checks.function("StoredBatches", "transform", self.transform, instead="(stored batch, generator) -> input")

    def begin(self) -> Transformed:
        """Load the items; labels are left out where the set has none."""
        split = self.stored.load()
        x = split.x if self.shape is None else data.as_shape(split.x, self.shape)
        labels = split.y if bool((split.y >= 0).all()) else None
        return Transformed(Shuffled(x, labels, self.batch_size, self.seed), self.transform)
