"""The contract of every model, and closed forms of the linear ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from conftest import (
    conv28,
    conv_vae,
    mixture_autoencoder,
    probabilistic_pca,
    reencoding_autoencoder,
    smooth_nae,
    vector_quantised,
)
from torch import Tensor

from oodlab.grids import normalise
from oodlab.models import (
    MLP,
    Autoencoder,
    Density,
    EncoderDecoder,
    EnergyModel,
    ResidualMLP,
    VariationalAutoencoder,
    frozen,
    linear_autoencoder,
    stein_score,
)

ROUNDING = 1e-12  # float64, a few hundred operations on numbers near one

# ------------------------------------------------------------------------- what every model keeps


def test_the_energy_is_one_number_per_input_and_minus_the_log_density(
    model_and_input: tuple[EnergyModel, Tensor],
) -> None:
    model, x = model_and_input
    energy = model.energy(x).detach()
    assert energy.shape == (len(x),)
    assert energy.isfinite().all()
    assert model.log_density(x).detach() == pytest.approx(-energy, abs=ROUNDING)
    if isinstance(model, Density):
        assert model.log_prob(x).detach() == pytest.approx(-energy, abs=ROUNDING)


def test_an_inputs_energy_does_not_depend_on_other_inputs(model_and_input: tuple[EnergyModel, Tensor]) -> None:
    model, x = model_and_input
    together = model.train().energy(x).detach()
    alone = torch.cat([model.energy(row[None]) for row in x]).detach()
    reversed_order = model.energy(x.flip(0)).detach().flip(0)
    assert alone == pytest.approx(together, abs=ROUNDING)
    assert reversed_order == pytest.approx(together, abs=ROUNDING)
    assert len(together.unique()) == len(x)


def test_the_stein_score_is_the_slope_of_the_log_density(model_and_input: tuple[EnergyModel, Tensor]) -> None:
    model, x = model_and_input
    stein = stein_score(model, x)
    assert stein.shape == x.shape
    assert not stein.requires_grad
    h = 1e-5  # central differences: error h^2 and rounding 1e-16 / h, both near 1e-10
    for place in range(x[0].numel()):
        step = torch.zeros_like(x[0])
        step.view(-1)[place] = h
        slope = (model.log_density(x + step) - model.log_density(x - step)) / (2 * h)
        assert stein.flatten(1)[:, place] == pytest.approx(slope.detach(), abs=1e-7)


def test_frozen_restores_every_train_mode_and_requires_grad_flag_even_after_an_exception(
    model_and_input: tuple[EnergyModel, Tensor],
) -> None:
    model, x = model_and_input
    model.train()
    next(model.children()).eval()
    next(model.parameters()).requires_grad_(False)

    def state() -> tuple[list[bool], list[bool]]:
        return [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]

    before = state()
    with pytest.raises(KeyError), frozen(model):
        assert not any(state()[0] + state()[1])
        stein_score(model, x)  # works without parameter gradients
        raise KeyError
    assert state() == before
    with frozen(model), frozen(model):
        pass
    assert state() == before
    assert all(p.grad is None for p in model.parameters())


def test_a_density_of_the_plane_integrates_to_one(plane_density: Density) -> None:
    grid = normalise(lambda x: plane_density.log_prob(x.double()), half_width=9.0)
    assert grid.log_normaliser == pytest.approx(0, abs=1e-6)  # tails beyond 9 and the rule itself


def test_samples_of_a_density_have_its_entropy(plane_density: Density) -> None:
    """Under samples of the model, E[log p] is minus the entropy that quadrature gives."""
    grid = normalise(lambda x: plane_density.log_prob(x.double()), half_width=9.0)
    entropy = -float(torch.trapezoid(torch.trapezoid(grid.density * grid.log_prob, grid.axis), grid.axis))
    first, samples = (plane_density.float().sample(4000, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert samples.shape == (4000, 2)
    assert torch.equal(samples, first)
    nll = -plane_density.log_prob(samples).detach().double()
    assert abs(float(nll.mean()) - entropy) < 5 * float(nll.std()) / math.sqrt(4000)


# ------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("latent", [1, 2, 3])
def test_a_linear_nae_is_a_gaussian(latent: int, generator: torch.Generator) -> None:
    """The energy |x - W^T W x|^2 / D has the inverse covariance 2 (I - W^T W)^2 / (T D)."""
    weight = 0.5 * torch.randn(latent, 2, generator=generator, dtype=torch.float64)
    model = linear_autoencoder(weight, temperature=0.4)
    rest = torch.eye(2, dtype=torch.float64) - weight.T @ weight
    precision = 2 * rest @ rest / (0.4 * 2)

    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    half_square = 0.5 * torch.einsum("bi,ij,bj->b", x, precision, x)
    assert model.energy(x).detach() == pytest.approx(half_square, abs=1e-6)  # T is stored as a float32 logarithm

    widest = float(torch.linalg.eigvalsh(precision)[0]) ** -0.5
    grid = normalise(lambda x: model.log_density(x.double()), half_width=8 * widest, points=401)
    closed_form = math.log(2 * math.pi) - 0.5 * float(torch.logdet(precision))
    assert grid.log_normaliser == pytest.approx(closed_form, abs=1e-5)


def test_the_temperature_divides_the_reconstruction_error() -> None:
    model = smooth_nae(3, temperature=0.25)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert float(model.temperature.detach()) == pytest.approx(0.25)
    assert model.energy(x).detach() == pytest.approx(4 * model.reconstruction_error(x).detach(), rel=1e-6)
    with pytest.raises(ValueError, match="temperature > 0, got 0"):
        smooth_nae(3, temperature=0.0)


def test_the_reconstruction_error_is_a_mean_over_dimensions_and_does_not_grow_with_the_image() -> None:
    model = Autoencoder(torch.nn.Flatten(), torch.nn.Unflatten(1, (3, 4, 4)), latent=48)
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.reconstruction_error(x), torch.zeros(2))
    model.decode = lambda z: torch.zeros(2, 3, 4, 4)
    assert model.reconstruction_error(torch.full_like(x, 0.5)) == pytest.approx(torch.full((2,), 0.25))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (conv28, (1, 28, 28)),
        (conv_vae, (1, 14, 14)),
        (vector_quantised, (2,)),
        (lambda: mixture_autoencoder(seed=1), (2,)),
        (reencoding_autoencoder, (2,)),
    ],
    ids=["on the sphere", "VAE", "codebook", "mixture", "reencoding"],
)
def test_all_autoencoders_share_the_mean_squared_error_of_the_decoded_code(
    build: Callable[[], EncoderDecoder], shape: tuple[int, ...], generator: torch.Generator
) -> None:
    model, x = build().double(), torch.randn(5, *shape, generator=generator, dtype=torch.float64)
    wanted = (x - model.decode(model.encode(x))).flatten(1).square().mean(dim=1)
    assert torch.equal(model.reconstruction_error(x), wanted)
    assert {name.split(".")[0] for name in model.state_dict()} >= {"encoder", "decoder"}
    assert type(model).reconstruction_error is EncoderDecoder.reconstruction_error


def test_codes_on_the_circle_have_norm_one(generator: torch.Generator) -> None:
    model = smooth_nae(2, sphere=True)
    norms = model.encode(torch.randn(50, 2, generator=generator)).detach().norm(dim=1)
    assert norms == pytest.approx(torch.ones(50), abs=1e-6)
    start = model.latent_start(torch.empty(50, 2), generator)
    assert start.norm(dim=1) == pytest.approx(torch.ones(50), abs=1e-6)


def test_a_linear_vae_with_the_exact_posterior_is_probabilistic_pca(generator: torch.Generator) -> None:
    """For x = w z + std xi the density is N(0, w w^T + std^2 I), whatever the draws of z."""
    w, std = torch.tensor([1.5, -0.5], dtype=torch.float64), 0.7
    model = probabilistic_pca((1.5, -0.5), std)
    gaussian = torch.distributions.MultivariateNormal(0 * w, torch.outer(w, w) + std**2 * torch.eye(2, dtype=w.dtype))
    x = 2 * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    assert model.log_prob(x).detach() == pytest.approx(gaussian.log_prob(x), abs=ROUNDING)
    samples = model.float().sample(20_000, generator=generator).double()
    assert samples.T.cov() == pytest.approx(gaussian.covariance_matrix, abs=5 * 2.75 * math.sqrt(2 / 20_000))


def test_a_vae_with_another_posterior_has_the_same_marginal_up_to_its_draws(
    generator: torch.Generator,
) -> None:
    exact, wider = probabilistic_pca(), probabilistic_pca()
    wider.encoder.bias.data[1] += math.log(1.5)
    wider.samples = 2000
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        difference = (wider.log_prob(x) - exact.log_prob(x)).detach()
    # weights p/q of a Gaussian with 1.5 times the variance: E[w^2] = 1.5 / sqrt(2 * 1.5 - 1), so std 0.25
    assert float(difference.abs().max()) < 5 * 0.25 / math.sqrt(2000)


def test_a_random_vae_integrates_to_one_up_to_its_draws() -> None:
    """All grid points share 200 draws, so the error of the draws does not average out over the points."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VariationalAutoencoder(MLP(2, [16], 2), MLP(1, [16], 2), latent=1, samples=200)
        grid = normalise(model.log_prob, half_width=6.0, points=81)
    assert grid.log_normaliser == pytest.approx(0, abs=0.02)  # six seeds: at most 0.007


# ----------------------------------------------------------------------------------------- networks


def test_networks_have_the_layers_the_paper_prints() -> None:
    """FCRes2: 2 -> 256, five blocks 256 -> 1024 -> 256, -> D_z."""
    network = ResidualMLP(2, 3, width=256, hidden=1024, blocks=5)
    weights = 2 * 256 + 5 * 2 * 256 * 1024 + 256 * 3
    biases = 256 + 5 * (1024 + 256) + 3
    assert sum(p.numel() for p in network.parameters()) == weights + biases
    assert network(torch.zeros(4, 2)).shape == (4, 3)
    assert [tuple(layer.weight.shape) for layer in MLP(2, [5, 6], 3) if hasattr(layer, "weight")] == [
        (5, 2),
        (6, 5),
        (3, 6),
    ]


def test_a_residual_block_adds_to_its_input() -> None:
    network = ResidualMLP(2, 2, width=8, hidden=4, blocks=1)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    block = network[1]
    for parameter in block.parameters():
        parameter.data.zero_()
    assert torch.equal(block(x), x)
