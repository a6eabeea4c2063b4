"""Laws of a classifier read as a density, of joint training as classifier and density, and of scores from logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oodlab.detectors import LogDensity, LogSumExp, MaxSoftmax
from oodlab.models import MLP, JointEnergy, stein_score
from oodlab.objectives import ContrastiveDivergence, FromReplay, Joint
from oodlab.samplers import LangevinChain, ReplayBuffer, Uniform, value_and_grad

ROUNDING = 1e-12  # float64, sums of a few numbers near one


def classifier(outputs: int) -> MLP:
    """Build a smooth classifier of the plane with the same weights at every call, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP(2, [8], outputs, nn.SiLU).double()


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return 3 * torch.randn(7, 2, generator=generator, dtype=torch.float64)


class Lifted(nn.Module):
    """A classifier whose logits are all higher by the same number."""

    def __init__(self, inner: nn.Module, offset: float) -> None:
        super().__init__()
        self.inner, self.offset = inner, offset

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.offset


# ---------------------------------------------------------------------------------------- the model


def test_the_joint_densities_of_all_classes_sum_to_the_density(x: Tensor) -> None:
    model = JointEnergy(classifier(4))
    total = sum(model.log_joint_density(x, torch.full((7,), c)).exp() for c in range(4))
    assert total.detach() == pytest.approx(model.log_density(x).exp().detach(), rel=ROUNDING)


def test_the_posterior_is_joint_over_marginal(x: Tensor) -> None:
    model, y = JointEnergy(classifier(4)), torch.arange(7) % 4
    log_posterior = (model.log_joint_density(x, y) - model.log_density(x)).detach()
    assert log_posterior == pytest.approx(model.logits(x).log_softmax(1)[torch.arange(7), y].detach(), abs=ROUNDING)
    cross_entropy = nn.functional.cross_entropy(model.logits(x), y)
    assert float(cross_entropy.detach()) == pytest.approx(-float(log_posterior.mean()), abs=ROUNDING)


def test_the_only_logit_of_a_network_with_one_output_is_the_log_density(x: Tensor) -> None:
    model = JointEnergy(classifier(1))
    assert model.log_density(x).detach() == pytest.approx(model.logits(x)[:, 0].detach(), abs=ROUNDING)


def test_a_shift_of_all_logits_shifts_the_density_and_not_the_posterior(x: Tensor) -> None:
    plain, lifted = JointEnergy(classifier(4)), JointEnergy(Lifted(classifier(4), 3.5))
    assert lifted.log_density(x).detach() == pytest.approx(plain.log_density(x).detach() + 3.5, abs=ROUNDING)
    assert lifted.logits(x).softmax(1).detach() == pytest.approx(plain.logits(x).softmax(1).detach(), abs=ROUNDING)


def test_the_stein_score_is_the_posterior_mean_of_the_gradients_of_the_logits(x: Tensor) -> None:
    model = JointEnergy(classifier(4))
    posterior = model.logits(x).softmax(1).detach()
    slopes = [value_and_grad(lambda x, c=c: model.log_joint_density(x, torch.full((7,), c)), x)[1] for c in range(4)]
    wanted = sum(posterior[:, c, None] * slopes[c] for c in range(4))
    assert stein_score(model, x) == pytest.approx(wanted, abs=ROUNDING)


# ------------------------------------------------------------------------------------ the objective


def half_the_mean_square(model: JointEnergy, x: Tensor, y: Tensor | None = None, **run: Any) -> dict[str, Tensor]:
    """Stand in for a generative objective."""
    f = model.log_density(x)
    return {"loss": 0.5 * f.square().mean(), "f": f.detach().mean(), "states": x}


@pytest.mark.parametrize(("gamma", "entropy_weight"), [(0.01, 0.0), (1.0, 1e-4), (100.0, 0.5)])
def test_the_joint_loss_is_the_generative_loss_plus_weighted_cross_entropy_and_entropy(
    gamma: float, entropy_weight: float, x: Tensor
) -> None:
    model = JointEnergy(classifier(4))
    y = model.logits(x).argmax(1)
    y[:2] = (y[:2] + 1) % 4  # five of seven are predicted
    parts = Joint(half_the_mean_square, gamma=gamma, entropy_weight=entropy_weight)(model, x, y)
    generative = half_the_mean_square(model, x)
    p = model.logits(x).softmax(1).detach()
    cross_entropy = -p[torch.arange(7), y].log().mean()
    entropy = -(p * p.log()).sum(dim=1).mean()
    wanted = float(generative["loss"].detach()) + gamma * float(cross_entropy - entropy_weight * entropy)
    assert float(parts["loss"].detach()) == pytest.approx(wanted, rel=1e-10)
    assert float(parts["cross_entropy"]) == pytest.approx(float(cross_entropy), abs=ROUNDING)
    assert float(parts["accuracy"]) == pytest.approx(5 / 7)
    assert torch.equal(parts["f"], generative["f"])
    assert parts["states"] is x
    assert [name for name, part in parts.items() if part.requires_grad] == ["loss"]


