"""CUDA graphs: every objective's step is static and may be replayed, and a step that is not static is detected."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import flow_of_the_plane, mixture_autoencoder, reencoding_autoencoder, smooth_nae, vector_quantised
from torch import Tensor, nn

from oodlab.graphs import Replayed, Trace, host_may_look, to_be_replayed
from oodlab.models import MLP, EnergyWithGenerator, JointEnergy, NoisyGenerator, TableGenerator
from oodlab.objectives import (
    AdversarialReencoding,
    ContrastiveDivergence,
    FromData,
    FromReplay,
    Joint,
    MixtureLikelihood,
    NormalizedLikelihood,
    OnManifold,
    PenalisedLikelihood,
    SlicedScoreMatching,
    VariationalLikelihood,
    VectorQuantisation,
    WassersteinMMD,
    denoising,
    reconstruction,
)
from oodlab.samplers import (
    Annealed,
    Box,
    ClipElements,
    LangevinChain,
    MalaChain,
    Normal,
    RejectOutside,
    ReplayBuffer,
    Uniform,
    langevin,
)
from oodlab.training import Adam, fit, loop, run
from oodlab.training.batches import Fresh

CHAIN = LangevinChain(12, 0.01, noise_std=Annealed(0.1), clip=ClipElements(1.0), bounds=Box(-3, 3))


def energy() -> JointEnergy:
    return JointEnergy(MLP(2, [8], 3, nn.SiLU))


def slots(classes: int = 1) -> ReplayBuffer:
    return ReplayBuffer(12, (2,), start=Uniform(-1, 1), restart=0.1, fifo=False, classes=classes)


def ring() -> ReplayBuffer:
    return ReplayBuffer(12, (2,), start=Uniform(-1, 1), restart=0.1, fifo=True)


def with_generator() -> EnergyWithGenerator:
    return EnergyWithGenerator(energy(), NoisyGenerator(TableGenerator(3, [8], 2), 3, std=0.1, proposal_std=0.1))


def on_manifold() -> OnManifold:
    latent = ReplayBuffer(12, (3,), start=Normal(), restart=0.1, fifo=True)
    return OnManifold(LangevinChain(3, 0.1), MalaChain(3, 0.01, bounds=RejectOutside(-3, 3)), latent)


VERA = {"entropy_weight": 0.1, "proposals": 2, "gradient_penalty": 0.1, "std_bounds": (0.01, 0.3)}
STEPS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "CD": (energy, lambda: ContrastiveDivergence(FromData(CHAIN), l2=1.0)),
    "PCD, slots": (energy, lambda: ContrastiveDivergence(FromReplay(CHAIN, slots()))),
    "PCD, ring": (energy, lambda: ContrastiveDivergence(FromReplay(CHAIN, ring()))),
    "PCD by class": (energy, lambda: ContrastiveDivergence(FromReplay(CHAIN, slots(3)))),
    "JEM": (energy, lambda: Joint(ContrastiveDivergence(FromReplay(CHAIN, slots())), gamma=0.5)),
    "NAE-OMI": (lambda: smooth_nae(3), lambda: NormalizedLikelihood(on_manifold())),
    "AE": (lambda: smooth_nae(3), lambda: partial(reconstruction, encoder_l2=1e-4)),
    "DAE": (lambda: smooth_nae(3), lambda: denoising),
    "WAE": (lambda: smooth_nae(3), lambda: WassersteinMMD(0.1)),
    "VQ": (vector_quantised, VectorQuantisation),
    "mixture": (mixture_autoencoder, MixtureLikelihood),
    "adversarial": (reencoding_autoencoder, AdversarialReencoding),
    "SSM": (energy, SlicedScoreMatching),
    "VERA": (with_generator, lambda: VariationalLikelihood(**VERA)),
    "likelihood": (flow_of_the_plane, lambda: PenalisedLikelihood(0.0, space="input")),
    "mass, per sample": (flow_of_the_plane, lambda: PenalisedLikelihood(2.0, space="input")),
    "mass, batch": (flow_of_the_plane, lambda: PenalisedLikelihood(2.0, "batch", space="input")),
    "mass, as released": (flow_of_the_plane, lambda: PenalisedLikelihood(2.0, "released", space="input")),
}


def step(name: str, generator: torch.Generator) -> tuple[Replayed, tuple[Tensor, Tensor]]:
    """Build a training step's first half as `fit` composes it, and a batch for it."""
    torch.manual_seed(0)
    build, objective_of = STEPS[name]
    model, objective = build(), objective_of()

    def gradients(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        parts = objective(model, x, y, generator=generator)
        model.zero_grad(set_to_none=True)
        parts["loss"].backward()
        return {part: value.detach() for part, value in parts.items()}

    batch = torch.randn(4, 2, generator=generator), torch.randint(3, (4,), generator=generator)
    return Replayed(gradients, generator), batch


@pytest.mark.parametrize("name", STEPS)
def test_every_objectives_step_is_static(name: str, generator: torch.Generator) -> None:
    """Operations and their numbers are the same at every call, and no value is read back by the host."""
    replayed, batch = step(name, generator)
    for _ in range(8):
        replayed(*batch)
    assert replayed._static, replayed._trace.reads


def test_a_ring_of_replay_states_is_static_only_once_it_is_full(generator: torch.Generator) -> None:
    replayed, batch = step("PCD, ring", generator)  # 12 places, 4 a call
    seen = []
    for _ in range(8):
        replayed(*batch)
        seen.append(replayed._static)
    assert seen == [False] * 7 + [True]  # looked at after calls 1, 2, 4 and 8; full from 3 on


def changing() -> Callable[[Tensor], Tensor]:
    factor = [0]

    def times_its_call(x: Tensor) -> Tensor:
        factor[0] += 1
        return x * factor[0]

    return times_its_call


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * float(x.sum()),
        lambda x: x if (x > -9).all() else -x,
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0, x, 0.0).unique(),
        changing(),
    ],
    ids=["float", "if", "mask", "nonzero", "unique", "another number each time"],
)
def test_a_function_that_is_not_static_is_detected_and_not_replayed(
    function: Callable[[Tensor], Tensor], generator: torch.Generator
) -> None:
    replayed = Replayed(lambda x: {"y": function(x)})
    for _ in range(8):
        replayed(torch.randn(5, generator=generator))
    assert not replayed._static


