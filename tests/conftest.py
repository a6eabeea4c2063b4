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

from oodlab.detectors import (
    ApproximateMass,
    Detector,
    LogDensity,
    LogSumExp,
    MaxSoftmax,
    MixtureLogDensity,
    Reconstruction,
    Reencoding,
    Typicality,
)
from oodlab.models import (
    MLP,
    Autoencoder,
    Conv28Decoder,
    Conv28Encoder,
    Density,
    EnergyModel,
    EnergyWithGenerator,
    Flow,
    JointEnergy,
    LinearNAE,
    MixtureAutoencoder,
    NoisyGenerator,
    ReencodingAutoencoder,
    SmallDecoder,
    SmallEncoder,
    TableGenerator,
    VariationalAutoencoder,
    VectorQuantisedAutoencoder,
    WideResNet,
    image_realnvp,
    linear_autoencoder,
    vector_realnvp,
)
from oodlab.models.flows import ActNorm
from oodlab.studies.nae.eight_gaussians.setting import STUDY as EIGHT_GAUSSIANS
from oodlab.study import Recipe

torch.set_num_threads(1)  # the tests' nets are tiny: threads only get into each other's way


def plane_recipe(name: str) -> Recipe:
    """Return a training of nae/eight_gaussians at its smallest."""
    study = EIGHT_GAUSSIANS.at("smoke")
    return study.recipes[study.tasks[0].name, name, "model"]


