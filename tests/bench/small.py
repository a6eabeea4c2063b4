"""Small dense models: what a chain's bookkeeping costs, replay, and many models as one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from oodlab.models import MLP, JointEnergy, WideResNet, frozen
from oodlab.samplers import LangevinChain, ReplayBuffer, Uniform, value_and_grad

from .images import fast
from .timing import Row, medians, on_one_thread

ROWS, FEATURES = 512, 19  # a batch of the segment table at full size


def table_energy() -> JointEnergy:
    """Build the network of the gamma sweep: five hidden layers of 100."""
    return JointEnergy(MLP(FEATURES, (100,) * 5, 1, nn.SiLU))


def bookkeeping_row() -> Row:
    """Langevin chain of a table's model against nothing but its forward pass and input gradient."""
    torch.manual_seed(0)
    model, x = table_energy(), torch.randn(ROWS, FEATURES)
    chain = LangevinChain(100, step_size=1.0, noise_std=0.01)

    def bare() -> None:
        for _ in range(100):
            value_and_grad(model.log_density, x)

    with on_one_thread(), frozen(model):
        ours, theirs = medians(lambda: chain(model.log_density, x), bare)
    what = f"Langevin chain, table of {FEATURES} features, batch {ROWS}, against bare gradients"
    return Row(what, "CPU, 1 thread", ours, theirs, 0.9, "the same gradients; noise and finite checks added")


def replay_row() -> Row:
    """Draw from and write to 10,000 kept images, against a 20-step chain on them."""
    torch.manual_seed(0)
    replay = ReplayBuffer(10_000, (1, 28, 28), start=Uniform(-1, 1), restart=0.05, fifo=False)
    model = JointEnergy(WideResNet(channels=1, outputs=1))
    chain = LangevinChain(20, step_size=1.0, noise_std=0.01)

    def keep() -> None:
        states, slots = replay.draw(128)
        replay.write(states, slots)

    def sample() -> Tensor:
        with frozen(model), fast(model, torch.device("cpu")):
            return chain(model.log_density, replay.states[:128])

    ours, theirs = medians(keep, sample, repeats=3)
    what = "replay, draw and write 128 of 10,000 images, against a 20-step chain of WideResNet-10-2"
    return Row(what, f"CPU, {torch.get_num_threads()} threads", ours, theirs, 100, f"{ours / theirs:.2%} of the chain")


def batched_row(models: int = 12, steps: int = 100) -> Row:
    """Chains of many small models as one batched model, against one after the other."""
    torch.manual_seed(0)
    several = [table_energy().requires_grad_(False) for _ in range(models)]
    weights, _ = torch.func.stack_module_state(several)
    weights = {name: w.detach() for name, w in weights.items()}
    base = copy.deepcopy(several[0]).to("meta")
    x = torch.randn(models, 128, FEATURES)
    chain = LangevinChain(steps, step_size=1.0, noise_std=0.0)

    def one(w: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(base.classifier, w, (x,)).logsumexp(dim=1)

    inner = {name.removeprefix("classifier."): w for name, w in weights.items()}
    together = torch.func.vmap(one)

    def batched() -> Tensor:
        return chain(lambda x: together(inner, x).flatten(), x)

    def in_turn() -> Tensor:
        return torch.stack([chain(m.log_density, own) for m, own in zip(several, x, strict=True)])

    with on_one_thread():
        error = float((batched() - in_turn()).abs().max())
        ours, theirs = medians(batched, in_turn)
    what = f"chains of {models} small models as one batched model, against one after the other"
    return Row(what, "CPU, 1 thread", ours, theirs, None, f"largest difference {error:.1g}")
