"""Laws of the objectives: exact gradients of the likelihood, closed-form optima, clean negatives."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from conftest import probabilistic_pca, smooth_nae
from torch import Tensor, nn

from oodlab.data import eight_gaussians
from oodlab.grids import grid_points
from oodlab.models import Autoencoder, ResidualMLP, linear_autoencoder
from oodlab.objectives import (
    FromData,
    FromReplay,
    Negatives,
    NormalizedLikelihood,
    OnManifold,
    kl_to_standard_normal,
    negative_elbo,
    reconstruction,
)
from oodlab.samplers import Box, ChainRecord, LangevinChain, MalaChain, RejectOutside, ReplayBuffer, Stopped, Uniform

# -------------------------------------------------------- the linear normalized autoencoder (exact)


def sample_with_covariance(covariance: Tensor, generator: torch.Generator) -> Tensor:
    """Fifty points whose mean is 0 and whose sample covariance is exactly the one given."""
    x = torch.randn(50, len(covariance), generator=generator, dtype=torch.float64)
    x = x - x.mean(dim=0)
    whitener = torch.linalg.cholesky(torch.linalg.inv(x.T @ x / len(x)))
    return x @ whitener @ torch.linalg.cholesky(covariance).T


def linear_nll(model: Autoencoder, x: Tensor) -> Tensor:
    """Mean of energy + log normaliser, the latter in closed form."""
    weight, dims = model.encoder.weight, x.shape[1]
    rest = torch.eye(dims, dtype=x.dtype) - weight.T @ weight
    half_logdet = torch.linalg.slogdet(rest)[1] + 0.5 * dims * torch.log(2 / (model.temperature * dims))
    return model.energy(x).mean() + 0.5 * dims * math.log(2 * math.pi) - half_logdet


@pytest.mark.parametrize("latent", [1, 2, 3, 4])
def test_a_linear_nae_trained_by_maximum_likelihood_reaches_its_closed_form(
    latent: int, generator: torch.Generator
) -> None:
    """With D_z >= D the Gaussian has the data's covariance; with fewer, left-out variances become their mean.

    So D_z = D - 1 is exact too, where a plain autoencoder with D_z = D is the identity and no density at all.
    """
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    covariance = mixing @ mixing.T + 0.3 * torch.eye(3, dtype=torch.float64)
    x = sample_with_covariance(covariance, generator)
    variances = torch.linalg.eigvalsh(covariance)

    def spent(left_out: tuple[int, ...]) -> float:
        kept = [float(v.log()) for i, v in enumerate(variances) if i not in left_out]
        shared = len(left_out) * float(variances[list(left_out)].mean().log()) if left_out else 0.0
        return 0.5 * (sum(kept) + shared + 3 + 3 * math.log(2 * math.pi))

    closed_form = min(spent(left_out) for left_out in combinations(range(3), max(0, 3 - latent)))
    found = []
    for _ in range(6):  # the likelihood of the undercomplete one has a local optimum per subset
        model = linear_autoencoder(0.7 * torch.randn(latent, 3, generator=generator, dtype=torch.float64))
        optimiser = torch.optim.LBFGS(
            model.parameters(),
            max_iter=400,
            tolerance_grad=1e-10,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def closure(model: Autoencoder = model, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            nll = linear_nll(model, x)
            nll.backward()
            return nll

        optimiser.step(closure)
        found.append(float(linear_nll(model, x).detach()))
    assert min(found) == pytest.approx(closed_form, abs=1e-8)
    if latent >= 2:
        entropy_bound = 0.5 * (float(torch.logdet(covariance)) + 3 + 3 * math.log(2 * math.pi))
        assert min(found) == pytest.approx(entropy_bound, abs=1e-8)


def test_a_plain_linear_autoencoder_becomes_the_identity_and_no_density(generator: torch.Generator) -> None:
    model = linear_autoencoder(torch.eye(2, dtype=torch.float64))
    parts = reconstruction(model, torch.randn(9, 2, generator=generator, dtype=torch.float64))
    assert float(parts["loss"].detach()) == 0
    assert torch.equal(model.energy(torch.full((1, 2), 1e3, dtype=torch.float64)).detach(), torch.zeros(1))


# ------------------------------------------------- gradients, with negatives that are the exact law


class Given(nn.Module):
    """Negatives that were drawn before."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, model: nn.Module, x: Tensor, **run: object) -> Negatives:
        return Negatives(self.x, start=self.x)


