"""The one loop: budget, warm-up, progress, checkpoints, stopping, divergence guard.

What is learned is the objective's business.  A checkpoint holds the weights, the
optimiser, the objective's state (replay buffer), all random number generators and
the step, so an interrupted run continues with the same bits on CPU.

Several processes train one model together where torch.distributed has started them;
all that differs then is in training.parallel.

Imports: checks, graphs, samplers, its own folder.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.graphs import Replayed, host_may_look
from oodlab.samplers import Stopped
from oodlab.training import parallel
from oodlab.training.batches import Batches
from oodlab.training.checkpoints import CHECKPOINT, read_checkpoint, write_checkpoint
from oodlab.training.devices import GRAPHS, own_randomness, own_threads, pick_device, pick_precision
from oodlab.training.inspection import check_arguments, check_first_batch, check_rates
from oodlab.training.progress import Progress

STREAM = 1_000_000_007  # between the seed of the weights and that of the run: they share no random numbers
ADVICE = "a longer warm_up, clipping the gradient"  # of an objective that has none of its own
HISTORY_ROWS = 200  # numbers are read from the device this often in a run: each reading waits for it


@dataclass(frozen=True)
class Guard:
    """When a run counts as diverged, and what is done about it.

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


@dataclass(frozen=True)
class Result:
    """What a training leaves behind.

    Attributes:
        model: In eval mode.
        objective: With the state it ended in (its replay buffer).
        history: One row per HISTORY_ROWS-th of the run: step, seconds and the watched numbers.
        probes: What the probe measured, each {"step": int, "values": {name: tensor on the CPU}}.
        step: Steps done; less than planned when the run was stopped.
        seconds: Training time of all parts of a resumed run.
        rollbacks: How often the divergence guard had to act.
        finished: Whether the whole budget was used.
    """

    model: nn.Module
    objective: Callable[..., dict[str, Tensor]]
    history: list[dict[str, float]]
    probes: list[dict[str, Any]]
    step: int
    seconds: float
    rollbacks: int
    finished: bool


OnStep = Callable[[int, int, dict[str, float], dict[str, Tensor]], None]
Probe = Callable[[nn.Module], dict[str, Tensor]]


@dataclass(frozen=True)
class LinearTail:
    """Full learning rate up to a share of the budget, then linearly down to zero at its end; a start of 1 keeps it full."""

    start: float

    def __post_init__(self) -> None:
        checks.number("LinearTail", "start", self.start, least=0, most=1)

    def __call__(self, used: float) -> float:
        """Return the factor after this share of the budget."""
        return 1.0 if used <= self.start else (1 - used) / (1 - self.start)


def adam(
    model: nn.Module,
    *,
    lr: float,
    lr_of: Mapping[str, float | Mapping[str, Any]] | None = None,
    clip: float | None = None,
    **options: Any,
) -> torch.optim.Adam:
    """Build Adam with rates of their own for some parameters.

    Args:
        model: Its trainable parameters are optimised.
        lr: Learning rate of all parameters not named in lr_of.
        lr_of: Learning rate, or options such as {"lr": 1e-4, "betas": (0.0, 0.9)}, by name of
            a parameter or of a part of the model; the longest name counts.
        clip: Largest Euclidean norm of the whole gradient; None leaves it as it is.
        **options: Further arguments of torch.optim.Adam, for all.
    """
    named = dict(model.named_parameters())
    own = lr_of or {}
    checks.number("adam", "lr", lr, least=0)
    for key, value in own.items():
        rate = value.get("lr", lr) if isinstance(value, Mapping) else value
        checks.number("adam", f"lr of {key!r}", rate, least=0)
    part_of = {
        name: max((key for key in own if name == key or name.startswith(f"{key}.")), key=len, default=None)
        for name in named
    }
    unknown = sorted(set(own) - set(part_of.values()))
    if unknown:
        raise ValueError(f"adam expects names of parameters in lr_of, got {unknown}: the model has {sorted(named)}.")
    groups = [{"params": [named[name] for name in named if part_of[name] is None], "lr": lr}]
    for key, value in own.items():
        chosen = dict(value) if isinstance(value, Mapping) else {"lr": value}
        groups.append({"params": [named[name] for name in named if part_of[name] == key], "lr": lr, **chosen})
    optimiser = torch.optim.Adam(groups, **options)
    if clip is not None:
        checks.number("adam", "clip", clip, above=0)
        parameters = list(named.values())

        def shorten(*step: Any) -> None:
            nn.utils.clip_grad_norm_(parameters, clip)

        optimiser.register_step_pre_hook(shorten)
    return optimiser


