"""Sources of batches: pure functions of the step and the run's generator.

That is what lets an interrupted run continue with the same bits. A batch is named
tensors: "x", "y" where there are labels, and others that an objective takes by name.

Imports: checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from oodlab import checks

Batch = dict[str, Tensor]


class Batches(Protocol):
    """A source of batches: a pure function of the step and the run's generator."""

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return this step's tensors by name, "x" among them."""


@dataclass(frozen=True)
class Fresh:
    """A new sample at every step, for data that can be drawn at will.

    Args:
        draw: (n, generator) -> (n, *event).
        batch_size: Number of samples per step.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    batch_size: int

    def __post_init__(self) -> None:
        checks.function(
            "Fresh", "draw", self.draw, instead="(n, generator) -> (n, *event), such as data.eight_gaussians"
        )
        checks.whole("Fresh", "batch_size", self.batch_size, least=1)

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return a new sample, without labels."""
        return {"x": self.draw(self.batch_size, generator)}


class Shuffled:
    """Batches of a data set, reshuffled every epoch; an incomplete last batch is left out.

    Args:
        x: (N, *event), as the model wants it, or stored values that Transformed scales.
        y: (N,) int64 or None.
        batch_size: At most N.
        seed: Decides the order of every epoch together with the epoch's number.

    Raises:
        ValueError: x is no tensor with a row per item, y does not fit it, or there are fewer items than one batch.
        FloatingPointError: x has NaN or infinite entries: in how many items, and the first of them.
    """

    def __init__(self, x: Tensor, y: Tensor | None, batch_size: int, seed: int) -> None:
        if not torch.is_tensor(x) or x.ndim < 2:
            kind = f"a tensor of shape {tuple(x.shape)}" if torch.is_tensor(x) else type(x).__name__
            raise ValueError(
                f"Shuffled expects x as a tensor (N, *event), got {kind}: pass split.x, scaled for the model."
            )
        if y is not None and not (torch.is_tensor(y) and y.dtype == torch.int64 and y.shape == x.shape[:1]):
            kind = f"{y.dtype} {tuple(y.shape)}" if torch.is_tensor(y) else type(y).__name__
            raise ValueError(
                f"Shuffled expects y as int64 labels ({len(x)},), one per item of x, got {kind}: pass split.y, or None."
            )
        checks.whole("Shuffled", "batch_size", batch_size, least=1, most=len(x), why=f"x has {len(x)} items")
        checks.whole("Shuffled", "seed", seed, least=0)
        if x.is_floating_point():
            require_finite("Shuffled", "items of x", x)
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
        return {"x": self.x[chosen]} if self.y is None else {"x": self.x[chosen], "y": self.y[chosen]}


@dataclass(frozen=True)
class Transformed:
    """Batches of another source, each changed anew: dequantised, noised, augmented.

    Args:
        batches: The source.
        transform: (x, generator) -> x, on the CPU.
        names: Tensors that are changed.
    """

    batches: Batches
    transform: Callable[[Tensor, torch.Generator], Tensor]
    names: tuple[str, ...] = ("x",)

    def __post_init__(self) -> None:
        checks.function("Transformed", "batches", self.batches, instead="Shuffled(...) or Fresh(...)")
        checks.function("Transformed", "transform", self.transform, instead="(x, generator) -> x")

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass through the source."""
        return self.batches.steps_per_epoch

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return the source's batch of this step, changed."""
        batch = self.batches(step, generator)
        missing = [name for name in self.names if name not in batch]
        if missing:
            raise ValueError(
                f"Transformed expects batches with {', '.join(self.names)}, got {', '.join(batch)}: name tensors that the source "
                "has."
            )
        return {name: self.transform(x, generator) if name in self.names else x for name, x in batch.items()}


@dataclass(frozen=True)
class Beside:
    """Batches of a source, and those of others beside them, for a loss on several sets.

    Args:
        main: Source whose tensors keep their names.
        others: Sources by the name that their "x" gets; their labels are left out.
    """

    main: Batches
    others: Mapping[str, Batches]

    def __post_init__(self) -> None:
        for name, source in {"main": self.main, **self.others}.items():
            checks.function("Beside", name, source, instead="Shuffled(...) or Fresh(...)")
        taken = sorted(self.others.keys() & {"x", "y"})
        if taken:
            raise ValueError(
                f"Beside expects names of their own for other sources, got {taken}: these are the main one's."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass through the main source."""
        return self.main.steps_per_epoch

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return the tensors of all sources for this step."""
        return {
            **self.main(step, generator),
            **{name: source(step, generator)["x"] for name, source in self.others.items()},
        }


def all_labels(batches: Batches) -> Tensor | None:
    """Return the labels of the data set behind the batches, (N,), or None where there is none to look at."""
    while isinstance(batches, Transformed | Beside):
        batches = batches.batches if isinstance(batches, Transformed) else batches.main
    return batches.y if isinstance(batches, Shuffled) else None


def require_finite(who: str, what: str, x: Tensor) -> None:
    """Refuse NaN and infinite entries in inputs (N, *event), and say in how many inputs and which is the first.

    Raises:
        FloatingPointError: there are some.
    """
    lost = ~x.isfinite().flatten(1).all(dim=1)
    if lost.any():
        raise FloatingPointError(
            f"{who} expects finite numbers, got NaN or infinite entries in {int(lost.sum())} of {len(x)} {what}, the first at "
            f"index {int(lost.nonzero()[0])}: drop or fill them, or mend the transform."
        )
