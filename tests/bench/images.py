"""Chains and training steps of image models: bfloat16, channels-last, on a GPU captured as a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from oodlab.detectors.base import in_float32
from oodlab.graphs import Replayed
from oodlab.models import (
    Autoencoder,
    Conv28Decoder,
    Conv28Encoder,
    EnergyModel,
    JointEnergy,
    WideResNet,
    frozen,
    stein_score,
)
from oodlab.objectives import NormalizedLikelihood, OnManifold, PenalisedLikelihood
from oodlab.objectives.negatives import Negatives
from oodlab.samplers import LangevinChain, ReplayBuffer, Sphere
from oodlab.studies.mass.epoch_curves.setting import STUDY
from oodlab.training import Adam
from oodlab.training.devices import pick_precision

from . import plain
from .timing import Row, devices, medians, no_gpu, where

STEPS = 5  # of a chain that is timed: its cost is that of its steps
FEW = 3  # repeats of what takes seconds


@contextlib.contextmanager
def fast(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Compute in the precision that `fit` picks."""
    dtype = pick_precision("auto", model, device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        yield


KINDS = ("cpu", "cuda")  # of devices


def on_devices(
    what: str, least: dict[str, float], row: Callable[[torch.device], Row], kinds: Sequence[str]
) -> list[Row]:
    """Return the row of every device of these kinds; without a GPU its row says so."""
    rows = [row(device) for device in devices() if device.type in kinds]
    absent = "cuda" in kinds and not torch.cuda.is_available()
    return [*rows, no_gpu(what, least["cuda"])] if absent else rows


def replayed(step: Callable[[Tensor], dict[str, Tensor]], x: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the step as the kit runs it; on a GPU it is captured now."""
    if not x.is_cuda:
        return step
    graph = Replayed(step)
    for _ in range(20):
        graph(x)
        if graph.captured:
            return graph
    raise RuntimeError(f"the benchmark's step is not static: it reads {graph._trace.reads or 'nothing, but changes'}.")


def score_error(model: EnergyModel, x: Tensor) -> float:
    """Return the relative error of the kit's input gradient against float32."""
    with frozen(model):
        with in_float32():
            exact = stein_score(model, x)
        with fast(model, x.device):
            return float((stein_score(model, x) - exact).norm() / exact.norm())


def chain_rows(kinds: Sequence[str] = KINDS) -> list[Row]:
    """Langevin chain of WideResNet-10-2 on 128 images of 28 x 28."""
    what = f"Langevin chain, WideResNet-10-2, 1x28x28, batch 128, {STEPS} steps"
    least = {"cpu": 3.5, "cuda": 4.0}
    chain = LangevinChain(STEPS, step_size=1.0, noise_std=0.01)

    def row(device: torch.device) -> Row:
        torch.manual_seed(0)
        model = JointEnergy(WideResNet(channels=1, outputs=1)).to(device)
        ordinary = plain.plain_copy(model)
        x = 2 * torch.rand(128, 1, 28, 28, device=device) - 1

        def run(x: Tensor) -> dict[str, Tensor]:
            with frozen(model), fast(model, device):
                return {"x": chain(model.log_density, x)}

        kit = replayed(run, x)
        ours, theirs = medians(lambda: kit(x), lambda: plain.langevin(ordinary, x, STEPS, 1.0, 0.01))
        accuracy = f"gradient within {score_error(model, x):.1%} of float32's"
        return Row(what, where(device), ours, theirs, least[device.type], accuracy)

    return on_devices(what, least, row, kinds)


def _gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _training_steps(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor], dict[str, Tensor]],
    plain_loss: Callable[[nn.Module, Tensor], dict[str, Tensor]],
    x: Tensor,
) -> tuple[float, float]:
    """Time training steps, forward, backward and Adam: the kit's and the plain ones."""
    ordinary = plain.plain_copy(model)
    optimiser, plain_optimiser = Adam(lr=1e-5)(model), Adam(lr=1e-5)(ordinary)

    def gradients(x: Tensor) -> dict[str, Tensor]:
        with fast(model, x.device):
            parts = loss(model, x)
        optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()
        return {"loss": parts["loss"].detach()}

    compute = replayed(gradients, x)

    def kit() -> None:
        compute(x)
        optimiser.step()

    def ordinary_step() -> None:
        with in_float32():
            plain_optimiser.zero_grad()
            plain_loss(ordinary, x)["loss"].backward()
            plain_optimiser.step()

    ours, theirs = medians(kit, ordinary_step, repeats=FEW)
    return ours, theirs


