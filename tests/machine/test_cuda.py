"""What only a GPU shows: the numbers of a CPU, equal results with and without graphs, and whole trainings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DETECTORS, MODELS, built
from test_graphs import STEPS
from torch import Tensor, nn

from oodlab import study
from oodlab.detectors import ApproximateMass, LogDensity
from oodlab.graphs import Replayed
from oodlab.models import (
    MLP,
    Autoencoder,
    Conv28Decoder,
    Conv28Encoder,
    EnergyWithGenerator,
    JointEnergy,
    NoisyGenerator,
    TableGenerator,
    WideResNet,
    frozen,
    image_realnvp,
    stein_score,
)
from oodlab.objectives.likelihood import PenalisedLikelihood
from oodlab.objectives.settings import (
    AgainstGenerator,
    Contrastive,
    ManifoldChains,
    Normalised,
    ReplayChains,
    ScoreMatching,
)
from oodlab.samplers import Box, LangevinChain, Sphere
from oodlab.studies.mass.epoch_curves.setting import STUDY
from oodlab.training import Adam, Recipe, Result, fit, loop, train_or_load
from oodlab.training.batches import Fresh
from oodlab.training.stored import ran

pytestmark = pytest.mark.gpu

STEPS_OF_CAPTURE = 20  # by then a full replay has proved static and was captured

# ------------------------------------------------------------------------------ as on a CPU


@pytest.mark.parametrize("name", MODELS)
def test_a_models_energy_and_gradient_on_a_gpu_are_those_of_the_cpu(name: str) -> None:
    """In float64, sums in another order differ in the last of 16 digits; a sampled bound has its own noise."""
    model, shape = built(name).eval(), MODELS[name][1]
    x = torch.rand(7, *shape, dtype=torch.float64)
    if "VAE" in name:  # importance samples: other random numbers on each device
        assert model.cuda().log_density(x.cuda()).isfinite().all()
        return
    expected, slope = model.log_density(x).detach(), stein_score(model, x)
    model.cuda()
    there = model.log_density(x.cuda()).detach().cpu()
    print(f"{name}: largest difference {float((there - expected).abs().max()):.1e}")
    close = 1e-7 if "flow of images" in name else 1e-9  # 2.6e-8 seen: weight norm has a kernel of its own
    assert torch.allclose(there, expected, rtol=close, atol=close)
    assert torch.allclose(stein_score(model, x.cuda()).cpu(), slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detectors_scores_on_a_gpu_are_those_of_the_cpu(name: str, generator: torch.Generator) -> None:
    """Dense networks compute in float32 without TF32 in matrix products, so six digits agree."""
    build, inside, outside = DETECTORS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build()
    for x in (inside(50, generator), outside(50, generator)):
        here = detector.score_samples(x)
        detector.model.cuda()
        there = detector.score_samples(x)
        detector.model.cpu()
        assert torch.allclose(torch.from_numpy(there), torch.from_numpy(here), rtol=1e-4, atol=1e-4)


def test_a_detector_fitted_on_a_gpu_scores_on_the_gpu(generator: torch.Generator) -> None:
    for name, (build, inside, _) in DETECTORS.items():
        detector = build()
        detector.model.cuda()
        scores = detector.fit(inside(100, generator), torch.arange(100) % 2).score_samples(inside(50, generator))
        assert len(scores) == 50, name


def test_scores_of_image_networks_on_a_gpu_are_those_of_the_cpu() -> None:
    """Scores are in float32, also where torch's default for convolutions is TF32, whose factors have three digits."""
    torch.manual_seed(0)
    flow = image_realnvp((1, 28, 28), scales=2, blocks=1, width=16)
    for parameter in flow.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    energy = JointEnergy(WideResNet(channels=1, outputs=1))
    x = torch.rand(64, 1, 28, 28)
    for make in (lambda: LogDensity(flow), lambda: ApproximateMass(flow), lambda: LogDensity(energy)):
        detector = make()
        here = torch.from_numpy(detector.score_samples(x))
        detector.model.cuda()
        there = torch.from_numpy(detector.score_samples(x))
        assert torch.backends.cudnn.allow_tf32
        detector.model.cpu()
        error = float((there - here).norm() / here.norm())
        print(f"{type(detector).__name__} of {type(detector.model).__name__}: relative error {error:.1e}")
        assert error < 1e-4


