"""Laws of the maximum mean discrepancy, and of the autoencoder trained with it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import conv28, smooth_nae
from torch import Tensor

from oodlab.objectives import WassersteinMMD, mmd_squared, reconstruction


def normal(n: int, dims: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, dims, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("bandwidth", [None, 0.7])
def test_the_mean_discrepancy_over_all_splits_of_one_sample_is_zero(
    bandwidth: float | None, generator: torch.Generator
) -> None:
    """For equal distributions all splits are equally likely; the median over all draws is the same for each split."""
    points = normal(7, 2, generator)
    found = []
    for chosen in itertools.combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        found.append(float(mmd_squared(points[list(chosen)], points[rest], bandwidth=bandwidth)))
    assert abs(math.fsum(found) / len(found)) < 1e-15
    assert max(found) > 0.1
    assert min(found) < 0  # a biased estimate has no negative values


def gaussian_kernel_mean(variance: float, distance: float, dims: int, s: float) -> float:
    """E exp(-|u - v|^2 / (2 s^2)) of independent Gaussians whose variances sum to `variance` per dimension."""
    return (s**2 / (s**2 + variance)) ** (dims / 2) * math.exp(-(distance**2) / (2 * (s**2 + variance)))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 1.0), (0.0, 2.0), (0.8, 0.5)])
def test_the_discrepancy_between_two_gaussians_has_its_closed_form_on_average(
    mean: float, std: float, generator: torch.Generator
) -> None:
    dims, s, batches = 3, 1.2, 400
    found = torch.stack(
        [
            mmd_squared(std * normal(20, dims, generator) + mean, normal(30, dims, generator), bandwidth=s)
            for _ in range(batches)
        ]
    )
    wanted = (
        gaussian_kernel_mean(2 * std**2, 0.0, dims, s)
        + gaussian_kernel_mean(2.0, 0.0, dims, s)
        - 2 * gaussian_kernel_mean(std**2 + 1, mean * math.sqrt(dims), dims, s)
    )
    assert abs(float(found.mean()) - wanted) < 5 * float(found.std()) / math.sqrt(batches)


def test_the_bandwidth_is_the_median_distance_of_all_draws(generator: torch.Generator) -> None:
    a, b = normal(2, 3, generator), 5 * normal(4, 3, generator)
    both = torch.cat([a, b])
    distances = sorted(float((u - v).norm()) for u, v in itertools.combinations(both, 2))
    median = distances[len(distances) // 2]  # of 15
    assert float(mmd_squared(a, b)) == pytest.approx(float(mmd_squared(a, b, bandwidth=median)), rel=1e-12)
    scaled = float(mmd_squared(100 * a, 100 * b))
    assert scaled == pytest.approx(float(mmd_squared(a, b)), rel=1e-12)  # so units do not matter


def test_the_discrepancys_gradient_passes_gradcheck_and_treats_the_median_bandwidth_as_constant(
    generator: torch.Generator,
) -> None:
    a, b = normal(4, 2, generator).requires_grad_(), normal(5, 2, generator)
    assert torch.autograd.gradcheck(lambda a: mmd_squared(a, b, bandwidth=0.9), a)
    with torch.no_grad():
        both = torch.cat([a, b])
        median = float(torch.pdist(both).median())
    (by_median,) = torch.autograd.grad(mmd_squared(a, b), a)
    (by_constant,) = torch.autograd.grad(mmd_squared(a, b, bandwidth=median), a)
    assert by_median == pytest.approx(by_constant, rel=1e-9)


@pytest.mark.parametrize("model", [lambda: smooth_nae(3), lambda: smooth_nae(2, sphere=True), conv28])
def test_the_loss_is_the_error_plus_the_weighted_discrepancy_to_the_models_prior(
    model: object, generator: torch.Generator
) -> None:
    model = model()
    x = torch.randn(8, *((1, 28, 28) if isinstance(model.encoder[0], torch.nn.Conv2d) else (2,)), generator=generator)
    before = torch.get_rng_state()
    parts = WassersteinMMD(0.3)(model, x, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    z = model.encode(x).detach()
    prior = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    if model.sphere:
        prior = prior / prior.norm(dim=1, keepdim=True)
    wanted = mmd_squared(z.flatten(1), prior.flatten(1))
    error = model.reconstruction_error(x).mean().detach()
    assert float(parts["mmd_squared"]) == pytest.approx(float(wanted), abs=1e-6)
    assert float(parts["error"]) == pytest.approx(float(error), rel=1e-6)
    assert float(parts["loss"].detach()) == pytest.approx(float(error + 0.3 * wanted), rel=1e-5)
    assert [name for name, part in parts.items() if part.requires_grad] == ["loss"]


def test_a_discrepancy_coefficient_of_zero_trains_a_plain_autoencoder(generator: torch.Generator) -> None:
    model, x = smooth_nae(3), torch.randn(8, 2, generator=generator)
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
    wanted = torch.autograd.grad(reconstruction(model, x)["loss"], parameters)
    got = torch.autograd.grad(WassersteinMMD(0.0)(model, x, generator=generator)["loss"], parameters)
    assert all(a == pytest.approx(b, abs=1e-7) for a, b in zip(got, wanted, strict=True))


def test_single_draws_and_invalid_bandwidths_or_coefficients_are_refused() -> None:
    with pytest.raises(ValueError, match="mmd_squared expects two draws of each at least, got 1 and 5"):
        mmd_squared(torch.zeros(1, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="bandwidth > 0, got 0"):
        mmd_squared(torch.zeros(2, 2), torch.zeros(5, 2), bandwidth=0.0)
    with pytest.raises(ValueError, match="WassersteinMMD expects coefficient >= 0, got -1"):
        WassersteinMMD(-1.0)