DRAWS = 200_000


def drawn_exactly(model: Autoencoder, domain: Tensor) -> Tensor:
    """Systematic sample of softmax(log_density) on the domain: each point's count is right to within one."""
    p = torch.softmax(model.log_density(domain).detach(), 0)
    counts = (p.cumsum(0) * DRAWS).round().long().diff(prepend=torch.zeros(1, dtype=torch.long))
    return domain.repeat_interleave(counts, dim=0)


@pytest.fixture(params=[False, True], ids=["plane", "circle"])
def exact_setting(request: pytest.FixtureRequest) -> tuple[Autoencoder, Tensor, Tensor]:
    """Return a model, its domain (grid points of the plane) and data."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = smooth_nae(2, sphere=request.param, temperature=0.5).double()
    _, domain = grid_points(21)
    data = torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return model, domain.double(), data


def exact_nll(model: Autoencoder, domain: Tensor, data: Tensor) -> Tensor:
    """Mean of E / T + log Omega, the normaliser summed over the domain."""
    return model.energy(data).mean() + torch.logsumexp(model.log_density(domain), 0)


def test_the_temperatures_gradient_is_that_of_the_likelihood(
    exact_setting: tuple[Autoencoder, Tensor, Tensor],
) -> None:
    """d NLL / dT = -(E+ - E-) / T^2, against a finite difference of E+ / T + log Omega(T)."""
    model, domain, data = exact_setting
    objective = NormalizedLikelihood(Given(drawn_exactly(model, domain)), energy_penalty=0.0)
    objective(model, data)["loss"].backward()

    log_t, h = model.log_temperature, 1e-4
    with torch.no_grad():
        log_t += h
        above = float(exact_nll(model, domain, data))
        log_t -= 2 * h
        below = float(exact_nll(model, domain, data))
        log_t += h
    slope = (above - below) / (2 * h)
    # each count is off by at most one: points / draws, times the largest energy that matters (10 nats)
    assert float(log_t.grad) == pytest.approx(slope, abs=len(domain) / DRAWS * 10)
    assert abs(slope) > 0.05


def test_the_networks_gradient_is_the_temperature_times_that_of_the_likelihood(
    exact_setting: tuple[Autoencoder, Tensor, Tensor],
) -> None:
    model, domain, data = exact_setting
    networks = [p for name, p in model.named_parameters() if name != "log_temperature"]
    wanted = torch.autograd.grad(exact_nll(model, domain, data), networks)
    objective = NormalizedLikelihood(Given(drawn_exactly(model, domain)), energy_penalty=0.0)
    got = torch.autograd.grad(objective(model, data)["loss"], networks)

    t = float(model.temperature.detach())
    largest = max(float(gradient.abs().max()) for gradient in wanted)
    for ours, exact in zip(got, wanted, strict=True):
        assert ours == pytest.approx(t * exact, abs=1e-3 * t * largest)  # counts right to one in DRAWS


def test_penalties_and_parts_of_the_normalized_likelihood_have_their_stated_values(generator: torch.Generator) -> None:
    model = smooth_nae(3)
    data, negatives = torch.randn(8, 2, generator=generator), torch.randn(8, 2, generator=generator)
    plain, energy, latent = (
        NormalizedLikelihood(Given(negatives), energy_penalty=a, latent_penalty=b)(model, data)
        for a, b in [(0.0, 0.0), (2.0, 0.0), (0.0, 3.0)]
    )
    on_data, on_negatives = (model.reconstruction_error(x).detach() for x in (data, negatives))
    z = model.encode(torch.cat([data, negatives])).detach()
    gap = on_data.mean() - on_negatives.mean()

    def same(got: Tensor, wanted: Tensor) -> bool:
        return float(got.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)  # float32

    assert same(plain["gap"], gap)
    assert same(plain["loss"], gap + gap / model.temperature)
    assert same(energy["loss"] - plain["loss"], 2 * on_negatives.square().mean())
    assert same(latent["loss"] - plain["loss"], 3 * z.square().mean())
    assert same(plain["error_data"], on_data.mean())
    assert same(plain["error_negatives"], on_negatives.mean())
    assert [name for name, part in plain.items() if part.requires_grad] == ["loss"]
    with pytest.raises(ValueError, match="energy_penalty >= 0, got -1"):
        NormalizedLikelihood(Given(negatives), energy_penalty=-1)


# ---------------------------------------------------------------------------------------- negatives

_BOX = RejectOutside(-5.0, 5.0)
_MALA = MalaChain(steps=3, step_size=0.005, noise_std=0.1, bounds=_BOX)
_LATENT = LangevinChain(steps=4, step_size=0.005, noise_std=0.1)


def replay_of(shape: tuple[int, ...], start: object) -> ReplayBuffer:
    return ReplayBuffer(100, shape, start=start, restart=0.05, fifo=True)


NEGATIVES = {
    "CD": lambda model: FromData(_MALA),
    "PCD": lambda model: FromReplay(_MALA, replay_of((2,), Uniform(-5.0, 5.0))),
    "OMI": lambda model: OnManifold(_LATENT, _MALA, replay_of((3,), model.latent_start)),
}


@pytest.mark.parametrize("name", NEGATIVES)
def test_negatives_carry_no_graph_and_sampling_leaves_the_model_unchanged(
    name: str, generator: torch.Generator
) -> None:
    model = smooth_nae(3)
    x = torch.randn(10, 2, generator=generator)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    negatives = NEGATIVES[name](model)
    modes: list[bool] = []
    watch = model.encoder.register_forward_pre_hook(lambda encoder, _: modes.append(encoder.training))
    for _ in range(2):
        drawn = negatives(model, x, generator=generator)
        assert drawn.x.shape == drawn.start.shape == x.shape
        assert not (drawn.x.requires_grad or drawn.start.requires_grad)
        assert not torch.equal(drawn.x, drawn.start)
    watch.remove()
    assert modes
    assert not any(modes)  # chains see the model as it is when it is used: dropout off
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    parts = NormalizedLikelihood(negatives)(model, x, generator=generator)
    parts["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_replay_keeps_ends_of_visible_chains_for_pcd_and_of_latent_chains_for_omi(
    generator: torch.Generator,
) -> None:
    model = smooth_nae(3)
    x = torch.randn(10, 2, generator=generator)
    persistent = NEGATIVES["PCD"](model)
    assert torch.equal(persistent(model, x, generator=generator).x, persistent.replay.states[:10])

    on_manifold, record = NEGATIVES["OMI"](model), ChainRecord()
    drawn = on_manifold(model, x, generator=generator, record=record)
    assert torch.equal(drawn.z, on_manifold.replay.states[:10])
    assert torch.equal(drawn.start, model.decode(drawn.z).detach())
    assert torch.equal(record.states[0], drawn.start)  # the record is the visible chain's
    assert record.steps == [0, 1, 2, 3]


def test_the_latent_chain_walks_to_codes_that_are_reconstructed_well() -> None:
    model = smooth_nae(3)
    replay = ReplayBuffer(200, (3,), start=model.latent_start, restart=1.0, fifo=True)
    downhill = LangevinChain(steps=100, step_size=0.1, noise_std=0.0)
    start = OnManifold(downhill, _MALA, replay)(
        model, torch.zeros(200, 2), generator=torch.Generator().manual_seed(0)
    ).start
    z, _ = replay.draw(200, generator=torch.Generator().manual_seed(0))
    before, after = (model.reconstruction_error(x).detach() for x in (model.decode(z), start))
    assert after.mean() < 0.9 * before.mean()


@pytest.mark.parametrize("name", NEGATIVES)
def test_a_stopped_chain_writes_nothing_to_the_replay_buffer(name: str, generator: torch.Generator) -> None:
    model = smooth_nae(3)
    negatives = NEGATIVES[name](model)
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        negatives(model, torch.zeros(4, 2), generator=generator, should_stop=lambda: next(asked))
    assert model.training
    assert len(getattr(negatives, "replay", ())) == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("latent", [1, 2, 3])
def test_on_manifold_negatives_of_an_untrained_model_have_a_small_error(latent: int, seed: int) -> None:
    """As in figure 8, chains from data stay where the error is large; decoded latent chains do not start there."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        size = {"width": 64, "hidden": 128, "blocks": 2}
        model = Autoencoder(
            ResidualMLP(2, latent, **size), ResidualMLP(latent, 2, **size), latent=latent, temperature=0.5
        )
    chain = MalaChain(steps=30, step_size=0.005, noise_std=0.1, bounds=_BOX)
    latent_chain = LangevinChain(steps=10, step_size=0.005, noise_std=0.1)
    x = eight_gaussians(100, rng)
    from_data = FromData(chain)(model, x, generator=rng).x
    replay = replay_of((latent,), model.latent_start)
    on_manifold = OnManifold(latent_chain, chain, replay)(model, x, generator=rng).x

    def error(x: Tensor) -> float:
        return float(model.reconstruction_error(x).detach().mean())

    assert error(on_manifold) < 0.25 * error(from_data)


