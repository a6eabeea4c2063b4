"""Laws of quadrature on a grid of the plane."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from oodlab.data import eight_gaussians, eight_gaussians_log_prob
from oodlab.grids import best_temperature, grid_points, mass_outside, negative_log_likelihood, normalise, share_outside


def gaussian(x: Tensor, variance: float = 1.0) -> Tensor:
    """Log-density of N(0, variance I) without its constant."""
    return -x.square().sum(dim=1) / (2 * variance)


def test_a_gaussian_has_its_closed_form_normaliser_and_likelihood(generator: torch.Generator) -> None:
    grid = normalise(gaussian)
    rounding = 1e-5  # log-densities are float32; the rule itself and the tails beyond 6 are below 1e-8
    assert grid.log_normaliser == pytest.approx(math.log(2 * math.pi), abs=rounding)
    assert grid.refinement_error < rounding
    assert float(torch.trapezoid(torch.trapezoid(grid.density, grid.axis), grid.axis)) == pytest.approx(1, abs=rounding)

    x = torch.randn(100, 2, generator=generator)
    closed_form = math.log(2 * math.pi) + float(x.square().sum(dim=1).mean()) / 2
    assert negative_log_likelihood(gaussian, x, grid) == pytest.approx(closed_form, abs=rounding)


def test_the_normaliser_integrates_over_the_box_of_the_grid_only() -> None:
    """The box holds erf(6 / sqrt 8)^2 of N(0, 4 I); a constant has the log of the area as its log normaliser."""
    inside = math.erf(6 / math.sqrt(8)) ** 2
    trapezoid = 1e-5  # slopes at the border differ: h^2 / 12 times their sum
    assert normalise(lambda x: gaussian(x, 4)).log_normaliser == pytest.approx(
        math.log(8 * math.pi * inside), abs=trapezoid
    )
    assert normalise(lambda x: 0 * x[:, 0], half_width=3).log_normaliser == pytest.approx(math.log(36), abs=1e-6)


def test_eight_gaussians_have_the_papers_normaliser_peak_entropy_and_likelihood(generator: torch.Generator) -> None:
    grid = normalise(eight_gaussians_log_prob)
    assert grid.log_normaliser == pytest.approx(0, abs=1e-5)
    assert float(grid.density.max()) == pytest.approx(0.15915, abs=1e-3)  # the grid may miss a peak by half a line
    entropy = -float(torch.trapezoid(torch.trapezoid(grid.density * grid.log_prob, grid.axis), grid.axis))
    assert entropy == pytest.approx(2.8316, abs=1e-4)
    assert math.exp(normalise(eight_gaussians_log_prob, half_width=4).log_normaliser) == pytest.approx(
        0.99977, abs=1e-5
    )

    n = 20_000
    nll = negative_log_likelihood(eight_gaussians_log_prob, eight_gaussians(n, generator), grid)
    assert nll == pytest.approx(entropy, abs=5 / math.sqrt(n))  # -log p of a Gaussian in the plane has std 1


def test_the_refinement_error_reveals_a_density_too_narrow_for_the_grid() -> None:
    narrow = normalise(lambda x: gaussian(x, 1e-3), points=101)
    wide = normalise(lambda x: gaussian(x, 0.1), points=101)
    assert narrow.refinement_error > 0.1
    assert wide.refinement_error < 1e-5


def test_rows_of_a_grid_are_the_second_coordinate_as_in_drawn_images() -> None:
    grid = normalise(lambda x: -(x[:, 0] - 3).square() - (x[:, 1] + 1.5).square(), points=41)
    row, column = divmod(int(grid.log_prob.argmax()), 41)
    assert (float(grid.axis[column]), float(grid.axis[row])) == pytest.approx((3, -1.5))
    axis, x = grid_points(41)
    assert x[1].tolist() == pytest.approx([float(axis[1]), -6])


@pytest.mark.parametrize("variance", [0.02, 0.7])
def test_the_best_temperature_maximises_the_likelihood(variance: float, generator: torch.Generator) -> None:
    """exp(-(|x|^2 / 2) / T) is N(0, T I), whose most likely T is the mean of |x|^2 / 2."""
    x = variance**0.5 * torch.randn(2000, 2, generator=generator)
    error = lambda x: x.square().mean(dim=1)  # noqa: E731
    most_likely = float(error(x).mean())
    half_a_step_and_a_little = 0.035  # the search moves in steps of 6 %
    assert best_temperature(error, x) == pytest.approx(most_likely, rel=half_a_step_and_a_little)


def test_points_outside_the_grid_and_nan_or_infinite_densities_raise_errors(generator: torch.Generator) -> None:
    x = torch.tensor([[0.0, 0.0], [7.0, 0.0], [0.0, -6.5], [6.0, 6.0]])
    assert share_outside(x) == 0.5
    with pytest.raises(ValueError, match=r"50.00% of it lies outside"):
        negative_log_likelihood(gaussian, x, normalise(gaussian, points=21))
    with pytest.raises(FloatingPointError, match="21 of 441 grid points"):
        normalise(lambda x: gaussian(x) / (x[:, 0].abs() > 1e-3), points=21)
    with pytest.raises(FloatingPointError, match="some of 2 points"):
        negative_log_likelihood(gaussian, torch.tensor([[0.0, 0.0], [math.nan, 0.0]]), normalise(gaussian, points=21))
    for points in (4, 3, 200):
        with pytest.raises(ValueError, match="odd"):
            grid_points(points)


def test_the_mass_outside_the_box_is_exact_for_a_wide_gaussian() -> None:
    """Of N(0, 4 I) in [-12, 12]^2, a mass of 1 - (erf(6/sqrt(8)) / erf(12/sqrt(8)))^2 = 0.0054 is outside [-6, 6]^2."""
    log_density = lambda x: -x.square().sum(dim=1) / 8  # noqa: E731
    grid = normalise(log_density, points=161)
    expected = 1 - (math.erf(6 / math.sqrt(8)) / math.erf(12 / math.sqrt(8))) ** 2
    assert mass_outside(log_density, grid) == pytest.approx(expected, rel=2e-3)  # h^2 / 12 times the slope at the cut