def test_backward_passes_are_part_of_the_trace_of_a_step(generator: torch.Generator) -> None:
    x = torch.randn(3, generator=generator, requires_grad=True)
    with Trace() as forward:
        y = x.tanh().sum()
    with Trace() as both:
        x.tanh().sum().backward()
    assert y.isfinite()
    assert {str(name[0]) for name in both.operations} - {str(name[0]) for name in forward.operations} >= {
        "aten.tanh_backward.default"
    }


@pytest.mark.parametrize("bounds", [None, Box(-1, 1), RejectOutside(-1, 1)])
def test_a_diverged_chain_turns_to_nan_where_the_host_may_not_read_values(
    bounds: Any, generator: torch.Generator
) -> None:
    """Bounds would hide the divergence: a clamp makes infinity finite, and a rejecting chain stays where it is."""
    start = torch.rand(4, 2, generator=generator)

    def chain(gradient: Callable[[Tensor], Tensor]) -> Tensor:
        return langevin(gradient, start, steps=12, step_size=0.1, bounds=bounds, generator=generator)

    assert host_may_look()
    with to_be_replayed():
        assert not host_may_look()
        assert chain(lambda x: x * math.inf).isnan().all()
        assert chain(lambda x: -x).isfinite().all()
    with pytest.raises(FloatingPointError):
        chain(lambda x: x * math.inf)


def test_a_step_with_random_numbers_of_another_generator_is_not_static(generator: torch.Generator) -> None:
    replayed = Replayed(lambda x: {"y": x + torch.randn(x.shape, generator=generator)}, torch.Generator())
    for _ in range(8):
        replayed(torch.zeros(5))
    assert not replayed._static