# ------------------------------------------------------------------------------------------ the VAE


def test_the_kl_divergence_of_the_posterior_has_its_closed_form(generator: torch.Generator) -> None:
    zero = torch.zeros(2, 3)
    assert torch.equal(kl_to_standard_normal(zero, zero), torch.zeros(2))
    assert kl_to_standard_normal(zero + 1, zero) == pytest.approx(torch.tensor([1.5, 1.5]))
    mean, log_variance = torch.randn(2, 5, 3, generator=generator).unbind()
    reference = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert kl_to_standard_normal(mean, log_variance) == pytest.approx(reference.sum(dim=1), abs=1e-5)


@pytest.mark.parametrize("wider", [0.0, math.log(2)])
def test_the_elbo_is_the_likelihood_less_the_posteriors_divergence(wider: float, generator: torch.Generator) -> None:
    """A posterior with c times the right variance costs (c - 1 - ln c) / 2 nats; the right posterior costs none."""
    model = probabilistic_pca()
    x = torch.randn(1, 2, generator=generator, dtype=torch.float64).repeat(20_000, 1)
    nll = -float(model.log_prob(x[:1]).detach())
    model.encoder.bias.data[1] += wider
    parts = negative_elbo(model, x, generator=generator)
    gap = (math.exp(wider) - 1 - wider) / 2
    # the draw's spread: |z|^2 / 2 of the misfit has std below 2 nats here
    assert float(parts["loss"].detach()) == pytest.approx(nll + gap, abs=5 * 2 / math.sqrt(len(x)))
    assert float(parts["misfit"] + parts["kl"]) == pytest.approx(float(parts["loss"].detach()), abs=1e-5)