def smooth_nae(latent: int, *, sphere: bool = False, temperature: float = 0.5) -> Autoencoder:
    """Build a small autoencoder of the plane with an activation that has derivatives everywhere."""
    return Autoencoder(
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


def conv28() -> Autoencoder:
    """Build a narrow convolutional autoencoder of 28 x 28 images with its codes on the sphere."""
    return Autoencoder(Conv28Encoder(3, width=2), Conv28Decoder(3, width=2), latent=3, sphere=True)


def conv_vae() -> VariationalAutoencoder:
    """Build a narrow variational autoencoder of 14 x 14 images."""
    encoder, decoder = SmallEncoder(6, width=2), SmallDecoder(3, width=2)
    return VariationalAutoencoder(encoder, decoder, latent=3, samples=3, code_shape=(3, 1, 1))


def vector_quantised() -> VectorQuantisedAutoencoder:
    """Build a small autoencoder of the plane with a codebook of eight entries."""
    model = VectorQuantisedAutoencoder(MLP(2, [16], 3, nn.SiLU), MLP(3, [16], 2, nn.SiLU), latent=3, codes=8)
    model.codebook.data *= 5
    return model


def mixture_autoencoder(seed: int = 0) -> MixtureAutoencoder:
    """Reconstruct the first axis exactly and nothing else; two components; or, by another seed, some smooth network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        exact = line()
        pair = (MLP(2, [8], 1, nn.SiLU), MLP(1, [8], 2, nn.SiLU)) if seed else (exact.encoder, exact.decoder)
        return MixtureAutoencoder(*pair, MLP(3, [8], 2, nn.Tanh))


def reencoding_autoencoder() -> ReencodingAutoencoder:
    """Build a small one of the plane."""
    networks = [MLP(2, [8], 2, nn.SiLU), MLP(2, [8], 2, nn.SiLU), MLP(2, [8], 2, nn.SiLU), MLP(2, [8], 4, nn.SiLU)]
    return ReencodingAutoencoder(*networks, features=4)


def first_axis_twice() -> ReencodingAutoencoder:
    """Encode a point as itself, reconstruct its first coordinate, encode that as itself: the second one is lost."""
    model = ReencodingAutoencoder(nn.Identity(), nn.Linear(2, 2), nn.Identity(), nn.Identity(), features=2)
    model.decoder.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    model.decoder.bias.data.zero_()
    return model


def near_a_line(n: int, generator: torch.Generator) -> Tensor:
    """Points of the plane whose second coordinate is almost zero."""
    return torch.randn(n, 2, generator=generator) * torch.tensor([1.0, 0.05])


def far_from_the_line(n: int, generator: torch.Generator) -> Tensor:
    """Points of the plane whose second coordinate is about 3."""
    return near_a_line(n, generator) + torch.tensor([0.0, 3.0])


def near_the_decision(n: int, generator: torch.Generator) -> Tensor:
    """Points between whose classes two_logits can hardly decide: second coordinate about 2."""
    return near_a_line(n, generator) + torch.tensor([0.0, 2.0])


def line() -> Autoencoder:
    """Reconstruct the first axis exactly and nothing else."""
    return linear_autoencoder(torch.tensor([[1.0, 0.0]]))


def joint_energy() -> JointEnergy:
    """Build a joint energy of tiny grey images with five classes, from a norm-free wide residual network."""
    return JointEnergy(WideResNet(channels=1, outputs=5, width=2, widen=1, activation=nn.SiLU))


def two_logits() -> nn.Linear:
    """Classify points of the plane by their second coordinate: logits 10 - 5 x_2 and 0."""
    classifier = nn.Linear(2, 2)
    classifier.weight.data.copy_(torch.tensor([[0.0, -5.0], [0.0, 0.0]]))
    classifier.bias.data.copy_(torch.tensor([10.0, 0.0]))
    return classifier


def randomised(flow: Flow, std: float = 0.2) -> Flow:
    """Move every weight by N(0, std^2): a new flow's couplings are the identity."""
    for parameter in flow.parameters():
        parameter.data += std * torch.randn_like(parameter)
    return flow


def flow_of_the_plane() -> Flow:
    """Build a vector flow with weights that keep it within a few units of the origin."""
    return randomised(vector_realnvp(2, couplings=4, hidden=(16,)))


def flow_of_images(**options: object) -> Flow:
    """Build a small two-scale flow of 2 x 4 x 4 images, on the whole line unless told otherwise."""
    settings = {"scales": 2, "blocks": 1, "width": 4, "activation": nn.SiLU, "logit": False, **options}
    return randomised(image_realnvp((2, 4, 4), **settings))


def gaussian_along_a_line() -> Flow:
    """Build N(0, diag(1, 0.05^2)) as a flow of one ActNorm."""
    layer = ActNorm(2)
    layer.log_scale.data.copy_(torch.tensor([0.0, -math.log(0.05)]))
    layer.initialised.fill_(True)
    layer.load_state_dict(layer.state_dict())
    return Flow((2,), [[layer]])


def energy_with_generator() -> EnergyWithGenerator:
    """Build a smooth energy of the plane beside a generator that has no part in it."""
    q = NoisyGenerator(TableGenerator(3, [8], 2), 3, std=0.1, proposal_std=0.1)
    return EnergyWithGenerator(JointEnergy(MLP(2, [8], 3, nn.SiLU)), q)


MODELS = {  # name: (build a small one, shape of one input)
    "NAE": (lambda: smooth_nae(3), (2,)),
    "NAE on the circle": (lambda: smooth_nae(2, sphere=True), (2,)),
    "convolutional NAE": (conv28, (1, 28, 28)),
    "linear NAE": (lambda: LinearNAE(linear_autoencoder(torch.tensor([[0.4, -0.3], [0.1, 1.6]]))), (2,)),
    "VAE": (probabilistic_pca, (2,)),
    "convolutional VAE": (conv_vae, (1, 14, 14)),
    "autoencoder with a codebook": (vector_quantised, (2,)),
    "flow of the plane": (flow_of_the_plane, (2,)),
    "flow of images": (flow_of_images, (2, 4, 4)),
    "joint energy": (joint_energy, (1, 8, 8)),
    "energy with a generator": (energy_with_generator, (2,)),
}

DETECTORS = {  # name: (build a fitted one, easy in-distribution inputs, easy OOD inputs)
    "LogDensity": (lambda: LogDensity(line(), event_shape=(2,)), near_a_line, far_from_the_line),
    "ApproximateMass": (
        lambda: ApproximateMass(gaussian_along_a_line(), event_shape=(2,)),
        near_a_line,
        far_from_the_line,
    ),
    "Typicality": (
        lambda: Typicality(gaussian_along_a_line(), event_shape=(2,)).fit(
            near_a_line(100, torch.Generator().manual_seed(1))
        ),
        near_a_line,
        far_from_the_line,
    ),
    "Reconstruction": (lambda: Reconstruction(line(), event_shape=(2,)), near_a_line, far_from_the_line),
    "Reencoding": (lambda: Reencoding(first_axis_twice(), event_shape=(2,)), near_a_line, far_from_the_line),
    "MixtureLogDensity": (
        lambda: MixtureLogDensity(mixture_autoencoder(), event_shape=(2,)).fit(
            near_a_line(100, torch.Generator().manual_seed(1))
        ),
        near_a_line,
        far_from_the_line,
    ),
    "LogSumExp": (lambda: LogSumExp(two_logits(), event_shape=(2,)), near_a_line, far_from_the_line),
    "MaxSoftmax": (lambda: MaxSoftmax(two_logits(), event_shape=(2,)), near_a_line, near_the_decision),
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked gpu where there is none."""
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def _own_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test's checkpoints, rows and figures out of the checkout, kept rows and the batch runner out of the test."""
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OODLAB_ROWS", str(tmp_path / "rows"))
    monkeypatch.delenv("OODLAB_FIGURES", raising=False)
    monkeypatch.delenv("OODLAB_PROGRESS", raising=False)
    monkeypatch.delenv("OODLAB_ANEW", raising=False)