def test_a_run_captures_its_graph_anew_after_a_roll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph's host values, such as how full a replay was, belong to the state that the roll-back undoes."""
    made = []
    whole = loop.gradients_of
    monkeypatch.setattr(loop, "gradients_of", lambda *parts: made.append(parts) or whole(*parts))
    calls = [0]

    def fails_once(model: nn.Module, x: Tensor, y: Tensor | None = None, **run: Any) -> dict[str, Tensor]:
        calls[0] += 1
        if calls[0] == 3:
            raise FloatingPointError("provoked")
        return {"loss": model.log_density(x).mean()}

    fit(
        energy(),
        fails_once,
        Fresh(lambda n, generator: torch.randn(n, 2, generator=generator), 4),
        optimiser=Adam(lr=1e-3),
        steps=6,
        device="cpu",
        show_progress=False,
    )
    assert len(made) == 2


@pytest.mark.parametrize("name", STEPS)
def test_a_training_step_is_static_from_the_second_step_on(name: str) -> None:
    """Steps run as in fit, with the optimiser's zero_grad; a replay buffer must be full first."""
    torch.manual_seed(0)
    build, objective_of = STEPS[name]
    model, generator, traces = build(), torch.Generator().manual_seed(0), []
    own = SimpleNamespace(model=model, objective=objective_of(), optimiser=Adam(lr=1e-3)(model), generator=generator)
    gradients = run.gradients_of(own, torch.float32, torch.device("cpu"), None, "auto")
    for _ in range(6):
        with to_be_replayed(), Trace() as trace:
            gradients(x=torch.randn(6, 2), y=torch.randint(3, (6,)))
        own.optimiser.step()
        traces.append(trace)
    assert traces[-1].operations == traces[-2].operations
    assert not traces[-1].reads


# ------------------------------------------------------------------------------ on a GPU


@pytest.mark.gpu
def test_a_captured_chain_has_the_exact_stationary_variance_of_its_recursion() -> None:
    """On N(0, 1) with step h the variance is v = 2 / (2 - h), within five standard errors."""
    n, h, generator = 20_000, 0.5, torch.Generator("cuda").manual_seed(0)
    replayed = Replayed(
        lambda x: {"x": langevin(lambda x: -x, x, steps=60, step_size=h, generator=generator)}, generator
    )
    start = torch.randn(n, 1, device="cuda")
    drawn = [replayed(start)["x"] for _ in range(6)]
    assert replayed.captured
    assert not torch.equal(drawn[-1], drawn[-2])
    v = 2 / (2 - h)
    assert abs(float(drawn[-1].var()) - v) < 5 * v * math.sqrt(2 / n)


@pytest.mark.gpu
def test_training_with_and_without_graph_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise the two trainings take the same steps; float32 sums in another order may differ in last digits."""
    made: list[Replayed] = []
    monkeypatch.setattr(run, "Replayed", lambda *arguments: made.append(Replayed(*arguments)) or made[-1])

    def weights(graph: str) -> Tensor:
        torch.manual_seed(0)
        model = energy()
        chain = LangevinChain(5, 0.1, noise_std=0.0)
        fit(
            model,
            ContrastiveDivergence(FromData(chain), l2=1.0),
            Fresh(lambda n, generator: torch.randn(n, 2, generator=generator.manual_seed(0)), 16),
            optimiser=Adam(lr=1e-3),
            steps=40,
            device="cuda",
            graph=graph,
            show_progress=False,
        )
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.allclose(weights("auto"), weights("off"), atol=1e-4)
    assert [graph.captured for graph in made] == [True]


@pytest.mark.gpu
def test_inputs_of_another_shape_end_the_replay_of_a_graph_and_keep_gradients_right() -> None:
    weight = torch.ones(3, device="cuda", requires_grad=True)

    def gradients(x: Tensor) -> dict[str, Tensor]:
        weight.grad = None
        loss = (weight * x).sum()
        loss.backward()
        return {"loss": loss.detach()}

    replayed = Replayed(gradients)
    for i in range(6):
        replayed(torch.full((2, 3), float(i), device="cuda"))
    assert replayed.captured
    for rows, value in [(2, 7.0), (1, 8.0), (2, 9.0)]:
        replayed(torch.full((rows, 3), value, device="cuda"))
        assert weight.grad.tolist() == [rows * value] * 3
    assert not replayed.captured