def fit(
    model: nn.Module,
    objective: Callable[..., dict[str, Tensor]],
    batches: Batches,
    *,
    optimiser: Callable[[nn.Module], torch.optim.Optimizer],
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    warm_up: int = 0,
    schedule: Callable[[float], float] | None = None,
    probe: Probe | None = None,
    probes: int = 0,
    device: str = "auto",
    precision: str = "auto",
    graph: str = "auto",
    guard: Guard | None = None,
    folder: Path | None = None,
    identity: str = "",
    checkpoint_every: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_step: OnStep | None = None,
    label: str = "training",
    show_progress: bool = True,
) -> Result:
    """Train a model; continue from the checkpoint in `folder` if there is one.

    Args:
        model: Trained in place, moved to the device.
        objective: objective(model, x, y, generator=, should_stop=) -> parts with a
            scalar "loss"; other scalars are watched, other tensors go to on_step. Its attribute
            `advice`, if it has one, says what helps when it diverges.
        batches: Batches per step; see Fresh and Shuffled.
        optimiser: Builds the optimiser from the model.
        steps, epochs: The budget, one of the two; epochs need batches.steps_per_epoch.
        seed: Of all randomness in the run but the initial weights, which are the caller's.
        warm_up: Steps over which learning rates rise linearly to their value.
        schedule: Factor on the learning rates by the share of the budget used, e.g. LinearTail.
        probe: probe(model) -> tensors by name, called on the model in eval mode, in float32; what it
            measures is part of the result and of checkpoints.
        probes: How often in the run, evenly spaced up to its end; the untrained model is probed too.
        device, precision: See pick_device and pick_precision.
        graph: "auto" replays a step's forward and backward passes, chains included, as one CUDA graph
            on a GPU once they prove static (see graphs.Replayed); should_stop then acts between steps,
            and a chain that leaves the finite numbers shows in the loss. "off" never does.
        guard: Divergence guard; None takes Guard's defaults.
        folder: Where checkpoint.pt is kept; None keeps none.
        identity: What the run is (a preset's text); a checkpoint of another one is refused.
        checkpoint_every: Steps between checkpoints; None makes about 20 in a run.
        should_stop: Asked before every step, and by the objective within chains; of several processes before
            every step alone, and all stop after it.
        on_step: Called with (step, steps, numbers, parts) HISTORY_ROWS times in a run, by the first process.
        label: Name on the progress line.
        show_progress: Whether to show one; a panel has its own.

    Returns:
        The result; model in eval mode.

    Raises:
        ValueError: Bad arguments, or a checkpoint of another identity.
        FloatingPointError: The run diverged more often than the guard's patience. A FloatingPointError
            of the objective, the probe or on_step counts as divergence.
    """
    check_arguments(
        model,
        {
            "objective": (objective, "one of oodlab.objectives"),
            "batches": (batches, "Shuffled, Fresh or Transformed"),
            "optimiser": (optimiser, "what builds one of the model, such as partial(adam, lr=1e-3)"),
            **{
                name: (value, instead)
                for name, value, instead in (
                    ("schedule", schedule, "LinearTail(start)"),
                    ("probe", probe, "what measures the model, such as a preset's probe"),
                    ("should_stop", should_stop, "what says whether to stop, such as threading.Event().is_set"),
                    ("on_step", on_step, "what takes (step, steps, numbers, parts)"),
                )
                if value is not None
            },
        },
        {
            "seed": (seed, 0),
            "warm_up": (warm_up, 0),
            "probes": (probes, 0),
            **{
                name: (value, 1)
                for name, value in {"steps": steps, "epochs": epochs, "checkpoint_every": checkpoint_every}.items()
                if value is not None
            },
        },
    )
    total = _budget(steps, epochs, batches)
    if (probe is None) != (probes == 0) or not 0 <= probes <= total:
        raise ValueError(f"fit expects a probe and 1 to {total} probes, or neither, got {probes}: see probe.")
    place = pick_device(device)
    dtype = pick_precision(precision, model, place)
    checks.one_of("fit", "graph", graph, GRAPHS)
    guard = guard or Guard()
    if not isinstance(guard, Guard):
        raise ValueError(f"fit expects guard to be a Guard, got {type(guard).__name__}: write Guard(limit=1e8).")
    noise = torch.Generator(place).manual_seed(parallel.own_seed(seed + STREAM))
    run = _Run(model.to(place), objective, optimiser(model), noise, seed)
    if isinstance(objective, nn.Module):
        objective.to(place)
    parallel.divide(model, objective)
    file = Path(folder) / CHECKPOINT if folder else None
    alone = parallel.ranks() == 1
    eager = partial(_gradients, run, dtype, place, should_stop if alone else None)
    gradients = _replayed(eager, noise, graph)
    every = checkpoint_every or max(1, total // 20)
    look_every = math.ceil(total / HISTORY_ROWS)
    probed_after = {round(i * total / probes) for i in range(probes + 1)} if probes else set()
    with (
        own_threads(model, place),
        own_randomness(parallel.own_seed(seed + STREAM), place),
        Progress(label, total, show_progress) as progress,
    ):
        kept = parallel.from_first(lambda: read_checkpoint(file, identity) if file and file.exists() else None)
        if kept:
            run.load(parallel.own_part(kept, objective))
            if 0 < run.step < total:
                progress.say(f"{label}: continues at step {run.step} of {total}")
        if run.step < total:
            before = run.random_state()
            check_first_batch(model, objective, batches, run.step, run.data, place)
            run.set_random_state(before)
        if probed_after and run.step == 0 and not run.probes:
            run.look(probe)
        good, untried = run.state(), None
        started = time.monotonic() - run.seconds
        worst = torch.zeros((), device=place)
        parts: dict[str, Tensor] = {}
        stops = False
        model.train()
        while run.step < total and not stops:
            before = run.random_state()
            asked = should_stop is not None and should_stop()
            if asked and alone:  # of several processes all stop after the same step, and none within a chain
                break
            warmth = min(1.0, (run.step + 1) / warm_up) if warm_up else 1.0
            run.set_rates(warmth * (schedule(run.step / total) if schedule else 1.0))
            try:
                compute = partial(_own_gradients, run, batches, place, gradients)
                parts, stops = parallel.together(compute, model, asked)
                run.optimiser.step()
                worst = torch.maximum(worst, _largest(parts))
                looked = (run.step + 1) % look_every == 0 or run.step + 1 == total
                saves = (run.step + 1) % every == 0 or run.step + 1 == total
                probed = run.step + 1 in probed_after
                looks = looked or saves or probed
                if (looks or untried) and not (reached := parallel.largest(worst)) <= guard.limit:
                    raise FloatingPointError(f"a watched number reached {reached:.3g} by step {run.step + 1}")
                if looks and (spoilt := parallel.complaint(run.spoilt(guard.limit, whole=saves))):
                    raise FloatingPointError(f"{spoilt} at step {run.step + 1}")
                if untried:  # a finite state may be beyond all limits: that shows at the step after it
                    good, untried = untried, None
                    if file:
                        run.keep(good, file, identity)
                run.step += 1
                if looked:
                    run.seconds = time.monotonic() - started
                    numbers = parallel.mean({name: float(v) for name, v in parts.items() if v.ndim == 0})
                    run.history.append({"step": run.step, "seconds": run.seconds, **numbers})
                    progress.show(run.step, numbers)
                    if on_step is not None:
                        parallel.from_first(partial(on_step, run.step, total, numbers, parts))
                if probed:
                    started += run.look(probe)  # its time is not the training's
            except Stopped:
                run.set_random_state(before)  # the unfinished step is done anew when the run continues
                break
            except FloatingPointError as error:
                run.roll_back(good, guard, error, progress)
                gradients = _replayed(eager, noise, graph)  # the old graph holds how full the replay was then
                worst, untried = torch.zeros((), device=place), None
                continue
            if saves:
                run.seconds = time.monotonic() - started
                untried = run.state()
        if file and run.step == total and untried:
            run.keep(untried, file, identity)
        run.seconds = time.monotonic() - started
        if run.step < total:  # stopped, perhaps between a divergence and the next look at the numbers
            reached, lost = parallel.largest(worst), parallel.complaint(run.spoilt(guard.limit, whole=True))
            if lost or not reached <= guard.limit:
                lost = lost or f"a watched number reached {reached:.3g}"
                progress.say(f"{label}: stopped at step {run.step}, diverged ({lost}); back to step {good['step']}")
                run.go_back(good)
            elif file:
                run.keep(run.state(), file, identity)
        parallel.reunite(objective)
    return Result(
        model.eval(), objective, run.history, run.probes, run.step, run.seconds, run.rollbacks, run.step == total
    )


@dataclass
class _Run:
    """Everything that changes during a run, and its way into and out of a checkpoint."""

    model: nn.Module
    objective: Callable[..., dict[str, Tensor]]
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    seed: int
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
        if parallel.ranks() > 1:  # where noise is each process's own, data are not
            self.data = torch.Generator().manual_seed(self.seed + STREAM)

    def set_rates(self, factor: float) -> None:
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.rate * factor

    def random_state(self) -> dict[str, Tensor]:
        states = {"own": self.generator.get_state(), "cpu": torch.get_rng_state()}
        if parallel.ranks() > 1:
            states["data"] = self.data.get_state()
        if self.generator.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.generator.device)
        return states

    def set_random_state(self, states: dict[str, Tensor]) -> None:
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

    def keep(self, state: dict[str, Any], file: Path, identity: str) -> None:
        """Write a checkpoint, which all processes take part in."""
        state = parallel.whole(state, self.model, self.objective)
        parallel.from_first(partial(write_checkpoint, file, state, identity))

    def load(self, state: dict[str, Any], *, random: bool = True) -> None:
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
            self.generator.manual_seed(parallel.own_seed(fresh))
        self.step, self.seconds = state["step"], state["seconds"]
        self.rate, self.rollbacks = state["rate"], state["rollbacks"]
        self.history = [dict(row) for row in state["history"]]
        self.probes = list(state["probes"])

    def go_back(self, good: dict[str, Any]) -> None:
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

    def roll_back(self, good: dict[str, Any], guard: Guard, error: FloatingPointError, progress: Progress) -> None:
        rate, rollbacks, lost = self.rate * guard.factor, self.rollbacks + 1, self.step
        if rollbacks > guard.patience:
            raise FloatingPointError(
                f"{progress.label} diverged {rollbacks} times ({error}); learning rates are down to {self.rate:.2g} of the "
                f"preset's. What usually helps: a smaller learning rate, {getattr(self.objective, 'advice', ADVICE)}."
            ) from error
        self.go_back(good)
        self.rate, self.rollbacks = rate, rollbacks
        progress.say(
            f"{progress.label}: diverged at step {lost} ({error}); back to step {self.step}, learning rates x {rate:.2g}"
        )


