"""Laws of contrastive divergence: the likelihood's gradient, the penalty's identity, chains that keep to their class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oodlab.models import MLP, EnergyModel, JointEnergy
from oodlab.objectives import ContrastiveDivergence, FromData, FromReplay, Negatives
from oodlab.samplers import LangevinChain, ReplayBuffer, Stopped, Uniform

ROUNDING = 1e-12  # float64, means over some dozens of numbers near one


class Given(nn.Module):
    """Negatives that were drawn before."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, model: nn.Module, x: Tensor, **run: Any) -> Negatives:
        return Negatives(self.x, start=self.x)


def plane_energy(outputs: int = 1) -> JointEnergy:
    """Build a smooth energy of the plane with the same weights at every call, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return JointEnergy(MLP(2, [8], outputs, nn.SiLU)).double()


def value(part: Tensor) -> float:
    return float(part.detach())


# ---------------------------------------------------------------------------- the loss's gradient


@pytest.mark.parametrize("outputs", [1, 3])
def test_negatives_from_the_models_own_distribution_give_the_likelihoods_gradient(
    outputs: int, generator: torch.Generator
) -> None:
    """On a domain of 12 points: grad mean log p = mean grad f(data) - sum_i p_i grad f(x_i).

    Whole counts make the negatives' law exact: p is rounded to counts, and the model's
    f is shifted to match it by a table of offsets.
    """
    model = plane_energy(outputs)
    domain = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    data = domain[[0, 0, 3, 5, 11]]
    counts = (40 * model.log_density(domain).detach().softmax(0)).ceil().long()
    offset = (counts.double() / counts.sum()).log() - model.log_density(domain).detach()

    class Shifted(EnergyModel):
        """A model on the domain whose law is exactly counts / sum(counts)."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def energy(self, x: Tensor) -> Tensor:
            place = (x[:, None] == domain).all(dim=2).double().argmax(dim=1)
            return self.inner.energy(x) - offset[place]

    exact = Shifted()
    parameters = list(model.parameters())
    nll = torch.logsumexp(exact.log_density(domain), 0) - exact.log_density(data).mean()
    wanted = torch.autograd.grad(nll, parameters)
    negatives = domain.repeat_interleave(counts, dim=0)
    parts = ContrastiveDivergence(Given(negatives))(exact, data)
    got = torch.autograd.grad(parts["loss"], parameters)
    assert max(float(gradient.abs().max()) for gradient in wanted) > 0.01
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=ROUNDING)


@pytest.mark.parametrize("outputs", [1, 3])
def test_contrastive_divergence_with_l2_of_one_is_least_squares(outputs: int, generator: torch.Generator) -> None:
    """The loss -(a - b) + a^2 + b^2 is (a - 1/2)^2 + (b + 1/2)^2 - 1/2, in the mean as well."""
    model = plane_energy(outputs)
    data, negatives = torch.randn(2, 20, 2, generator=generator, dtype=torch.float64)
    loss = ContrastiveDivergence(Given(negatives), l2=1.0)(model, data)["loss"]
    f_data, f_negatives = model.log_density(data), model.log_density(negatives)
    wanted = (f_data - 0.5).square().mean() + (f_negatives + 0.5).square().mean() - 0.5
    assert value(loss) == pytest.approx(value(wanted), abs=ROUNDING)


def test_the_penalised_optimum_on_separable_data_is_plus_and_minus_one_half() -> None:
    class TwoLevels(EnergyModel):
        """f is one parameter for data (x > 0) and another for negatives."""

        def __init__(self) -> None:
            super().__init__()
            self.level = nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def energy(self, x: Tensor) -> Tensor:
            return -torch.where(x[:, 0] > 0, self.level[0], self.level[1])

    model, data = TwoLevels(), torch.ones(3, 1)
    objective = ContrastiveDivergence(Given(-torch.ones(5, 1)), l2=1.0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)  # the loss is a quadratic of curvature 2: one step
    objective(model, data)["loss"].backward()
    optimiser.step()
    assert model.level.tolist() == pytest.approx([0.5, -0.5], abs=ROUNDING)