def test_bfloat16_chains_stay_close_to_float32_chains() -> None:
    """bfloat16 has 8 bits: a gradient is off by some percent, and a chain by that share of its drift, not of its noise."""
    torch.manual_seed(0)
    model = JointEnergy(WideResNet(channels=1, outputs=1)).cuda()
    x = 2 * torch.rand(128, 1, 28, 28, device="cuda") - 1
    chain = LangevinChain(20, step_size=10.0, noise_std=0.005)

    def end(dtype: torch.dtype) -> Tensor:
        generator = torch.Generator("cuda").manual_seed(0)
        with frozen(model), torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return chain(model.log_density, x, generator=generator)

    exact, fast = end(torch.float32), end(torch.bfloat16)
    drift = exact - x
    error = float((fast - exact).norm() / drift.norm())
    print(f"bfloat16 chain: {error:.1%} of the way from its start")
    assert fast.dtype == torch.float32
    assert error < 0.2


# ------------------------------------------------------------------------------ as a graph


@pytest.mark.parametrize("name", STEPS)
def test_every_objectives_step_gives_the_same_results_with_and_without_a_graph(name: str) -> None:
    """A graph draws the same random numbers as the step without a graph; sums may differ in the last digits."""

    def gradients_of(graph: bool) -> tuple[list[Tensor], bool]:
        torch.manual_seed(0)
        build, objective_of = STEPS[name]
        model, objective = build().cuda(), objective_of()
        if isinstance(objective, nn.Module):
            objective.cuda()
        generator = torch.Generator("cuda").manual_seed(0)

        def gradients(x: Tensor, y: Tensor) -> dict[str, Tensor]:
            parts = objective(model, x, y, generator=generator)
            model.zero_grad(set_to_none=True)
            parts["loss"].backward()
            return {part: value.detach() for part, value in parts.items()}

        step, seen = Replayed(gradients, generator) if graph else gradients, []
        for i in range(STEPS_OF_CAPTURE):
            x = torch.randn(4, 2, generator=torch.Generator().manual_seed(i)).cuda()
            parts = step(x, torch.arange(4, device="cuda") % 3)
            slopes = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            seen.append(torch.cat([parts["loss"].reshape(1), *slopes]).clone())
        return seen, graph and step.captured

    (graphs, captured), (plain, _) = gradients_of(True), gradients_of(False)
    assert captured
    for i, (one, other) in enumerate(zip(graphs, plain, strict=True)):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4), (i, float((one - other).abs().max()))


def test_image_chains_are_the_same_with_and_without_a_graph() -> None:
    """Chains run in bfloat16 as in trainings, with dropout-free convolutions and cuDNN's choices."""
    torch.manual_seed(0)
    model = JointEnergy(WideResNet(channels=1, outputs=1)).cuda()
    x = 2 * torch.rand(32, 1, 28, 28, device="cuda") - 1
    chain = LangevinChain(10, step_size=1.0, noise_std=0.01, bounds=Box(-1, 1))

    def ends(graph: bool) -> list[Tensor]:
        generator = torch.Generator("cuda").manual_seed(0)

        def run(x: Tensor) -> dict[str, Tensor]:
            with frozen(model), torch.autocast("cuda", dtype=torch.bfloat16):
                return {"x": chain(model.log_density, x, generator=generator)}

        step = Replayed(run, generator) if graph else run
        found = [step(x)["x"].clone() for _ in range(6)]
        assert not graph or step.captured
        return found

    for one, other in zip(ends(True), ends(False), strict=True):
        assert torch.allclose(one, other, atol=2e-2)


# ------------------------------------------------------------------------------ trainings