def _replayed(gradients: Callable[..., dict[str, Tensor]], generator: torch.Generator, graph: str) -> Callable:
    """Return the function as it runs on the generator's device."""
    return Replayed(gradients, generator) if generator.device.type == "cuda" and graph == "auto" else gradients


def _own_gradients(
    run: _Run, batches: Batches, place: torch.device, gradients: Callable[..., dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Draw the step's batch, of several processes this one's slice, and compute on it."""
    x, y = parallel.own_slice(batches(run.step, run.data))
    return gradients(x.to(place), None if y is None else y.to(place))


def _gradients(
    run: _Run,
    dtype: torch.dtype,
    place: torch.device,
    should_stop: Callable[[], bool] | None,
    x: Tensor,
    y: Tensor | None,
) -> dict[str, Tensor]:
    """Give the parameters the gradient of the loss; return the objective's parts, detached."""
    asked = should_stop if host_may_look() else None
    with torch.autocast(place.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        parts = run.objective(run.model, x, y, generator=run.generator, should_stop=asked)
    run.optimiser.zero_grad(set_to_none=True)
    parts["loss"].backward()
    return {name: value.detach() for name, value in parts.items()}


def _largest(parts: dict[str, Tensor]) -> Tensor:
    """Largest absolute watched number, infinite when one is not finite; stays on the device."""
    watched = torch.stack([value.abs().float() for value in parts.values() if value.ndim == 0])
    return torch.nan_to_num(watched, nan=math.inf).max()


def _all(flags: Iterable[Tensor]) -> bool:
    """Say whether all flags on one device are true, waiting for it once."""
    each = [flag.all() for flag in flags]
    return bool(torch.stack(each).all()) if each else True


def _budget(steps: int | None, epochs: int | None, batches: Batches) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError(f"fit expects steps or epochs, got steps={steps} and epochs={epochs}: give one of the two.")
    if epochs is not None:
        per_epoch = getattr(batches, "steps_per_epoch", None)
        if per_epoch is None:
            raise ValueError(
                f"fit expects steps when batches have no steps_per_epoch, got epochs={epochs}: fresh samples have no epochs."
            )
        steps = epochs * per_epoch
    return steps
