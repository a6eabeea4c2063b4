"""Laws of the linear normalized autoencoder: its Gaussian, and the most likely one for each size and temperature."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from conftest import smooth_nae
from torch import Tensor
from torch.distributions import MultivariateNormal

from oodlab.data import exact_gaussian
from oodlab.models import LinearNAE, linear_autoencoder, most_likely_linear_nae

ROUNDING = 1e-6  # the temperature is a logarithm rounded to float32
VARIANCES = (0.1, 2.0, 3.0)


def turned_covariance(variances: tuple[float, ...], generator: torch.Generator) -> Tensor:
    """A covariance with these variances along random axes."""
    n = len(variances)
    axes, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    covariance = axes @ torch.tensor(variances, dtype=torch.float64).diag() @ axes.T
    return (covariance + covariance.T) / 2


def nll_of(modelled: list[float], variances: tuple[float, ...]) -> float:
    """Expected NLL of N(0, diag(modelled)) for data with these variances along the same axes."""
    return 0.5 * sum(math.log(2 * math.pi * m) + v / m for m, v in zip(modelled, variances, strict=True))


@pytest.mark.parametrize("latent", [1, 2, 3, 4])
def test_the_log_prob_of_a_linear_nae_is_that_of_its_gaussian(latent: int, generator: torch.Generator) -> None:
    weight = 0.6 * torch.randn(latent, 3, generator=generator, dtype=torch.float64)
    model = LinearNAE(linear_autoencoder(weight, temperature=0.4))
    rest = torch.eye(3, dtype=torch.float64) - weight.T @ weight
    gaussian = MultivariateNormal(torch.zeros(3, dtype=torch.float64), precision_matrix=2 * rest @ rest / (0.4 * 3))

    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    assert model.log_prob(x).detach() == pytest.approx(gaussian.log_prob(x), abs=10 * ROUNDING)
    assert model.precision.detach() == pytest.approx(gaussian.precision_matrix, abs=10 * ROUNDING)


def test_the_expected_nll_is_the_mean_nll_of_data_with_the_given_covariance(generator: torch.Generator) -> None:
    covariance = turned_covariance(VARIANCES, generator)
    x = exact_gaussian(50, covariance, generator)
    model = LinearNAE(linear_autoencoder(0.6 * torch.randn(2, 3, generator=generator, dtype=torch.float64)))
    assert float(model.expected_nll(covariance).detach()) == pytest.approx(float(-model.log_prob(x).mean().detach()))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_linear_nae_of_zero_weights_has_a_variance_set_by_the_temperature(
    temperature: float, generator: torch.Generator
) -> None:
    """For W = 0 the density is N(0, T D / 2 I); in the paper's units N(0, T / 2 I), standard normal at T = 2."""
    model = LinearNAE(linear_autoencoder(torch.zeros(1, 3, dtype=torch.float64), temperature=temperature))
    scale = torch.full((3,), math.sqrt(3 * temperature / 2), dtype=torch.float64)
    x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    wanted = torch.distributions.Normal(0 * scale, scale).log_prob(x).sum(dim=1)
    assert model.log_prob(x).detach() == pytest.approx(wanted, abs=10 * ROUNDING)
    n = 20_000
    variance = model.sample(n, generator=generator).square().mean(dim=0)
    assert variance == pytest.approx(scale.square(), rel=5 * math.sqrt(2 / n))


def test_a_linear_nae_with_an_exactly_reconstructed_direction_has_no_density() -> None:
    model = LinearNAE(linear_autoencoder(torch.tensor([[1.0, 0.0]])))
    assert float(model.log_normaliser().detach()) == math.inf
    assert float(model.autoencoder.reconstruction_error(torch.tensor([[100.0, 0.0]])).detach()) == 0


# ------------------------------------------------------------------------------ maximum likelihood