def test_the_elbo_is_a_function_of_its_generator(generator: torch.Generator) -> None:
    model = probabilistic_pca()
    x = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    before = torch.get_rng_state()
    losses = [
        float(negative_elbo(model, x, generator=torch.Generator().manual_seed(s))["loss"].detach()) for s in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_reconstruction_loss_is_the_mean_error_and_does_not_train_the_temperature(
    generator: torch.Generator,
) -> None:
    model = smooth_nae(3)
    x = torch.randn(9, 2, generator=generator)
    parts = reconstruction(model, x)
    parts["loss"].backward()
    assert float(parts["error"]) == pytest.approx(float(model.reconstruction_error(x).detach().mean()))
    assert model.log_temperature.grad is None


def test_decoded_starts_are_clamped_to_the_start_bounds(generator: torch.Generator) -> None:
    """A decoder with outputs far outside the box starts the visible chain on the box's edge, where chains can move."""
    model = linear_autoencoder(torch.full((2, 2), 50.0))
    chains = LangevinChain(1, 1e-9, 0.0), MalaChain(1, 1e-9)
    replay = ReplayBuffer(10, (2,), start=model.latent_start, restart=1.0, fifo=True)
    far = OnManifold(*chains, replay)(model, torch.zeros(10, 2), generator=generator)
    assert float(far.start.abs().max()) > 5
    near = OnManifold(*chains, replay, start_bounds=Box(-5, 5))(model, torch.zeros(10, 2), generator=generator)
    assert float(near.start.abs().max()) <= 5
