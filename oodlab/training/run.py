"""What changes during a run, and the arithmetic of a step.

This module, the batches and the processes' arithmetic decide a training's numbers; what
checks, tells and writes is in training.loop.

Imports: checks, graphs, training.devices, training.inspection, training.team.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.graphs import Replayed, host_may_look
from oodlab.training.batches import Batches
from oodlab.training.devices import own_randomness
from oodlab.training.inspection import check_rates
from oodlab.training.team import Team

STREAM = 1_000_000_007  # between the seed of the weights and that of the run: they share no random numbers

Probe = Callable[[nn.Module], dict[str, Tensor]]


@dataclass(frozen=True)
class Guard:
    """The rule by which a run counts as diverged, and what is done about it.

    Attributes:
        limit: Largest absolute value of any watched number (JEM's authors use 1e8 on the loss) and of any weight.
        factor: Learning rates are multiplied by this at every roll-back.
        patience: Number of roll-backs before the run stops with an error.
    """

    limit: float = 1e8
    factor: float = 0.3
    patience: int = 3

    def __post_init__(self) -> None:
        checks.number("Guard", "limit", self.limit, above=0)
        checks.number("Guard", "factor", self.factor, above=0, most=1, why="a diverged run needs lower rates")
        checks.whole("Guard", "patience", self.patience, least=0)


@dataclass
class Run:
    """Everything that changes during a run, and its way into and out of a checkpoint."""

    model: nn.Module
    objective: Callable[..., dict[str, Tensor]]
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    seed: int
    team: Team
    step: int = 0
    seconds: float = 0.0
    rate: float = 1.0
    rollbacks: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rates = check_rates(self.optimiser)
        # data are drawn on the CPU: its own generator is seeded, kept and restored with the run too
        self.data = self.generator if self.generator.device.type == "cpu" else torch.default_generator
        if not self.team.alone:  # where noise is each process's own, data are not
            self.data = torch.Generator().manual_seed(self.seed + STREAM)

    def set_rates(self, factor: float) -> None:
        """Set all learning rates to a factor of their own, and of what divergences have left of them."""
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.rate * factor

    def random_state(self) -> dict[str, Tensor]:
        """Return the states of all random number generators."""
        states = {"own": self.generator.get_state(), "cpu": torch.get_rng_state()}
        if not self.team.alone:
            states["data"] = self.data.get_state()
        if self.generator.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.generator.device)
        return states

    def set_random_state(self, states: dict[str, Tensor]) -> None:
        """Put all random number generators back into such states."""
        self.generator.set_state(states["own"])
        torch.set_rng_state(states["cpu"])
        if "data" in states:
            self.data.set_state(states["data"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.generator.device)

    def look(self, probe: Probe) -> float:
        """Probe the model, and return the seconds that took; the run's random numbers stay as they are."""
        started = time.monotonic()
        training = self.model.training
        self.model.eval()
        try:
            with own_randomness(self.seed, self.generator.device):
                values = {name: value.detach().cpu() for name, value in probe(self.model).items()}
        finally:
            self.model.train(training)
        for name, value in values.items():
            if lost := int((~value.isfinite()).sum()):
                raise FloatingPointError(
                    f"the probe found {lost} of {value.numel()} values of {name!r} not finite after step {self.step}"
                )
        self.probes.append({"step": self.step, "values": values})
        return time.monotonic() - started

    def state(self) -> dict[str, Any]:
        """Return a copy of all that a checkpoint holds."""
        own = self.objective.state_dict() if isinstance(self.objective, nn.Module) else {}
        return copy.deepcopy(
            {
                "model": self.model.state_dict(),
                "objective": dict(own),
                "optimiser": self.optimiser.state_dict(),
                "random": self.random_state(),
                "device": self.generator.device.type,
                "seed": self.seed,
                "step": self.step,
                "seconds": self.seconds,
                "rate": self.rate,
                "rollbacks": self.rollbacks,
                "history": self.history,
                "probes": self.probes,
            }
        )

    def load(self, state: dict[str, Any], *, random: bool = True) -> None:
        """Go on from such a state, with its random numbers or one's own.

        Raises:
            ValueError: It is of another seed.
        """
        if state["seed"] != self.seed:
            raise ValueError(f"fit expects the checkpoint's seed {state['seed']}, got {self.seed}: use another folder.")
        self.model.load_state_dict(state["model"])
        if isinstance(self.objective, nn.Module):
            self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        if random and state["device"] == self.generator.device.type and state["random"] is not None:
            self.set_random_state(state["random"])
        elif random:  # other generators, or another number of them: new numbers, but not those of the first steps again
            fresh = self.seed + 1_000_003 * state["step"]
            self.data.manual_seed(fresh)
            self.generator.manual_seed(self.team.seed(fresh))
        self.step, self.seconds = state["step"], state["seconds"]
        self.rate, self.rollbacks = state["rate"], state["rollbacks"]
        self.history = [dict(row) for row in state["history"]]
        self.probes = list(state["probes"])

    def go_back(self, good: dict[str, Any]) -> None:
        """Return to an earlier state, but not to its rates."""
        rate, rollbacks = self.rate, self.rollbacks
        self.load(good, random=False)  # other random numbers: the same ones would lead to the same place
        self.rate, self.rollbacks = rate, rollbacks

    def spoilt(self, limit: float, *, whole: bool) -> str:
        """Say what of the run is lost, or ""; `whole` looks at all that a checkpoint holds, not at the model alone."""
        model = (*self.model.parameters(), *self.model.buffers())  # running statistics too
        if not _all(value.abs() <= limit for value in model if value.is_floating_point()):
            return f"weights are not finite or beyond {limit:.3g}"
        if whole:
            states = self.optimiser.state.values()
            moments = [value for state in states for name, value in state.items() if name != "step"]
            if not _all(value.isfinite() for value in moments if torch.is_tensor(value)):
                return "the optimiser's moments are not finite"  # infinite ones stay so, and freeze their weights
            own = self.objective.state_dict().values() if isinstance(self.objective, nn.Module) else ()
            if not _all(value.isfinite() for value in own if torch.is_tensor(value)):
                return "the objective's state (replay) is not finite"
        return ""


def gradients_of(
    run: Run, dtype: torch.dtype, place: torch.device, should_stop: Callable[[], bool] | None, graph: str
) -> Callable[..., dict[str, Tensor]]:
    """Return the function of a batch's tensors that leaves gradients, as it runs on this device."""
    eager = partial(_gradients, run, dtype, place, should_stop)
    return Replayed(eager, run.generator) if run.generator.device.type == "cuda" and graph == "auto" else eager


def compute(
    run: Run, batches: Batches, place: torch.device, gradients: Callable[..., dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Draw the step's batch, of several processes this one's slice, and compute on it."""
    batch = run.team.slice(batches(run.step, run.data))
    return gradients(**{name: values.to(place) for name, values in batch.items()})


def _gradients(
    run: Run, dtype: torch.dtype, place: torch.device, should_stop: Callable[[], bool] | None, **batch: Tensor
) -> dict[str, Tensor]:
    """Give the parameters the gradient of the loss; return the objective's parts, detached."""
    asked = should_stop if host_may_look() else None
    with torch.autocast(place.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        parts = run.objective(run.model, **batch, generator=run.generator, should_stop=asked)
    run.optimiser.zero_grad(set_to_none=True)
    parts["loss"].backward()
    return {name: value.detach() for name, value in parts.items()}


def largest(parts: dict[str, Tensor]) -> Tensor:
    """Return the largest absolute watched number, infinite when one is not finite; it stays on the device."""
    watched = torch.stack([value.abs().float() for value in parts.values() if value.ndim == 0])
    return torch.nan_to_num(watched, nan=math.inf).max()


def _all(flags: Iterable[Tensor]) -> bool:
    """Say whether all flags on one device are true, waiting for it once."""
    each = [flag.all() for flag in flags]
    return bool(torch.stack(each).all()) if each else True
