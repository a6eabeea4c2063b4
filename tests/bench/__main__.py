"""Print how fast the kit's parts are against code written the plain way, and keep the numbers.

Each row times both ways alternately in this process and reports the ratio of
medians (above 1: the kit is faster) with the difference of their results.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from oodlab import models, plotting, presets, workspace
from oodlab.replay import ReplayBuffer, Uniform
from oodlab.samplers import LangevinChain

REPEATS = 7


def medians(*ways: Callable[[], object]) -> list[float]:
    """Return the median seconds of each way; they take turns, so drift of the machine hits all."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(REPEATS + 1):
        for way, own in zip(ways, times, strict=True):
            started = time.perf_counter()
            way()
            own.append(time.perf_counter() - started)
    return [statistics.median(own[1:]) for own in times]  # the first warms up


def plain_langevin(
    model: models.EnergyModel, x: torch.Tensor, steps: int, step_size: float, noise: float
) -> torch.Tensor:
    """Do what published code does: parameters require gradients, one backward pass per step."""
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.log_density(x).sum(), x)
        x = x + step_size * gradient + noise * torch.randn_like(x)
    return x.detach()


def chain_row() -> dict[str, object]:
    """Langevin chain of the quick normalized autoencoder, batch 100, 30 steps."""
    torch.manual_seed(0)
    model = presets.nae.EIGHT_GAUSSIANS.runs["NAE-OMI, D_z = 3"].at("quick").model()
    start = 3 * torch.randn(100, 2)
    chain = LangevinChain(steps=30, step_size=0.005, noise_std=0.0)

    def kit() -> torch.Tensor:
        with models.frozen(model):
            return chain(model.log_density, start)

    def plain() -> torch.Tensor:
        return plain_langevin(model, start, 30, 0.005, 0.0)

    difference = float((kit() - plain()).abs().max())
    ours, theirs = medians(kit, plain)
    return {
        "what": "Langevin chain, plane, 30 steps",
        "kit (ms)": ours * 1e3,
        "plain (ms)": theirs * 1e3,
        "ratio": theirs / ours,
        "largest difference": difference,
    }


def replay_row() -> dict[str, object]:
    """Replay buffer of 10,000 states of 32 numbers: draw and write 128, against a list of tensors."""
    replay = ReplayBuffer(10_000, (32,), start=Uniform(-1, 1), restart=0.05, fifo=True)
    replay.write(torch.randn(10_000, 32), torch.arange(10_000))
    rows = list(torch.randn(10_000, 32))
    new = torch.randn(128, 32)

    def kit() -> None:
        states, slots = replay.draw(128)
        replay.write(states, slots)

    def plain() -> None:
        torch.stack([rows[int(i)] for i in torch.randint(10_000, (128,))])
        for state in new:
            rows.append(state)
            rows.pop(0)

    ours, theirs = medians(kit, plain)
    return {
        "what": "replay buffer, draw and write 128",
        "kit (ms)": ours * 1e3,
        "plain (ms)": theirs * 1e3,
        "ratio": theirs / ours,
        "largest difference": None,
    }


def import_row() -> dict[str, object]:
    """`import oodlab, oodlab.models` against `import torch`, each in an interpreter of its own."""

    def importing(names: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {names}"], check=True)

    ours, theirs = medians(importing("torch, oodlab"), importing("torch"))
    return {
        "what": "import torch, oodlab against import torch",
        "kit (ms)": ours * 1e3,
        "plain (ms)": theirs * 1e3,
        "ratio": theirs / ours,
        "largest difference": None,
    }


def main() -> None:
    """Run every row, print the table and write it to the runs folder."""
    rows = [chain_row(), replay_row(), import_row()]
    print(plotting.Table(rows, digits=4))
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    file = workspace.runs_folder() / "bench.json"
    workspace.write_json(file, {"machine": machine, "rows": rows})
    print(f"kept in {file}")


if __name__ == "__main__":
    main()