@pytest.mark.parametrize("variances", [VARIANCES, (0.3, 0.35, 5.0, 6.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("temperature", [None, 0.2, 1.0, 4.0])
def test_the_closed_form_keeps_the_most_likely_of_all_subsets_of_directions(
    variances: tuple[float, ...], temperature: float | None, generator: torch.Generator
) -> None:
    """Directions left out share the variance T D / 2, with T free the mean of their variances."""
    dims = len(variances)
    covariance = turned_covariance(variances, generator)
    for latent in range(1, dims + 2):
        best = most_likely_linear_nae(covariance, latent, temperature=temperature)
        nll = {}
        for kept in combinations(range(dims), min(latent, dims)):
            left = [variances[i] for i in range(dims) if i not in kept]
            shared = sum(left) / max(1, len(left)) if temperature is None else temperature * dims / 2
            nll[kept] = nll_of([v if i in kept else shared for i, v in enumerate(variances)], variances)
        assert best.nll == pytest.approx(min(nll.values()), abs=1e-9)
        assert nll[best.kept] == pytest.approx(best.nll, abs=1e-9)
        assert best.variances == pytest.approx(variances)
        if temperature is None and latent >= dims - 1:
            entropy = 0.5 * float(torch.logdet(2 * math.pi * math.e * covariance))
            assert best.nll == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize("temperature", [None, 0.2, 1.0, 4.0])
@pytest.mark.parametrize("latent", [1, 2, 3, 5])
def test_the_weights_of_the_closed_form_reach_its_nll(
    latent: int, temperature: float | None, generator: torch.Generator
) -> None:
    covariance = turned_covariance(VARIANCES, generator)
    best = most_likely_linear_nae(covariance, latent, temperature=temperature)
    assert best.weight.shape == (latent, 3)
    assert temperature is None or best.temperature == pytest.approx(temperature)
    model = LinearNAE(linear_autoencoder(best.weight, temperature=best.temperature))
    assert float(model.expected_nll(covariance).detach()) == pytest.approx(best.nll, abs=10 * ROUNDING)
    overshoots = int((torch.linalg.eigvalsh(best.weight.T @ best.weight) > 1).sum())
    assert overshoots == sum(
        best.variances[i] < best.temperature * 3 / 2 - 1e-9 for i in best.kept
    )  # only where needed
    if latent >= 3:  # over-complete: the data's own covariance
        assert temperature is not None or overshoots == 0
        assert model.precision.detach().inverse() == pytest.approx(covariance, abs=10 * ROUNDING)


def test_a_fixed_temperature_keeps_the_directions_of_largest_gain() -> None:
    """The gain is r - 1 - log r, r = l / (T D / 2): a high T keeps the smallest variance, a low T the largest."""
    covariance = torch.tensor(VARIANCES, dtype=torch.float64).diag()
    kept = {t: [most_likely_linear_nae(covariance, d, temperature=t).kept for d in (1, 2)] for t in (0.2, 1.0, 4.0)}
    assert kept == {0.2: [(2,), (1, 2)], 1.0: [(0,), (0, 2)], 4.0: [(0,), (0, 1)]}


@pytest.mark.parametrize("temperature", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("latent", [1, 2])
def test_optimisation_finds_no_lower_nll_than_the_closed_form_at_a_fixed_temperature(
    latent: int, temperature: float, generator: torch.Generator
) -> None:
    covariance = turned_covariance(VARIANCES, generator)
    best = most_likely_linear_nae(covariance, latent, temperature=temperature)
    found = []
    for _ in range(12):  # a local optimum for each choice of directions, on either side of the eigenvalue 1
        start = torch.randn(latent, 3, generator=generator, dtype=torch.float64)
        model = LinearNAE(linear_autoencoder(start, temperature=temperature))
        optimiser = torch.optim.LBFGS(
            [model.autoencoder.encoder.weight],
            max_iter=300,
            tolerance_grad=1e-10,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def closure(model: LinearNAE = model, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            nll = model.expected_nll(covariance)
            nll.backward()
            return nll

        optimiser.step(closure)
        found.append(float(model.expected_nll(covariance).detach()))
    assert min(found) == pytest.approx(best.nll, abs=10 * ROUNDING)


# -------------------------------------------------------------------------------------- bad input


def test_linear_autoencoder_copies_its_weights_and_uses_their_dtype() -> None:
    weight = torch.full((1, 2), 0.5, dtype=torch.float64)
    model = linear_autoencoder(weight)
    weight.fill_(7)
    assert model.encoder.weight.tolist() == [[0.5, 0.5]]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


def test_models_weights_and_covariances_without_a_closed_form_are_refused() -> None:
    with pytest.raises(ValueError, match="LinearNAE expects an autoencoder of linear_autoencoder, got Autoencoder"):
        LinearNAE(smooth_nae(2))
    for weight in (torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), [[1.0]]):
        with pytest.raises(
            ValueError, match=r"linear_autoencoder expects weight as a floating-point tensor \(latent, D\)"
        ):
            linear_autoencoder(weight)
    for covariance in (torch.zeros(2, 3), torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.zeros(2, 2), -torch.eye(2)):
        with pytest.raises(ValueError, match="symmetric, positive definite covariance"):
            most_likely_linear_nae(covariance, 1)
    with pytest.raises(ValueError, match="latent >= 1, got 0"):
        most_likely_linear_nae(torch.eye(2), 0)
    with pytest.raises(ValueError, match="temperature > 0, got -1"):
        most_likely_linear_nae(torch.eye(2), 1, temperature=-1)
