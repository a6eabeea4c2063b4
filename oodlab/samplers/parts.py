"""Parts that a chain is composed of: bounds, clips of the gradient, falling noise.

Imports: checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodlab import checks


@dataclass(frozen=True)
class Box:
    """Clamp every coordinate to [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_box("Box", self.low, self.high)

    def __call__(self, proposal: Tensor, current: Tensor) -> Tensor:
        """Return the proposal, clamped."""
        return proposal.clamp(self.low, self.high)


@dataclass(frozen=True)
class RejectOutside:
    """Keep a chain where it is when its proposal leaves [low, high] in any coordinate."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_box("RejectOutside", self.low, self.high)

    def inside(self, x: Tensor) -> Tensor:
        """Say per chain whether it lies in the box, (B, *event) -> (B,) bool."""
        return ((x >= self.low) & (x <= self.high)).flatten(1).all(dim=1)

    def __call__(self, proposal: Tensor, current: Tensor) -> Tensor:
        """Return per chain the proposal if it lies inside, else the current state."""
        return torch.where(per_chain(self.inside(proposal), proposal), proposal, current)


@dataclass(frozen=True)
class Sphere:
    """Project every state onto the unit sphere over its dimension 1."""

    def __call__(self, proposal: Tensor, current: Tensor | None = None) -> Tensor:
        """Return the proposal divided by its norm over dimension 1."""
        return proposal / proposal.norm(dim=1, keepdim=True).clamp_min(1e-12)  # 0 stays 0, not NaN


@dataclass(frozen=True)
class ClipElements:
    """Clamp every component of the gradient to [-limit, limit]."""

    limit: float

    def __post_init__(self) -> None:
        checks.number("ClipElements", "limit", self.limit, above=0)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, clamped component by component."""
        return gradient.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class ClipNorm:
    """Shorten a chain's gradient to the given Euclidean norm; shorter ones stay as they are."""

    limit: float

    def __post_init__(self) -> None:
        checks.number("ClipNorm", "limit", self.limit, above=0)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, shortened where it is longer than the limit."""
        norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        return gradient * per_chain((self.limit / norm).clamp_max(1.0), gradient)


@dataclass(frozen=True)
class ClipRows:
    """Shorten every row of the gradient, its last dimension, to the given Euclidean norm.

    A row of zeros stays zero, and one whose norm is the limit stays as it is; in the released code of
    Yoon et al. (2021), arXiv:2105.05735, the first becomes NaN and the second zero.
    """

    limit: float

    def __post_init__(self) -> None:
        checks.number("ClipRows", "limit", self.limit, above=0)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, (..., W), its rows shortened where they are longer than the limit."""
        norm = gradient.norm(dim=-1, keepdim=True)
        return gradient * (self.limit / norm).clamp_max(1.0)  # limit / 0 is infinite, so a row of zeros stays


@dataclass(frozen=True)
class Annealed:
    """Noise that falls as noise_std / (1 + t); delayed=True keeps full noise for t = 0 and 1."""

    noise_std: float
    delayed: bool = False

    def __post_init__(self) -> None:
        checks.number("Annealed", "noise_std", self.noise_std, least=0)

    def __call__(self, t: int) -> float:
        """Return the noise of step t = 0, 1, ..."""
        return self.noise_std / max(t, 1) if self.delayed else self.noise_std / (1 + t)


def per_chain(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one number per chain, (B,), so that it multiplies a state (B, *event)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _check_box(name: str, low: float, high: float) -> None:
    checks.number(name, "low", low)
    checks.number(name, "high", high, above=low)
