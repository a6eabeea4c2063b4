"""Two-dimensional densities, normalised by quadrature on a box.

One box and one rule for every 2-D study: [-6, 6]^2, trapezoid.  The refinement
error (same rule on every second line) says how far to trust the normaliser, and
mass_outside how much the box leaves out of one twice as wide.

Imports: checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from oodlab import checks

HALF_WIDTH = 6.0
BLOCK = 4096  # grid points evaluated at once: a small network's layers stay in the cache


@dataclass(frozen=True)
class GridDensity:
    """A log-density on a square grid, normalised there.

    Attributes:
        axis: (n,) coordinates, both ends included.
        log_prob: (n, n) nats; first index is the second coordinate, as images are drawn.
        log_normaliser: Log of the integral over the box, nats.
        refinement_error: Change of log_normaliser when every second line is left out, nats.
    """

    axis: Tensor
    log_prob: Tensor
    log_normaliser: float
    refinement_error: float

    @property
    def density(self) -> Tensor:
        """(n, n) probability per unit area."""
        return self.log_prob.exp()


def grid_points(points: int, half_width: float = HALF_WIDTH) -> tuple[Tensor, Tensor]:
    """Return the axis (n,) and all grid points (n * n, 2), the first coordinate running fastest."""
    checks.whole("grid_points", "points", points, least=5, why="an odd number of lines is needed")
    if points % 2 == 0:
        raise ValueError(
            f"grid_points expects an odd number of at least 5 points, got {points}: every second line must end on both sides; "
            f"take {points + 1}."
        )
    checks.number("grid_points", "half_width", half_width, above=0)
    axis = torch.linspace(-half_width, half_width, points)
    second, first = torch.meshgrid(axis, axis, indexing="ij")
    return axis, torch.stack([first.reshape(-1), second.reshape(-1)], dim=1)


def _log_integral(values: Tensor, spacing: float) -> float:
    weight = torch.ones(values.shape[0], dtype=values.dtype)
    weight[0] = weight[-1] = 0.5
    return float(torch.logsumexp((values + weight.log() + weight.log()[:, None]).reshape(-1), 0)) + 2 * math.log(
        spacing
    )


@torch.no_grad()
def normalise(
    log_density: Callable[[Tensor], Tensor],
    *,
    points: int = 201,
    half_width: float = HALF_WIDTH,
    device: torch.device | str = "cpu",
) -> GridDensity:
    """Normalise exp(log_density) on [-half_width, half_width]^2 by the trapezoid rule.

    Args:
        log_density: (B, 2) -> (B,) nats, up to a constant.
        points: Grid lines per axis, odd.
        half_width: Half the side of the box.
        device: Device on which log_density is evaluated.

    Raises:
        FloatingPointError: log_density is not finite somewhere on the grid.
    """
    axis, x = grid_points(points, half_width)
    values = torch.cat([log_density(part.to(device)).cpu() for part in x.split(BLOCK)])
    return normalise_values(axis, values.reshape(points, points))


def normalise_values(axis: Tensor, values: Tensor) -> GridDensity:
    """Normalise log-density values already on the grid, (n, n) nats for an axis (n,) with n odd.

    Raises:
        FloatingPointError: A value is not finite.
    """
    lost = int((~values.isfinite()).sum())
    if lost:
        raise FloatingPointError(f"normalise: log_density is not finite at {lost} of {values.numel()} grid points.")
    values = values.double()
    spacing = float(axis[-1] - axis[0]) / (len(axis) - 1)
    log_normaliser = _log_integral(values, spacing)
    coarse = _log_integral(values[::2, ::2], 2 * spacing)
    return GridDensity(axis, values - log_normaliser, log_normaliser, abs(coarse - log_normaliser))


@torch.no_grad()
def negative_log_likelihood(log_density: Callable[[Tensor], Tensor], x: Tensor, grid: GridDensity) -> float:
    """Return the mean of -log p(x) in nats, p normalised on the grid's box.

    Data outside the box has density zero there; ValueError says so instead of returning infinity.
    """
    outside = share_outside(x, float(grid.axis[-1]))
    if outside:
        raise ValueError(f"negative_log_likelihood expects data inside the box, {outside:.2%} of it lies outside.")
    nll = grid.log_normaliser - float(log_density(x).double().mean())
    if not math.isfinite(nll):
        raise FloatingPointError(f"negative_log_likelihood: log_density is not finite at some of {len(x)} points.")
    return nll


def mass_outside(
    log_density: Callable[[Tensor], Tensor], grid: GridDensity, *, device: torch.device | str = "cpu"
) -> float:
    """Return the share of the mass on a box twice as wide that lies outside the grid's own, a fraction.

    By quadrature, with the grid's spacing: long chains would say the same where they
    mix, and nothing at all where a density is so sharp that every step is rejected.
    """
    points, half_width = 2 * len(grid.axis) - 1, 2 * float(grid.axis[-1])
    wide = normalise(log_density, points=points, half_width=half_width, device=device)
    return max(0.0, -math.expm1(grid.log_normaliser - wide.log_normaliser))


def share_outside(x: Tensor, half_width: float = HALF_WIDTH) -> float:
    """Return the share of points (B, 2) outside [-half_width, half_width]^2."""
    return float((x.abs() > half_width).any(dim=1).double().mean())


@torch.no_grad()
def best_temperature(
    error: Callable[[Tensor], Tensor], x: Tensor, *, points: int = 201, device: torch.device | str = "cpu"
) -> float:
    """Return the T that makes exp(-error / T) on the box most likely for x.

    For an autoencoder that was not trained as a density this is the most
    favourable density it has.  T is searched on 241 logarithmic steps of
    6 % between 1e-5 and 1e1.

    Args:
        error: (B, 2) -> (B,), non-negative.
        x: Data to fit T to (not the test data), (B, 2).
        points: Grid lines per axis.
        device: Device on which error is evaluated.
    """
    _, grid = grid_points(points)
    on_grid = torch.cat([error(part.to(device)).cpu() for part in grid.split(BLOCK)]).double()
    on_data = float(error(x.to(device)).double().mean())
    temperatures = torch.logspace(-5, 1, 241, dtype=torch.float64)
    nll = torch.stack(
        [
            on_data / t + _log_integral((-on_grid / t).reshape(points, points), 2 * HALF_WIDTH / (points - 1))
            for t in temperatures
        ]
    )
    return float(temperatures[nll.argmin()])
