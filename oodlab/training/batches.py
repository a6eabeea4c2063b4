"""Where batches come from: pure functions of the step and the run's generator.

That is what lets an interrupted run continue with the same bits.

Imports: nothing local.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor | None]


class Batches(Protocol):
    """Where batches come from: a pure function of the step and the run's generator."""

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return (x, y or None) for this step."""


@dataclass(frozen=True)
class Fresh:
    """A new sample at every step, for data that can be drawn at will.

    Args:
        draw: (n, generator) -> (n, *event).
        batch_size: Number of samples per step.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    batch_size: int

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return a new sample and no labels."""
        return self.draw(self.batch_size, generator), None


class Shuffled:
    """Batches of a data set, reshuffled every epoch; an incomplete last batch is left out.

    Args:
        x: (N, *event), as the model wants it.
        y: (N,) int64 or None.
        batch_size: At most N.
        seed: Decides the order of every epoch together with the epoch's number.
    """

    def __init__(self, x: Tensor, y: Tensor | None, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= len(x):
            raise ValueError(f"Shuffled expects 1 <= batch_size <= {len(x)} images, got {batch_size}.")
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed
        self.steps_per_epoch = len(x) // batch_size
        self._order: tuple[int, Tensor] | None = None

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return the batch of this step; the generator is not used."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            own = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self.x), generator=own).to(self.x.device))
        chosen = self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
        return self.x[chosen], None if self.y is None else self.y[chosen]


@dataclass(frozen=True)
class Transformed:
    """Batches of another source, each changed anew: dequantised, noised, augmented.

    Args:
        batches: The source.
        transform: (x, generator) -> x, on the CPU.
    """

    batches: Batches
    transform: Callable[[Tensor, torch.Generator], Tensor]

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass through the source."""
        return self.batches.steps_per_epoch

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return the source's batch of this step, changed."""
        x, y = self.batches(step, generator)
        return self.transform(x, generator), y