def test_a_positive_entropy_weight_raises_the_entropy_of_predictions(x: Tensor) -> None:
    """A gradient step on the entropy's share of the loss alone raises the mean entropy."""
    model, y = JointEnergy(classifier(4)), torch.arange(7) % 4
    losses = [Joint(half_the_mean_square, gamma=1.0, entropy_weight=w)(model, x, y)["loss"] for w in (1.0, 0.0)]
    share = torch.autograd.grad(losses[0] - losses[1], list(model.parameters()))

    def entropy() -> float:
        p = model.logits(x).softmax(1).detach()
        return float(-(p * p.log()).sum(dim=1).mean())

    before = entropy()
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), share, strict=True):
            parameter -= 0.01 * gradient
    assert entropy() > before


def test_gamma_zero_computes_no_logits_and_needs_no_labels(x: Tensor) -> None:
    class Unclassified(JointEnergy):
        def log_density(self, x: Tensor) -> Tensor:
            return -x.square().sum(dim=1)

        def logits(self, x: Tensor) -> Tensor:
            raise AssertionError("logits were asked for")

    parts = Joint(half_the_mean_square, gamma=0.0, entropy_weight=1.0)(Unclassified(classifier(4)), x, None)
    assert set(parts) == {"loss", "f", "states"}


def test_joint_refuses_negative_weights_and_missing_labels_or_classes(x: Tensor) -> None:
    for name in ("gamma", "entropy_weight"):
        for wrong in (-0.1, math.nan):
            with pytest.raises(ValueError, match=f"{name} >= 0, got {wrong:g}"):
                Joint(half_the_mean_square, **{"gamma": 1.0, name: wrong})
    objective = Joint(half_the_mean_square, gamma=1.0)
    with pytest.raises(ValueError, match="labels when gamma > 0, got none"):
        objective(JointEnergy(classifier(4)), x)
    with pytest.raises(ValueError, match="at least two classes"):
        objective(JointEnergy(classifier(1)), x, torch.zeros(7, dtype=torch.long))


def test_the_state_of_a_joint_objective_includes_the_replay_of_its_chains(generator: torch.Generator) -> None:
    chain = LangevinChain(steps=2, step_size=0.1, noise_std=0.01)
    replay = ReplayBuffer(20, (2,), start=Uniform(-1.0, 1.0), restart=0.05, fifo=False, classes=4)
    objective = Joint(ContrastiveDivergence(FromReplay(chain, replay), l2=1.0), gamma=1.0)
    model, y = JointEnergy(classifier(4)).float(), torch.arange(6) % 4
    parts = objective(model, torch.zeros(6, 2), y, generator=generator)
    assert {"loss", "f_data", "f_negatives", "log_density_gap", "cross_entropy", "accuracy", "negatives"} <= set(parts)
    assert torch.equal(objective.state_dict()["generative.negatives.replay.states"], replay.states)
    assert len(replay) == 20


# ------------------------------------------------------------------------------------ the detectors


def test_the_negative_free_energy_at_temperature_one_is_the_log_density(x: Tensor) -> None:
    model = classifier(4).float()
    assert LogSumExp(model).score_samples(x) == pytest.approx(LogDensity(JointEnergy(model)).score_samples(x))


@pytest.mark.parametrize("temperature", [0.01, 2.0, 1000.0])
def test_the_negative_free_energy_lies_between_the_largest_logit_and_that_plus_t_log_c(
    temperature: float, x: Tensor
) -> None:
    """max f <= T logsumexp(f / T) <= max f + T log C, so small T gives the largest logit; T scales with f."""
    model = classifier(4).float()
    largest = model(x.float()).amax(dim=1).detach().double().numpy()
    scores = LogSumExp(model, temperature=temperature).score_samples(x)
    rounding = 1e-6 * temperature + 1e-5  # float32 of numbers near T log C
    assert (scores >= largest - rounding).all()
    assert (scores <= largest + temperature * math.log(4) + rounding).all()
    with pytest.raises(ValueError, match="temperature > 0, got 0"):
        LogSumExp(model, temperature=0.0)


def test_max_softmax_is_the_probability_of_the_most_probable_class(x: Tensor) -> None:
    model = classifier(4).float()
    wanted = model(x.float()).softmax(1).max(dim=1).values.detach().double().numpy()
    scores = MaxSoftmax(model).score_samples(x)
    assert scores == pytest.approx(wanted)
    assert ((scores >= 0.25) & (scores <= 1)).all()
    lifted = MaxSoftmax(Lifted(model, 3.0)).score_samples(x)
    assert lifted == pytest.approx(scores, abs=1e-5)  # float32: a common shift of the logits is not seen
