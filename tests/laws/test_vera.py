"""Laws of training an energy against a generator: closed forms of a linear generator, gradients of each network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from oodlab.models import (
    MLP,
    EnergyModel,
    EnergyWithGenerator,
    ImageGenerator,
    JointEnergy,
    NoisyGenerator,
    TableGenerator,
)
from oodlab.objectives import Joint, VariationalLikelihood
from oodlab.objectives.vera import negative_stein_score, proposal_loss
from oodlab.training import Adam, Shuffled, fit

LATENT, DIMS, STD = 2, 3, 0.6


def linear_generator(*, std: float = STD, proposal_std: float = 0.4) -> NoisyGenerator:
    """q = N(b, W W^T + std^2 I), in float64."""
    network = nn.Linear(LATENT, DIMS).double()
    network.weight.data.copy_(torch.tensor([[1.0, 0.2], [-0.5, 0.8], [0.3, 0.4]]))
    network.bias.data.copy_(torch.tensor([0.5, -1.0, 0.0]))
    return NoisyGenerator(network, LATENT, std=std, proposal_std=proposal_std).double()


def covariance(q: NoisyGenerator) -> Tensor:
    weight = q.network.weight
    return weight @ weight.T + (2 * q.log_std).exp() * torch.eye(DIMS, dtype=weight.dtype)


def entropy(q: NoisyGenerator) -> Tensor:
    return 0.5 * torch.logdet(2 * math.pi * math.e * covariance(q))


def posterior_precision(q: NoisyGenerator) -> Tensor:
    weight, variance = q.network.weight, (2 * q.log_std).exp()
    return weight.T @ weight / variance + torch.eye(LATENT, dtype=weight.dtype)


class Gaussian(EnergyModel):
    """energy = (x - mean)^T P (x - mean) / 2."""

    def __init__(self, mean: Tensor, precision: Tensor) -> None:
        super().__init__()
        self.mean, self.precision = nn.Parameter(mean), nn.Parameter(precision)

    def energy(self, x: Tensor) -> Tensor:
        z = x - self.mean
        return 0.5 * torch.einsum("bi,ij,bj->b", z, self.precision, z)


def pair(seed: int = 0) -> EnergyWithGenerator:
    """Build a small energy of two classes and a generator with batch normalisation, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        q = NoisyGenerator(TableGenerator(4, [8, 8], DIMS), 4, std=0.05, proposal_std=0.1)
        return EnergyWithGenerator(JointEnergy(MLP(DIMS, [8], 2, nn.LeakyReLU)), q).double()


def vera(**changes: object) -> VariationalLikelihood:
    settings = {"entropy_weight": 0.5, "proposals": 5, "gradient_penalty": 0.1, "std_bounds": (0.01, 0.3)}
    return VariationalLikelihood(**{**settings, **changes})


