"""What every test may use: one line per model and per detector, and a folder of its own for results.

A new model or detector gets one line here; the laws of test_models and the
contract of test_detectors then run on it.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from oodlab.detectors import Detector, LogDensity, Reconstruction
from oodlab.models import MLP, Density, EnergyModel, NormalizedAutoencoder, VariationalAutoencoder

torch.set_num_threads(1)  # the tests' nets are tiny: threads only get into each other's way


class Transposed(nn.Module):
    """z -> W^T z of a linear layer x -> W x: the decoder of a linear, tied autoencoder."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self.linear.weight.T)


def linear_nae(weight: Tensor, temperature: float = 1.0) -> NormalizedAutoencoder:
    """Encoder W, decoder W^T, in W's dtype; weight (latent, D)."""
    encoder = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight.dtype)
    encoder.weight.data.copy_(weight)
    model = NormalizedAutoencoder(encoder, Transposed(encoder), latent=len(weight), temperature=temperature)
    return model.to(weight.dtype)


def smooth_nae(latent: int, *, sphere: bool = False, temperature: float = 0.5) -> NormalizedAutoencoder:
    """Build a small autoencoder of the plane with an activation that has derivatives everywhere."""
    return NormalizedAutoencoder(
        MLP(2, [16], latent, nn.SiLU),
        MLP(latent, [16], 2, nn.SiLU),
        latent=latent,
        sphere=sphere,
        temperature=temperature,
    )


def probabilistic_pca(loadings: tuple[float, float] = (1.5, -0.5), std: float = 0.7) -> VariationalAutoencoder:
    """Build a linear VAE whose q(z | x) is the exact posterior, so that its log_prob has no noise.

    In float64, as it is exact only there.
    """
    w = torch.tensor(loadings, dtype=torch.float64)
    precision = 1 + float(w @ w) / std**2
    encoder, decoder = nn.Linear(2, 2).double(), nn.Linear(1, 2).double()
    encoder.weight.data.copy_(torch.stack([w / std**2 / precision, 0 * w]))
    encoder.bias.data.copy_(torch.tensor([0.0, -math.log(precision)], dtype=torch.float64))
    decoder.weight.data.copy_(w[:, None])
    decoder.bias.data.zero_()
    model = VariationalAutoencoder(encoder, decoder, latent=1, samples=3).double()
    model.log_std.data.fill_(math.log(std))
    return model


def near_a_line(n: int, generator: torch.Generator) -> Tensor:
    """Points of the plane whose second coordinate is almost zero."""
    return torch.randn(n, 2, generator=generator) * torch.tensor([1.0, 0.05])


def far_from_the_line(n: int, generator: torch.Generator) -> Tensor:
    """Points of the plane whose second coordinate is about 3."""
    return near_a_line(n, generator) + torch.tensor([0.0, 3.0])


def line() -> NormalizedAutoencoder:
    """Reconstruct the first axis exactly and nothing else."""
    return linear_nae(torch.tensor([[1.0, 0.0]]))


MODELS = {  # name: (build a small one, shape of one input)
    "NAE": (lambda: smooth_nae(3), (2,)),
    "NAE on the circle": (lambda: smooth_nae(2, sphere=True), (2,)),
    "VAE": (probabilistic_pca, (2,)),
}

DETECTORS = {  # name: (build a fitted one, easy in-distribution inputs, easy OOD inputs)
    "LogDensity": (lambda: LogDensity(line(), event_shape=(2,)), near_a_line, far_from_the_line),
    "Reconstruction": (lambda: Reconstruction(line(), event_shape=(2,)), near_a_line, far_from_the_line),
}


PLANE_DENSITIES = [name for name, (build, shape) in MODELS.items() if shape == (2,) and isinstance(build(), Density)]


def built(name: str) -> EnergyModel:
    """Build a model of the list with the same weights at every call, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[name][0]().double()


@pytest.fixture(params=MODELS)
def model_and_input(request: pytest.FixtureRequest, generator: torch.Generator) -> tuple[EnergyModel, Tensor]:
    """Return each model of the kit with seven inputs."""
    shape = MODELS[request.param][1]
    return built(request.param), torch.randn(7, *shape, generator=generator, dtype=torch.float64)


@pytest.fixture(params=PLANE_DENSITIES)
def plane_density(request: pytest.FixtureRequest) -> Density:
    """Return each normalised density of the plane."""
    return built(request.param)


@pytest.fixture(params=DETECTORS)
def detector_and_inputs(request: pytest.FixtureRequest, generator: torch.Generator) -> tuple[Detector, Tensor, Tensor]:
    """Return each detector of the kit with an easy pair of 50 inputs each: (detector, in, out)."""
    build, inside, outside = DETECTORS[request.param]
    return build(), inside(50, generator), outside(50, generator)


@pytest.fixture
def generator() -> torch.Generator:
    """Return the source of a test's randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _own_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test's checkpoints and figures out of the checkout, and the batch runner out of the test."""
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("OODLAB_FIGURES", raising=False)
    monkeypatch.delenv("OODLAB_PROGRESS", raising=False)
    monkeypatch.delenv("OODLAB_ANEW", raising=False)
