"""Laws of sliced score matching: the Gaussian's closed form, the Hessian's trace, and densities that are refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from oodlab.models import MLP, EnergyModel, JointEnergy, stein_score
from oodlab.objectives import Joint, SlicedScoreMatching

ROUNDING = 1e-12  # float64, sums of a few numbers near one


class Gaussian(EnergyModel):
    """energy = x^T P x / 2 with a symmetric precision matrix P."""

    def __init__(self, precision: Tensor) -> None:
        super().__init__()
        self.precision = nn.Parameter(precision)

    def energy(self, x: Tensor) -> Tensor:
        return 0.5 * torch.einsum("bi,ij,bj->b", x, self.precision, x)


def energy(outputs: int, activation: type[nn.Module]) -> JointEnergy:
    """Build a small energy of the plane with the same weights at every call, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return JointEnergy(MLP(2, [8, 8], outputs, activation)).double()


def covariance_of(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    return torch.randn(40, 3, generator=generator, dtype=torch.float64) @ mixing


def test_the_loss_of_a_diagonal_gaussian_is_exact_for_any_projection(x: Tensor, generator: torch.Generator) -> None:
    """Squared signs are 1, so v^T P v = tr P and the loss is -tr P + tr(P S P) / 2 for any v."""
    precision = torch.diag(torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    for projections in (1, 3):
        parts = SlicedScoreMatching(projections=projections)(Gaussian(precision), x, generator=generator)
        expected = -precision.trace() + (precision @ covariance_of(x) @ precision).trace() / 2
        assert float(parts["loss"].detach()) == pytest.approx(float(expected), abs=50 * ROUNDING)
        assert float(parts["curvature"]) == pytest.approx(-float(precision.trace()), abs=ROUNDING)


def test_the_best_diagonal_gaussian_has_the_inverse_variances(generator: torch.Generator) -> None:
    """At P = S^-1 the loss is stationary and has the value -tr P / 2."""
    x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    x = x * torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)  # covariance exactly diagonal
    precision = covariance_of(x).inverse()
    model = Gaussian(precision)
    loss = SlicedScoreMatching()(model, x, generator=generator)["loss"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-float(precision.trace()) / 2, abs=ROUNDING)
    assert model.precision.grad.diagonal().abs().max() < 10 * ROUNDING


def test_the_loss_of_a_full_gaussian_is_exact_on_average_over_projections(
    x: Tensor, generator: torch.Generator
) -> None:
    """v^T P v has mean tr P and, for random signs, variance 2 * (sum of squared off-diagonal entries)."""
    precision = covariance_of(x).inverse()
    projections = 500
    parts = SlicedScoreMatching(projections=projections)(Gaussian(precision), x, generator=generator)
    off_diagonal = precision - torch.diag(precision.diagonal())
    draws = projections * len(x)
    five_standard_errors = 5 * float((2 * off_diagonal.square().sum() / draws).sqrt())
    assert abs(float(parts["curvature"] + precision.trace())) < five_standard_errors
    assert float(parts["half_square"]) == pytest.approx(float(precision.trace()) / 2)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_first_term_of_the_loss_is_the_hessians_trace_on_average(outputs: int, generator: torch.Generator) -> None:
    model = energy(outputs, nn.Softplus)
    point = torch.randn(2, generator=generator, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda p: model.log_density(p[None])[0], point)
    n = 20_000
    parts = SlicedScoreMatching()(model, point.repeat(n, 1), generator=generator)
    five_standard_errors = 5 * float((4 * hessian[0, 1].square() / n).sqrt())  # v^T H v = tr H +- 2 H_01
    assert five_standard_errors < 0.2 * float(hessian.trace().abs())
    assert abs(float(parts["curvature"] - hessian.trace())) < five_standard_errors


def test_the_second_term_of_the_loss_is_the_squared_score_without_projection(generator: torch.Generator) -> None:
    """The mean of (v^T s)^2 over all signs is ||s||^2."""
    model = energy(3, nn.SiLU)
    x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)), dtype=torch.float64)
    projected = (stein_score(model, x) @ signs.T).square().mean(dim=1)
    parts = SlicedScoreMatching()(model, x, generator=generator)
    assert float(parts["half_square"]) == pytest.approx(float(projected.mean()) / 2, rel=1e-12)


def test_the_loss_of_images_sums_over_their_pixels(generator: torch.Generator) -> None:
    images = torch.randn(6, 1, 4, 4, generator=generator, dtype=torch.float64)
    flat = Gaussian(torch.eye(16, dtype=torch.float64))

    class OfImages(EnergyModel):
        def energy(self, x: Tensor) -> Tensor:
            return flat.energy(x.flatten(1))

    parts = SlicedScoreMatching()(OfImages(), images, generator=generator)
    assert float(parts["curvature"]) == pytest.approx(-16)
    assert float(parts["half_square"]) == pytest.approx(float(images.square().sum()) / 12)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_a_piecewise_linear_log_density_is_refused(activation: type[nn.Module], generator: torch.Generator) -> None:
    """The second derivative is 0 unless logsumexp of several outputs or a smooth activation bends the density."""
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    objective = SlicedScoreMatching()
    with pytest.raises(ValueError, match=r"piecewise linear.*smooth activation"):
        objective(energy(1, activation), x, generator=generator)
    with pytest.raises(ValueError, match="piecewise linear"):  # asking again does not help
        Joint(objective, gamma=0.0)(energy(1, activation), x, generator=generator)
    for model in (energy(3, activation), energy(1, nn.Softplus), energy(1, nn.SiLU)):
        parts = SlicedScoreMatching()(model, x, generator=generator)
        assert float(parts["curvature"]) != 0
        parts["loss"].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_sliced_score_matching_refuses_an_invalid_number_of_projections() -> None:
    with pytest.raises(ValueError, match="projections >= 1, got 0"):
        SlicedScoreMatching(projections=0)
