"""Parts of a Markov chain: bounds of its states, clipping of its gradient, and annealed noise.

Imports: checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oodlab import checks


@dataclass(frozen=True)
class Box:
    """Bounds that clamp every coordinate of a chain's state to [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_box("Box", self.low, self.high)

    def __call__(self, proposal: Tensor, current: Tensor) -> Tensor:
        """Return the proposal, clamped to [low, high]."""
        return proposal.clamp(self.low, self.high)


@dataclass(frozen=True)
class RejectOutside:
    """Bounds that reject a proposal outside of [low, high] in any coordinate: the chain keeps its state."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_box("RejectOutside", self.low, self.high)

    def inside(self, x: Tensor) -> Tensor:
        """Return for each chain whether all its coordinates lie in [low, high], (B, *event) -> (B,) bool."""
        return ((x >= self.low) & (x <= self.high)).flatten(1).all(dim=1)

    def __call__(self, proposal: Tensor, current: Tensor) -> Tensor:
        """Return for each chain the proposal if it lies inside, else the current state."""
        return torch.where(per_chain(self.inside(proposal), proposal), proposal, current)


@dataclass(frozen=True)
class Sphere:
    """Bounds that project every state onto the unit sphere: its norm over dimension 1 becomes 1."""

    def __call__(self, proposal: Tensor, current: Tensor | None = None) -> Tensor:
        """Return the proposal divided by its norm over dimension 1."""
        return proposal / proposal.norm(dim=1, keepdim=True).clamp_min(1e-12)  # 0 stays 0, not NaN


@dataclass(frozen=True)
class ClipElements:
    """Gradient clipping that clamps every component to [-limit, limit]."""

    limit: float

    def __post_init__(self) -> None:
        checks.number("ClipElements", "limit", self.limit, above=0)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, clamped component by component."""
        return gradient.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class ClipNorm:
    """Gradient clipping that scales a chain's gradient to Euclidean norm `limit` where its norm is larger."""

    limit: float

    def __post_init__(self) -> None:
        checks.number("ClipNorm", "limit", self.limit, above=0)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, scaled to norm `limit` where its norm is larger."""
        norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        return gradient * per_chain((self.limit / norm).clamp_max(1.0), gradient)


@dataclass(frozen=True)
class ClipRows:
    """Gradient clipping that scales each row (last dimension) to Euclidean norm `limit` where its norm is larger.

    A row of zeros stays zero, and a row whose norm is the limit is unchanged; in the released code of
    Yoon et al. (2021), arXiv:2105.05735, the row of zeros becomes NaN and the row at the limit zero.
    """

    limit: float

    def __post_init__(self) -> None:
        checks.number("ClipRows", "limit", self.limit, above=0)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, (..., W), with rows scaled to norm `limit` where their norm is larger."""
        norm = gradient.norm(dim=-1, keepdim=True)
        return gradient * (self.limit / norm).clamp_max(1.0)  # limit / 0 is infinite, so a row of zeros stays


@dataclass(frozen=True)
class Annealed:
    """Annealed noise: its standard deviation at step t is noise_std / (1 + t), or noise_std / max(t, 1) if delayed."""

    noise_std: float
    delayed: bool = False

    def __post_init__(self) -> None:
        checks.number("Annealed", "noise_std", self.noise_std, least=0)

    def __call__(self, t: int) -> float:
        """Return the standard deviation of the noise at step t = 0, 1, ..."""
        return self.noise_std / max(t, 1) if self.delayed else self.noise_std / (1 + t)


def per_chain(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one number per chain, (B,), so that it multiplies a state (B, *event)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _check_box(name: str, low: float, high: float) -> None:
    checks.number(name, "low", low)
    checks.number(name, "high", high, above=low)
