"""The result of `load`: one split of a data set, with a record of where it comes from.

Imports: torch only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SplitInfo:
    """The origin of a split, for captions and a run's record."""

    name: str
    split: str
    origin: str  # "prepared", "download", "embedded", "synthetic" or "own"
    record: str  # canonical: mnist/train(without=9, n=5000, seed=0)
    class_names: tuple[str, ...]
    n: int  # items in this split, after every selection
    stored: int  # items in the stored part that it was taken from
    complete: int | None  # items that the complete set has in that part; None where unknown

    @property
    def partial(self) -> bool:
        """Whether the stored part lacks items of the complete set."""
        return self.complete is not None and self.stored < self.complete

    @property
    def caption(self) -> str:
        """One line for a figure: the record, the number of items, and, in a partial set, how many of all are stored."""
        missing = f", from a partial set ({self.stored:,} of {self.complete:,})" if self.partial else ""
        return f"{self.record}: {self.n:,} items{missing}"


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set, with its stored values.

    Attributes:
        x: Images (N, C, H, W) uint8, or a table (N, D) float32.
        y: Labels, (N,) int64; -1 where an item has none.
        info: Origin of the split.
    """

    x: torch.Tensor
    y: torch.Tensor
    info: SplitInfo

    def __len__(self) -> int:
        return len(self.x)