def test_parts_of_contrastive_divergence_have_their_stated_values(generator: torch.Generator) -> None:
    model = plane_energy()
    data, negatives = torch.randn(2, 9, 2, generator=generator, dtype=torch.float64)
    plain, penalised = (ContrastiveDivergence(Given(negatives), l2=l2)(model, data) for l2 in (0.0, 0.3))
    f_data, f_negatives = model.log_density(data).detach(), model.log_density(negatives).detach()
    assert value(plain["f_data"]) == pytest.approx(float(f_data.mean()), abs=ROUNDING)
    assert value(plain["f_negatives"]) == pytest.approx(float(f_negatives.mean()), abs=ROUNDING)
    assert value(plain["log_density_gap"]) == pytest.approx(float(f_data.mean() - f_negatives.mean()), abs=ROUNDING)
    assert value(plain["loss"]) == pytest.approx(-value(plain["log_density_gap"]), abs=ROUNDING)
    penalty = 0.3 * float(f_data.square().mean() + f_negatives.square().mean())
    assert value(penalised["loss"] - plain["loss"]) == pytest.approx(penalty, abs=ROUNDING)
    assert [name for name, part in plain.items() if part.requires_grad] == ["loss"]
    assert torch.equal(plain["negatives"], negatives)
    with pytest.raises(ValueError, match="l2 >= 0, got -1"):
        ContrastiveDivergence(Given(negatives), l2=-1)


# --------------------------------------------------------------------------- class-conditional chains

CENTERS = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, -2.0]])


class Bowls(nn.Module):
    """Three logits: logit y is a bowl around centre y, lifted by 100 y so that only log_joint_density tells them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        heights = 100.0 * torch.arange(3)
        return heights - 0.5 * (x[:, None] - CENTERS).square().sum(dim=2)


def slots(capacity: int, classes: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, (2,), start=Uniform(-1.0, 1.0), restart=0.05, fifo=False, classes=classes)


def test_chains_of_a_replay_divided_by_class_follow_the_joint_log_density_of_their_class(
    generator: torch.Generator,
) -> None:
    model, downhill = JointEnergy(Bowls()), LangevinChain(steps=60, step_size=0.3, noise_std=0.0)
    negatives = FromReplay(downhill, slots(300, classes=3))
    for _ in range(20):
        ends = negatives(model, torch.zeros(60, 2), generator=generator).x
    nearest = torch.cdist(negatives.replay.states, CENTERS).argmin(dim=1)
    assert torch.cdist(ends, CENTERS).amin(dim=1).max() < 1e-4  # 0.7^60 of the way is left
    counts = torch.cdist(ends, CENTERS).argmin(dim=1).bincount(minlength=3)
    assert counts.min() > 5  # classes are drawn uniformly: 20 of 60 each, standard deviation 3.7
    written = torch.cdist(negatives.replay.states, CENTERS).amin(dim=1) < 1e-4
    assert written.sum() > 200
    assert torch.equal(nearest[written], torch.arange(3).repeat_interleave(100)[written])  # slots belong to classes


def test_chains_of_an_undivided_replay_follow_the_log_density(generator: torch.Generator) -> None:
    """Only the highest mode of logsumexp is left, so every chain ends in the last class."""
    model, downhill = JointEnergy(Bowls()), LangevinChain(steps=60, step_size=0.3, noise_std=0.0)
    ends = FromReplay(downhill, slots(300, classes=1))(model, torch.zeros(60, 2), generator=generator).x
    assert torch.cdist(ends, CENTERS).argmin(dim=1).tolist() == [2] * 60


# ----------------------------------------------------------------------------------------- course

CHAIN = LangevinChain(steps=3, step_size=0.1, noise_std=0.01)
SOURCES = {
    "from data": lambda: FromData(CHAIN),
    "from replay": lambda: FromReplay(CHAIN, slots(30, classes=1)),
    "by class": lambda: FromReplay(CHAIN, slots(30, classes=3)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_contrastive_divergence_draws_from_its_generator_and_leaves_the_model_unchanged(name: str) -> None:
    model, x = plane_energy(3).float(), torch.zeros(8, 2)
    first, again, other = (
        ContrastiveDivergence(SOURCES[name]())(model, x, None, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first["negatives"], again["negatives"])
    assert not torch.equal(first["negatives"], other["negatives"])
    assert first["negatives"].shape == first["negatives_start"].shape == x.shape
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    first["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_stopped_chain_writes_nothing_to_the_replay(generator: torch.Generator) -> None:
    objective = ContrastiveDivergence(SOURCES["by class"]())
    asked = iter([False, True])
    with pytest.raises(Stopped):
        objective(
            plane_energy(3).float(), torch.zeros(8, 2), None, generator=generator, should_stop=lambda: next(asked)
        )
    assert len(objective.negatives.replay) == 0


def test_the_replay_is_part_of_the_objectives_state(generator: torch.Generator) -> None:
    model, x = plane_energy(3).float(), torch.zeros(8, 2)
    one, other = ContrastiveDivergence(SOURCES["by class"]()), ContrastiveDivergence(SOURCES["by class"]())
    one(model, x, generator=generator)
    other.load_state_dict(one.state_dict())
    twice = [o(model, x, generator=torch.Generator().manual_seed(5))["negatives"] for o in (one, other)]
    assert torch.equal(*twice)