def mass_rows(kinds: Sequence[str] = KINDS) -> list[Row]:
    """One update with the penalty on the approximate mass: double backward through 10 M parameters."""
    task = next(task for task in STUDY.tasks if task.inside == "fashion_mnist")  # its data are not read
    method = next(method for method in STUDY.on(task) if method.name == "ReLU, per sample")
    recipe = method.trainings(task)["flow"]
    what = "training step with the mass penalty, RealNVP of 10 M parameters, batch 32"
    least = {"cpu": 1.8, "cuda": 3.0}
    objective = PenalisedLikelihood(2.0)

    def row(device: torch.device) -> Row:
        torch.manual_seed(0)
        model = recipe.model().to(device)
        for parameter in model.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)  # couplings that are not the identity
        x = torch.rand(32, 1, 28, 28, device=device)
        with in_float32():
            objective(model, x)["loss"].backward()
        exact = _gradient(model)
        model.zero_grad()
        with fast(model, device):
            loss = objective(model, x)["loss"]
        loss.backward()
        del loss  # its graph would keep the parameters' nodes on this stream, and no other could capture them
        error = float((_gradient(model) - exact).norm() / exact.norm())
        model.zero_grad()
        ours, theirs = _training_steps(model, objective, objective, x)
        return Row(what, where(device), ours, theirs, least[device.type], f"gradient within {error:.1%} of float32's")

    return on_devices(what, least, row, kinds)


class PlainNegatives(nn.Module):
    """Negatives on the manifold by plain chains, from codes kept in a list of tensors."""

    def __init__(self, codes: Tensor, latent_steps: int, steps: int) -> None:
        super().__init__()
        self.codes, self.latent_steps, self.steps = list(codes), latent_steps, steps

    def forward(self, model: Autoencoder, x: Tensor, **run: object) -> Negatives:
        """Return negatives of the batch's size."""
        chosen = torch.randint(len(self.codes), (len(x),)).tolist()
        z = plain.latent_langevin(model, torch.stack([self.codes[i] for i in chosen]), self.latent_steps, 0.2, 0.05)
        self.codes = [*self.codes[len(z) :], *z]
        start = model.decode(z).detach()
        return Negatives(plain.langevin(model, start, self.steps, 10.0, 0.05), start=start, z=z)


def nae_rows(kinds: Sequence[str] = KINDS) -> list[Row]:
    """One update of a normalized autoencoder with on-manifold initialisation."""
    latent_steps, steps, kept = 2, 6, 10_000
    what = f"NAE-OMI training step, Conv28, batch 128, {latent_steps} latent and {steps} visible steps"
    least = {"cpu": 2.5, "cuda": 3.0}

    def row(device: torch.device) -> Row:
        torch.manual_seed(0)
        model = Autoencoder(Conv28Encoder(32), Conv28Decoder(32), latent=32, sphere=True).to(device)
        codes = model.latent_start(torch.empty(kept, 32, 1, 1, device=device), None)
        replay = ReplayBuffer(kept, (32, 1, 1), start=model.latent_start, restart=0.05, fifo=True).to(device)
        replay.write(codes, codes[:, 0])  # full: a ring that fills is not static
        latent = LangevinChain(latent_steps, 0.2, noise_std=0.05, bounds=Sphere())
        visible = LangevinChain(steps, 10.0, noise_std=0.05)
        kit = NormalizedLikelihood(OnManifold(latent, visible, replay))
        x = torch.rand(128, 1, 28, 28, device=device)
        ours, theirs = _training_steps(model, kit, NormalizedLikelihood(PlainNegatives(codes, latent_steps, steps)), x)
        accuracy = f"energy's gradient within {score_error(model, x):.2%} of float32's"
        return Row(what, where(device), ours, theirs, least[device.type], accuracy)

    return on_devices(what, least, row, kinds)