def ring_of_images(n: int, generator: torch.Generator) -> Tensor:
    """Bright frames with a dark middle, in [0, 1], with noise."""
    x = torch.full((n, 1, 28, 28), 0.8)
    x[:, :, 8:20, 8:20] = 0.2
    return (x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def two_spots(n: int, generator: torch.Generator) -> Tensor:
    """Points of the plane near (1, 1) and (-1, -1)."""
    side = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
    return side + 0.2 * torch.randn(n, 2, generator=generator)


def smooth_energy() -> JointEnergy:
    return JointEnergy(MLP(2, [32, 32], 1, nn.SiLU))


def image_autoencoder() -> Autoencoder:
    return Autoencoder(Conv28Encoder(8, width=8), Conv28Decoder(8, width=8), latent=8, sphere=True)


def small_flow() -> nn.Module:
    return image_realnvp((1, 28, 28), scales=2, blocks=1, width=8, activation=nn.SiLU)


def against_a_generator() -> EnergyWithGenerator:
    return EnergyWithGenerator(
        smooth_energy(), NoisyGenerator(TableGenerator(3, [16], 2), 3, std=0.1, proposal_std=0.1)
    )


REPLAY = ReplayChains(
    LangevinChain(10, 0.1, noise_std=0.05), (2,), capacity=256, restart=0.05, low=-2, high=2, fifo=False
)
ON_MANIFOLD = ManifoldChains(
    LangevinChain(3, 0.2, noise_std=0.05, bounds=Sphere()),
    LangevinChain(5, 1.0, noise_std=0.02, bounds=Box(0, 1)),
    capacity=256,
    restart=0.05,
    start_bounds=Box(0, 1),
    places=(1, 1),
)
PLANE, PICTURES = Fresh(two_spots, 64), Fresh(ring_of_images, 32)
RECIPES = {  # name: (recipe, watched number, whether it falls)
    "CD with replay": (
        Recipe("CD", smooth_energy, Contrastive(REPLAY, l2=0.1), PLANE, Adam(lr=1e-3), 60),
        "loss",
        False,  # of contrastive losses only that they stay finite can be said
    ),
    "NAE-OMI": (
        Recipe("NAE", image_autoencoder, Normalised(ON_MANIFOLD), PICTURES, Adam(lr=1e-3), 60),
        "error_data",
        True,
    ),
    "RealNVP with the penalty": (
        Recipe("flow", small_flow, PenalisedLikelihood(0.1), PICTURES, Adam(lr=1e-3), 40),
        "loss",
        True,
    ),
    "VERA": (
        Recipe("VERA", against_a_generator, AgainstGenerator(0.1, 4, 0.1, (0.01, 0.3)), PLANE, Adam(lr=1e-3), 60),
        "loss",
        False,
    ),
    "SSM": (Recipe("SSM", smooth_energy, ScoreMatching(2), PLANE, Adam(lr=3e-3), 80), "loss", True),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_each_kind_trains_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit chooses precision and graph; the steps are captured once."""
    made: list[Replayed] = []
    monkeypatch.setattr(loop, "gradients_of", _watched(loop.gradients_of, made))
    recipe, watched, falls = RECIPES[name]
    result = train_or_load(recipe, seed=0, device="cuda")
    course = [row[watched] for row in result.history]
    print(f"{name}: {watched} {course[0]:.3g} to {course[-1]:.3g}, {result.seconds:.1f} s, {ran(recipe, 0)}")
    assert result.finished and not result.rollbacks
    assert all(math.isfinite(value) for row in result.history for value in row.values())
    assert all(p.is_cuda and p.isfinite().all() for p in result.model.parameters())
    assert any(graph.captured for graph in made)
    assert torch.cuda.get_device_name() in ran(recipe, 0)["device"]
    if falls:
        third = len(course) // 3
        assert sum(course[-third:]) < sum(course[:third])


def _watched(build: Callable[..., Any], made: list[Replayed]) -> Callable[..., Any]:
    def gradients_of(*parts: Any) -> Any:
        made.append(build(*parts))
        return made[-1]

    return gradients_of


@pytest.mark.parametrize("name", RECIPES)
def test_an_interrupted_training_on_a_gpu_ends_near_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    """Both trainings draw the same random numbers. Equal bits are promised on a CPU only: a GPU's sums have no fixed
    order, and chains and Adam's division by small moments let the differences of a few digits grow.
    """
    recipe = replace(RECIPES[name][0], steps=30)

    def trained(folder: Path, last: int = recipe.steps) -> Result:
        torch.manual_seed(0)
        model = recipe.build({})
        done = [0]
        return fit(
            model,
            recipe.begin(model, {}),
            recipe.feed({}),
            optimiser=recipe.optimiser,
            steps=recipe.steps,
            precision="float32",
            device="cuda",
            folder=folder,
            checkpoint_every=10,
            on_step=lambda step, *_: done.append(step),
            should_stop=lambda: done[-1] >= last,
            show_progress=False,
        )

    whole = trained(tmp_path / "whole")
    part = trained(tmp_path / "parts", last=15)
    assert part.step == 15
    resumed = trained(tmp_path / "parts")
    assert resumed.step == 30
    for (key, one), other in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        far = float((one.float() - other.float()).abs().max())
        print(f"{name}: {key} differs by {far:.1e}")
        assert torch.allclose(one.float(), other.float(), rtol=1e-2, atol=2e-3), key


def test_a_study_gives_rows_that_name_the_gpu_and_the_precision() -> None:
    small = STUDY.at("smoke", dataset="embedded")
    few = replace(small, methods=_two_methods)
    rows = study.evaluate(few, few.trained(device="cuda"))
    made = rows[rows["step"] > 0]
    assert (made["device"] == torch.cuda.get_device_name()).all()
    assert (made["precision"] == "bfloat16").all()
    assert rows["auroc"].between(0, 1).all()
    assert study.evaluate(few)["kept"].all()


def _two_methods(budget: Any, source: str) -> list[Any]:
    return [one for one in STUDY.methods(budget, source) if one.name in ("ReLU, per sample", "batch norm, vanilla")]