def gradients(model: nn.Module, objective: VariationalLikelihood, x: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    objective(model, x, generator=torch.Generator().manual_seed(1))["loss"].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return torch.randn(16, DIMS, generator=generator, dtype=torch.float64)


# --------------------------------------------------------------------------- a linear generator (exact)


def test_draws_of_a_linear_generator_have_its_gaussian_distribution(generator: torch.Generator) -> None:
    q, n = linear_generator(), 100_000
    x, h = (part.detach() for part in q.draw(n, generator=generator))
    wanted = covariance(q).detach()
    assert (x.mean(dim=0) - q.network.bias.detach()).abs().max() < 5 * math.sqrt(float(wanted.max()) / n)
    assert (torch.cov(x.T) - wanted).abs().max() < 5 * float(wanted.max()) * math.sqrt(2 / n)
    given_h = q.log_joint_prob(x, h) + h.square().sum(dim=1) / 2 + LATENT / 2 * math.log(2 * math.pi)  # log q(x | h)
    conditional_entropy = DIMS * (0.5 * math.log(2 * math.pi * math.e) + math.log(STD))
    assert abs(float(given_h.detach().mean()) + conditional_entropy) < 5 * math.sqrt(DIMS / 2 / n)


def test_the_bound_on_log_z_has_the_kl_divergence_as_its_gap(generator: torch.Generator) -> None:
    """E_q f + H(q) = log Z - KL(q || p); for covariances c S and S the gap is (D c - D - D ln c) / 2, .085 at c = .7."""
    q, n, c = linear_generator(), 400_000, 0.7
    target = covariance(q).detach() / c
    model = Gaussian(q.network.bias.detach(), target.inverse())
    log_z = 0.5 * torch.logdet(2 * math.pi * target)
    f = model.log_density(q.draw(n, generator=generator)[0]).detach()
    gap = log_z - float(f.mean()) - entropy(q).detach()
    assert abs(float(gap) - 0.5 * (DIMS * c - DIMS - DIMS * math.log(c))) < 5 * float(f.std()) / math.sqrt(n)
    assert float(gap) > 0


def test_the_estimated_score_of_the_generator_is_exact_on_average(generator: torch.Generator) -> None:
    """The estimate regresses with slope 1 on -grad log q = (W W^T + std^2 I)^-1 (x - b).

    The proposal is twice as wide as the posterior: a narrow one leaves the slope and multiplies the error.
    """
    q, n = linear_generator(proposal_std=1.0), 20_000
    x, h = q.draw(n, generator=generator)
    estimate = negative_stein_score(q, x, h, proposals=200, generator=generator)
    exact = ((x - q.network.bias) @ covariance(q).inverse()).detach()
    assert not estimate.requires_grad
    slope = float((estimate * exact).sum() / exact.square().sum())
    assert slope == pytest.approx(1.0, abs=0.01)  # bias of self-normalised weights is of order 1 / proposals
    assert (estimate - exact).square().mean().sqrt() < 0.2 * exact.square().mean().sqrt()


def test_a_narrow_proposal_gives_the_gradient_of_the_noises_entropy_only(generator: torch.Generator) -> None:
    """As proposal_std -> 0 the estimate becomes xi / std: the gradient of H(x | h), so D by log std and 0 by W."""
    q, n = linear_generator(proposal_std=1e-4), 50_000
    x, h = q.draw(n, generator=generator)
    c = negative_stein_score(q, x, h, proposals=20, generator=generator)
    by_weight, by_log_std = torch.autograd.grad((c * x).sum(dim=1).mean(), [q.network.weight, q.log_std])
    assert abs(float(by_log_std) - DIMS) < 5 * math.sqrt(2 * DIMS / n) + 0.01
    assert by_weight.abs().max() < 5 / STD / math.sqrt(n) + 0.01


def test_the_surrogate_has_the_gradient_of_the_generators_entropy(generator: torch.Generator) -> None:
    q, n = linear_generator(proposal_std=1.0), 100_000
    x, h = q.draw(n, generator=generator)
    c = negative_stein_score(q, x, h, proposals=100, generator=generator)
    surrogate = torch.autograd.grad((c * x).sum(dim=1).mean(), [q.network.weight, q.log_std])
    exact = torch.autograd.grad(entropy(q), [q.network.weight, q.log_std])
    for ours, wanted in zip(surrogate, exact, strict=True):
        # per draw the summands vary by a few units; the weights' bias is of order 1 / proposals
        assert (ours - wanted).abs().max() < 5 * 3 / math.sqrt(n) + 0.01


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_generators_gradient_ascends_the_bound_on_log_z(weight: float, generator: torch.Generator) -> None:
    """The gradient is that of -(E_q f + weight * H(q)), both in closed form; the energy is no standard Gaussian."""
    q, n = linear_generator(std=0.5, proposal_std=1.0), 100_000
    precision = torch.diag(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    model = EnergyWithGenerator(Gaussian(torch.zeros(DIMS, dtype=torch.float64), precision), q)
    objective = vera(entropy_weight=weight, proposals=40, std_bounds=(0.1, 2.0))
    got = gradients(model, objective, torch.zeros(n, DIMS, dtype=torch.float64))
    second_moment = covariance(q) + torch.outer(q.network.bias, q.network.bias)
    bound = -0.5 * (precision @ second_moment).trace() + weight * entropy(q)
    wanted = torch.autograd.grad(-bound, [q.network.weight, q.network.bias, q.log_std])
    names = ["generator.network.weight", "generator.network.bias", "generator.log_std"]
    for name, exact in zip(names, wanted, strict=True):
        assert (got[name] - exact).abs().max() < 5 * 4 / math.sqrt(n) + 0.02 * weight, name


def test_the_proposals_gradient_descends_its_kl_divergence_from_the_posterior(generator: torch.Generator) -> None:
    """For a Gaussian posterior of precision L the gradient by log std_i is std_i^2 L_ii - 1, wherever h lies."""
    q, n = linear_generator(), 200_000
    x, h = q.draw(n, generator=generator)
    (got,) = torch.autograd.grad(proposal_loss(q, x, h, generator=generator), q.log_proposal_std)
    wanted = q.log_proposal_std.exp().square() * posterior_precision(q).diagonal() - 1
    assert (got - wanted).abs().max() < 5 * 3 / math.sqrt(n)
    best = linear_generator()
    best.log_proposal_std.data = -0.5 * posterior_precision(q).diagonal().log().detach()
    (at_best,) = torch.autograd.grad(proposal_loss(best, x, h, generator=generator), best.log_proposal_std)
    assert at_best.abs().max() < 5 * 3 / math.sqrt(n)


# --------------------------------------------------------------------------- whose gradient reaches whom


def test_the_energys_gradient_is_that_of_its_own_loss_only(x: Tensor) -> None:
    """The loss raises f on data, lowers f on generated inputs and penalises the slope of f."""
    model = pair()
    got = gradients(model, vera(), x)
    generated, _ = model.generator.draw(len(x), generator=torch.Generator().manual_seed(1))
    data = x.clone().requires_grad_()
    f = model.log_density(data)
    (slope,) = torch.autograd.grad(f.sum(), data, create_graph=True)
    loss = -(f.mean() - model.log_density(generated.detach()).mean()) + 0.1 * slope.square().sum(dim=1).mean() / 2
    energy = dict(model.energy_model.named_parameters(prefix="energy_model"))
    wanted = torch.autograd.grad(loss, list(energy.values()))
    for name, exact in zip(energy, wanted, strict=True):
        assert torch.allclose(got[name], exact, rtol=1e-10, atol=1e-12), name


def test_the_gradients_of_energy_and_generator_do_not_depend_on_each_others_loss_weights(x: Tensor) -> None:
    model = pair()
    both = gradients(model, vera(), x)
    without_entropy = gradients(model, vera(entropy_weight=0.0, proposals=5), x)
    without_penalty = gradients(model, vera(gradient_penalty=0.0), x)
    for name in both:
        if name.startswith("energy_model"):
            assert torch.equal(both[name], without_entropy[name]), name
            assert not torch.equal(both[name], without_penalty[name]) or "2.bias" in name, name
        else:
            assert torch.equal(both[name], without_penalty[name]), name
    network = [name for name in both if name.startswith("generator.network")]
    assert any(not torch.equal(both[name], without_entropy[name]) for name in network)


def test_the_proposals_loss_has_gradients_in_the_proposal_only(x: Tensor, generator: torch.Generator) -> None:
    q = pair().generator
    made, h = q.draw(len(x), generator=generator)
    proposal_loss(q, made, h, generator=generator).backward()
    assert q.log_proposal_std.grad.abs().min() > 0
    assert all(p.grad is None for name, p in q.named_parameters() if name != "log_proposal_std")


def test_the_loss_has_the_energys_value_and_no_part_is_named_an_entropy(x: Tensor) -> None:
    parts = vera()(pair(), x, generator=torch.Generator().manual_seed(1))
    assert float(parts["loss"].detach()) == pytest.approx(
        float(-parts["log_density_gap"] + 0.1 * parts["gradient_penalty"]), rel=1e-12
    )
    assert not any("entropy" in name or "surrogate" in name for name in parts)


def test_the_gradient_penalty_sums_over_dimensions_and_averages_over_the_batch(x: Tensor) -> None:
    model = pair()
    linear = nn.Linear(DIMS, 1).double()
    model.energy_model = JointEnergy(linear)
    parts = vera()(model, x, generator=torch.Generator().manual_seed(1))
    assert float(parts["gradient_penalty"]) == pytest.approx(
        float(linear.weight.detach().square().sum()) / 2, rel=1e-12
    )


@pytest.mark.parametrize(("std", "kept"), [(1e-4, 0.01), (0.05, 0.05), (2.0, 0.3)])
def test_the_generators_noise_std_is_clamped_to_its_bounds(std: float, kept: float, x: Tensor) -> None:
    model = pair()
    model.generator.log_std.data.fill_(math.log(std))
    parts = vera()(model, x, generator=torch.Generator().manual_seed(1))
    assert float(parts["generator_std"]) == pytest.approx(kept)
    assert float(model.generator.log_std.detach().exp()) == pytest.approx(kept)


def test_energy_and_generator_train_with_labels_and_their_own_learning_rates(x: Tensor) -> None:
    y = torch.arange(len(x)) % 2
    rates = {"generator": {"lr": 1e-3, "betas": (0.0, 0.9)}, "generator.log_proposal_std": 1e-4}
    model = pair().float()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = fit(
        model,
        Joint(vera(), gamma=1.0),
        Shuffled(x.float(), y, 8, seed=0),
        optimiser=Adam(lr=1e-3, lr_of=rates, betas=(0.0, 0.9)),
        steps=5,
        device="cpu",
        show_progress=False,
    )
    assert all(not torch.equal(before[name], p) for name, p in result.model.named_parameters())
    assert {"cross_entropy", "f_generated", "generator_std"} <= set(result.history[-1])


# --------------------------------------------------------------------------------------- the networks


def test_the_image_generator_has_the_released_size() -> None:
    generator = ImageGenerator(latent=128, channels=3, features=128, side=32)
    assert sum(p.numel() for p in generator.parameters()) == 1_154_947
    small = ImageGenerator(latent=5, channels=1, features=4, side=16)
    images = small(torch.randn(2, 5))
    assert images.shape == (2, 1, 16, 16)
    assert images.abs().max() <= 1
    for side in (2, 12, 28):
        with pytest.raises(ValueError, match=f"power of two, got {side}"):
            ImageGenerator(latent=5, channels=1, features=4, side=side)


def test_the_table_generator_has_batch_normalisation_and_no_bias() -> None:
    network = TableGenerator(16, [100] * 5, 18)
    assert sum(p.numel() for p in network.parameters()) == 16 * 100 + 4 * 100**2 + 100 * 18 + 5 * 2 * 100
    assert network(torch.randn(4, 16)).shape == (4, 18)


def test_vera_refuses_invalid_weights_proposals_and_noise_bounds() -> None:
    with pytest.raises(ValueError, match="entropy_weight >= 0"):
        vera(entropy_weight=-1.0)
    with pytest.raises(ValueError, match="proposals >= 1"):
        vera(proposals=0)
    with pytest.raises(ValueError, match=r"highest std >= 0\.3, got 0\.01"):
        vera(std_bounds=(0.3, 0.01))
    with pytest.raises(ValueError, match="std > 0"):
        linear_generator(std=0.0)


def test_the_generator_computes_in_float32_under_autocast() -> None:
    """In bfloat16 the rounding of g(h) would be as large as the noise of 0.01."""
    torch.manual_seed(0)
    q = NoisyGenerator(ImageGenerator(latent=4, channels=1, features=4, side=8), 4, std=0.01, proposal_std=0.1).eval()
    h = torch.randn(6, 4)
    exact = q.mean(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(q.mean(h), exact)
