"""One training loop for every objective.

The loop owns what all trainings share: budget, warm-up, precision, progress,
checkpoints, resuming, stopping and the divergence guard.  What is learned is the
objective's business.

An interrupted run continues with the same bits on CPU: a checkpoint holds the
weights, the optimiser, the objective's state (replay buffer), all random number
generators and the step; batches are a function of (step, generator).

Imports: workspace, samplers.  Imported by: presets, widgets, notebooks.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from oodlab import workspace
from oodlab.samplers import Stopped

HISTORY_ROWS = 200  # numbers are read from the device this often in a run: each reading waits for it
_DECIDES_A_TRAINING = ("data", "models", "objectives", "samplers.py", "replay.py", "training.py")
CHECKPOINT = "checkpoint.pt"
SMALL = 1_000_000  # parameters; a dense network below this trains on one thread
WORTH_A_PROCESS = 2000  # updates in all; below it starting processes costs more than they save
PRECISIONS = ("auto", "float32", "bfloat16")

Batch = tuple[Tensor, Tensor | None]


class Batches(Protocol):
    """Where batches come from: a pure function of the step and the run's generator."""

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return (x, y or None) for this step."""


@dataclass(frozen=True)
class Fresh:
    """A new sample at every step, for data that can be drawn at will.

    Args:
        draw: (n, generator) -> (n, *event).
        batch_size: Number of samples per step.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    batch_size: int

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return a new sample and no labels."""
        return self.draw(self.batch_size, generator), None


class Trainable(Protocol):
    """What train_or_load needs to know of a preset."""

    name: str
    profile: str
    text: str
    model: Callable[[], nn.Module]
    objective: Callable[[nn.Module], Callable[..., dict[str, Tensor]]]
    batches: Callable[[], Batches]
    optimiser: Callable[[nn.Module], torch.optim.Optimizer]
    steps: int
    warm_up: int
    schedule: Callable[[float], float] | None


class Shuffled:
    """Batches of a data set, reshuffled every epoch; an incomplete last batch is left out.

    Args:
        x: (N, *event), as the model wants it.
        y: (N,) int64 or None.
        batch_size: At most N.
        seed: Decides the order of every epoch together with the epoch's number.
    """

    def __init__(self, x: Tensor, y: Tensor | None, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= len(x):
            raise ValueError(f"Shuffled expects 1 <= batch_size <= {len(x)} images, got {batch_size}.")
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed
        self.steps_per_epoch = len(x) // batch_size
        self._order: tuple[int, Tensor] | None = None

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """Return the batch of this step; the generator is not used."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            own = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self.x), generator=own).to(self.x.device))
        chosen = self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
        return self.x[chosen], None if self.y is None else self.y[chosen]


@dataclass(frozen=True)
class LinearTail:
    """Full learning rate up to a share of the budget, then linearly down to zero at its end."""

    start: float

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise ValueError(f"LinearTail expects a start in [0, 1), got {self.start:g}: the tail needs a length.")

    def __call__(self, used: float) -> float:
        """Return the factor after this share of the budget."""
        return min(1.0, (1 - used) / (1 - self.start))


@dataclass(frozen=True)
class Guard:
    """When a run counts as diverged, and what is done about it.

    Attributes:
        limit: Largest absolute value of any watched number (JEM's authors use 1e8 on the loss).
        factor: Learning rates are multiplied by this at every roll-back.
        patience: Number of roll-backs before the run stops with an error.
    """

    limit: float = 1e8
    factor: float = 0.3
    patience: int = 3


@dataclass(frozen=True)
class Result:
    """What a training leaves behind.

    Attributes:
        model: In eval mode.
        objective: With the state it ended in (its replay buffer).
        history: One row per HISTORY_ROWS-th of the run: step, seconds and the watched numbers.
        step: Steps done; less than planned when the run was stopped.
        seconds: Training time of all parts of a resumed run.
        rollbacks: How often the divergence guard had to act.
        finished: Whether the whole budget was used.
    """

    model: nn.Module
    objective: Callable[..., dict[str, Tensor]]
    history: list[dict[str, float]]
    step: int
    seconds: float
    rollbacks: int
    finished: bool


OnStep = Callable[[int, int, dict[str, float], dict[str, Tensor]], None]


def adam(model: nn.Module, *, lr: float, lr_of: dict[str, float] | None = None, **options: Any) -> torch.optim.Adam:
    """Build Adam with rates of their own for some parameters.

    Args:
        model: Its trainable parameters are optimised.
        lr: Learning rate of all parameters not named in lr_of.
        lr_of: Learning rate by parameter name.
        **options: Further arguments of torch.optim.Adam.
    """
    named = dict(model.named_parameters())
    own = lr_of or {}
    unknown = sorted(set(own) - set(named))
    if unknown:
        raise ValueError(f"adam expects names of parameters in lr_of, got {unknown}: the model has {sorted(named)}.")
    groups = [{"params": [p for name, p in named.items() if name not in own], "lr": lr}]
    groups += [{"params": [named[name]], "lr": rate} for name, rate in own.items()]
    return torch.optim.Adam(groups, **options)


def pick_device(device: str = "auto") -> torch.device:
    """Return the device named, or for "auto" CUDA when there is a GPU and the CPU otherwise."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device expects 'auto', 'cpu' or 'cuda', got {device!r}.") from error
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device expects what this machine has, got {device!r}: no GPU here; use 'auto'.")
    return picked


def pick_precision(precision: str, model: nn.Module, device: torch.device) -> torch.dtype:
    """Return the type of the network's arithmetic; weights and chain states stay float32.

    "auto" is bfloat16 for convolutional networks where the hardware multiplies it
    (AMX on CPU, any recent GPU) and float32 otherwise: small dense networks gain
    nothing, and energies near each other collapse to a few bfloat16 values.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision expects one of {', '.join(PRECISIONS)}, got {precision!r}.")
    if precision != "auto":
        return getattr(torch, precision)
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if _convolutional(model) and fast else torch.float32


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
    device: str = "auto",
    precision: str = "auto",
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
            scalar "loss"; other scalars are watched, other tensors go to on_step.
        batches: Batches per step; see Fresh and Shuffled.
        optimiser: Builds the optimiser from the model.
        steps, epochs: The budget, one of the two; epochs need batches.steps_per_epoch.
        seed: Of all randomness in the run but the initial weights, which are the caller's.
        warm_up: Steps over which learning rates rise linearly to their value.
        schedule: Factor on the learning rates by the share of the budget used, e.g. LinearTail.
        device, precision: See pick_device and pick_precision.
        guard: Divergence guard; None takes Guard's defaults.
        folder: Where checkpoint.pt is kept; None keeps none.
        identity: What the run is (a preset's text); a checkpoint of another one is refused.
        checkpoint_every: Steps between checkpoints; None makes 20 in a run.
        should_stop: Asked before every step, and by the objective within chains.
        on_step: Called with (step, steps, numbers, parts) HISTORY_ROWS times in a run.
        label: Name on the progress line.
        show_progress: Whether to show one; a panel has its own.

    Returns:
        The result; model in eval mode.

    Raises:
        ValueError: Bad arguments, or a checkpoint of another identity.
        FloatingPointError: The run diverged more often than the guard's patience.
    """
    total = _budget(steps, epochs, batches)
    if warm_up < 0:
        raise ValueError(f"fit expects warm_up >= 0, got {warm_up}.")
    place = pick_device(device)
    dtype = pick_precision(precision, model, place)
    guard = guard or Guard()
    run = _Run(model.to(place), objective, optimiser(model), torch.Generator(place).manual_seed(seed), seed)
    if isinstance(objective, nn.Module):
        objective.to(place)
    file = folder / CHECKPOINT if folder else None
    every = checkpoint_every or max(1, total // 20)
    look_every = math.ceil(total / HISTORY_ROWS)
    with _own_threads(model, place), _own_randomness(seed, place), _Progress(label, total, show_progress) as progress:
        if file and file.exists():
            run.load(read_checkpoint(file, identity))
            if 0 < run.step < total:
                progress.say(f"{label}: continues at step {run.step} of {total}")
        good = run.state()
        started = time.monotonic() - run.seconds
        worst = torch.zeros((), device=place)
        parts: dict[str, Tensor] = {}
        model.train()
        while run.step < total:
            before = run.random_state()
            if should_stop is not None and should_stop():
                break
            warmth = min(1.0, (run.step + 1) / warm_up) if warm_up else 1.0
            run.set_rates(warmth * (schedule(run.step / total) if schedule else 1.0))
            try:
                parts = _one_step(run, batches, dtype, place, should_stop)
                worst = torch.maximum(worst, _largest(parts))
                looked = (run.step + 1) % look_every == 0 or run.step + 1 == total
                saves = (run.step + 1) % every == 0 or run.step + 1 == total
                if (looked or saves) and not float(worst) <= guard.limit:
                    raise FloatingPointError(f"a watched number reached {float(worst):.3g} by step {run.step + 1}")
                if saves and not _weights_are_finite(model):  # a finite loss can have a gradient that is not
                    raise FloatingPointError(f"weights are no longer finite at step {run.step + 1}")
            except Stopped:
                run.set_random_state(before)  # the unfinished step is done anew when the run continues
                break
            except FloatingPointError as error:
                run.roll_back(good, guard, error, progress)
                worst = torch.zeros((), device=place)
                continue
            run.step += 1
            if looked:
                run.seconds = time.monotonic() - started
                numbers = {name: float(v) for name, v in parts.items() if v.ndim == 0}
                run.history.append({"step": run.step, "seconds": run.seconds, **numbers})
                progress.show(run.step, numbers)
                if on_step is not None:
                    on_step(run.step, total, numbers, parts)
            if saves:
                run.seconds = time.monotonic() - started
                good = run.state()
                if file:
                    write_checkpoint(file, good, identity)
        run.seconds = time.monotonic() - started
        if file and run.step < total and float(worst) <= guard.limit and _weights_are_finite(model):
            write_checkpoint(file, run.state(), identity)
    return Result(model.eval(), objective, run.history, run.step, run.seconds, run.rollbacks, run.step == total)


def train_or_load(
    preset: Trainable,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    anew: bool | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_step: OnStep | None = None,
) -> Result:
    """Train a preset, go on with its unfinished training, or load the finished one.

    The checkpoint lies below the runs folder under the preset's name, profile,
    seed and the hash of its text and of the source code that decides a training.

    Args:
        preset: See presets.Preset.
        seed: Of the initial weights and of the run.
        anew: Train again what is finished; None asks workspace.trains_anew.
        device, precision, should_stop, on_step: As in fit.
    """
    place = pick_device(device)
    with _own_randomness(seed, place):
        model = preset.model()
    key = hashlib.sha256((preset.text + workspace.source_hash(*_DECIDES_A_TRAINING)).encode()).hexdigest()[:12]
    folder = workspace.runs_folder() / "checkpoints" / preset.name / f"{preset.profile}-seed{seed}-{key}"
    file = folder / CHECKPOINT
    anew = workspace.trains_anew() if anew is None else anew
    if anew and file.exists() and read_checkpoint(file, preset.text)["step"] == preset.steps:
        file.unlink()  # an unfinished one goes on: it belongs to a run that was interrupted
    return fit(
        model,
        preset.objective(model),
        preset.batches(),
        optimiser=preset.optimiser,
        steps=preset.steps,
        warm_up=preset.warm_up,
        schedule=preset.schedule,
        seed=seed,
        device=device,
        precision=precision,
        folder=folder,
        identity=preset.text,
        should_stop=should_stop,
        on_step=on_step,
        label=f"{preset.name} seed {seed}",
    )


def train_or_load_all(
    presets: Mapping[str, Trainable], seeds: Mapping[str, Sequence[int]], *, device: str = "auto"
) -> dict[str, list[Result]]:
    """Train or load several presets for several seeds each.

    Small dense networks use one core each (see fit); on a CPU they train side by
    side, in as many processes as this one has threads, through their checkpoints.

    Args:
        presets: By name.
        seeds: Seeds by the same names.
        device: As in fit.
    """
    tasks = [(preset, seed) for name, preset in presets.items() for seed in seeds[name]]
    workers = min(torch.get_num_threads(), len(tasks)) if pick_device(device).type == "cpu" else 1
    worth_it = sum(preset.steps for preset, _ in tasks) >= WORTH_A_PROCESS
    side_by_side = workers > 1 and worth_it and all(_is_small(preset.model()) for preset in presets.values())
    if side_by_side:
        _train_side_by_side(tasks, workers)
    anew = False if side_by_side else None  # what the processes have just finished is loaded
    return {
        name: [train_or_load(preset, seed=seed, device=device, anew=anew) for seed in seeds[name]]
        for name, preset in presets.items()
    }


def _train_side_by_side(tasks: Sequence[tuple[Trainable, int]], workers: int) -> None:
    spawn = multiprocessing.get_context("spawn")  # fork would copy a process whose threads hold locks
    with (
        ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent, initargs=(os.getpid(),)) as pool,
        _Progress(f"{len(tasks)} trainings, {workers} at a time", len(tasks), True) as progress,
    ):
        futures = {pool.submit(_train_one, preset, seed): f"{preset.name} seed {seed}" for preset, seed in tasks}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                progress.show(done, future.result())
                progress.say(f"{futures[future]}: trained")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _train_one(preset: Trainable, seed: int) -> dict[str, float]:
    """Train in a process of a pool; the result reaches the caller as a checkpoint."""
    return train_or_load(preset, seed=seed, device="cpu").history[-1]


def _end_with_parent(parent: int) -> None:
    """Keep a worker on one thread, and end it when the process that started it is gone."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # nobody is left to wait for a result; checkpoints are written whole or not at all

    threading.Thread(target=watch, daemon=True).start()


# --------------------------------------------------------------------------------- checkpoints


def write_checkpoint(file: Path, state: dict[str, Any], identity: str) -> None:
    """Write a run's state whole or not at all, under what it is."""
    with workspace.atomic_file(file) as stream:
        torch.save({"identity": identity, "versions": {"torch": str(torch.__version__)}, **state}, stream)


def read_checkpoint(file: Path, identity: str) -> dict[str, Any]:
    """Read a run's state.

    Raises:
        ValueError: The file is broken, or belongs to another identity.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        made_with = state["identity"]
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise ValueError(
            f"checkpoint {file} cannot be read ({type(error).__name__}: {error}): it is damaged; delete it to start anew."
        ) from error
    if made_with != identity:
        raise ValueError(
            f"checkpoint {file} expects the preset it was made with, got another one:\n{_differences(made_with, identity)}"
            "\nuse another folder, or delete the file to start anew."
        )
    return state


def _differences(old: str, new: str) -> str:
    before, after = set(old.splitlines()), set(new.splitlines())
    lines = [f"  checkpoint: {line.strip()}" for line in old.splitlines() if line not in after]
    lines += [f"  now:        {line.strip()}" for line in new.splitlines() if line not in before]
    return "\n".join(lines[:10])


# ------------------------------------------------------------------------------------ the parts


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

    def __post_init__(self) -> None:
        self.rates = [group["lr"] for group in self.optimiser.param_groups]

    def set_rates(self, factor: float) -> None:
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.rate * factor

    def random_state(self) -> dict[str, Tensor]:
        states = {"own": self.generator.get_state(), "cpu": torch.get_rng_state()}
        if self.generator.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.generator.device)
        return states

    def set_random_state(self, states: dict[str, Tensor]) -> None:
        self.generator.set_state(states["own"])
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.generator.device)

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
            }
        )

    def load(self, state: dict[str, Any], *, random: bool = True) -> None:
        if state["seed"] != self.seed:
            raise ValueError(f"fit expects the checkpoint's seed {state['seed']}, got {self.seed}: use another folder.")
        self.model.load_state_dict(state["model"])
        if isinstance(self.objective, nn.Module):
            self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        if random and state["device"] == self.generator.device.type:
            self.set_random_state(state["random"])
        elif random:  # another kind of generator: new numbers, but not those of the first steps again
            self.generator.manual_seed(self.seed + 1_000_003 * state["step"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rate, self.rollbacks = state["rate"], state["rollbacks"]
        self.history = [dict(row) for row in state["history"]]

    def roll_back(self, good: dict[str, Any], guard: Guard, error: FloatingPointError, progress: _Progress) -> None:
        rate, rollbacks, lost = self.rate * guard.factor, self.rollbacks + 1, self.step
        if rollbacks > guard.patience:
            raise FloatingPointError(
                f"{progress.label} diverged {rollbacks} times ({error}); learning rates are down to {self.rate:.2g} of the "
                "preset's. What usually helps: a smaller step_size or more steps of the chain, a penalty on the energy, "
                "a smaller learning rate, clipping."
            ) from error
        self.load(good, random=False)  # other random numbers: the same ones would lead to the same place
        self.rate, self.rollbacks = rate, rollbacks
        progress.say(
            f"{progress.label}: diverged at step {lost} ({error}); back to step {self.step}, learning rates x {rate:.2g}"
        )


def _one_step(
    run: _Run,
    batches: Batches,
    dtype: torch.dtype,
    place: torch.device,
    should_stop: Callable[[], bool] | None,
) -> dict[str, Tensor]:
    # data are drawn on the CPU: its own generator is seeded, kept and restored with the run too
    x, y = batches(run.step, run.generator if place.type == "cpu" else torch.default_generator)
    with torch.autocast(place.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        parts = run.objective(
            run.model,
            x.to(place),
            None if y is None else y.to(place),
            generator=run.generator,
            should_stop=should_stop,
        )
    run.optimiser.zero_grad(set_to_none=True)
    parts["loss"].backward()
    run.optimiser.step()
    return {name: value.detach() for name, value in parts.items()}


def _largest(parts: dict[str, Tensor]) -> Tensor:
    """Largest absolute watched number, infinite when one is not finite; stays on the device."""
    watched = torch.stack([value.abs().float() for value in parts.values() if value.ndim == 0])
    return torch.nan_to_num(watched, nan=math.inf).max()


def _weights_are_finite(model: nn.Module) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def _budget(steps: int | None, epochs: int | None, batches: Batches) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError(f"fit expects steps or epochs, got steps={steps} and epochs={epochs}.")
    if epochs is not None:
        per_epoch = getattr(batches, "steps_per_epoch", None)
        if per_epoch is None:
            raise ValueError("fit expects steps when batches have no steps_per_epoch: fresh samples have no epochs.")
        steps = epochs * per_epoch
    if steps < 1:
        raise ValueError(f"fit expects a budget of at least one step, got {steps}.")
    return steps


@contextlib.contextmanager
def _own_threads(model: nn.Module, place: torch.device) -> Iterator[None]:
    """Train a small dense network on one CPU thread.

    Its matrices are too small for two to gain anything, and on a shared machine two
    threads that wait for each other at every layer crawl.
    """
    before = torch.get_num_threads()
    if place.type == "cpu" and _is_small(model):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_small(model: nn.Module) -> bool:
    return sum(p.numel() for p in model.parameters()) < SMALL and not _convolutional(model)


def _convolutional(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in model.modules())


@contextlib.contextmanager
def _own_randomness(seed: int, place: torch.device) -> Iterator[None]:
    """Seed torch's global generators for what draws from them (dropout), and restore them."""
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


class _Progress:
    """A bar where someone watches, ten lines where nobody does, events for the batch runner."""

    def __init__(self, label: str, total: int, shown: bool) -> None:
        self.label, self.total, self.shown, self.bar, self.said = label, total, shown, None, 0

    def __enter__(self) -> _Progress:
        if self.shown and not workspace.in_batch() and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            from tqdm.auto import tqdm  # here: importing it costs more than a batch run gains

            self.bar = tqdm(total=self.total, desc=self.label, unit="step", leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, step: int, numbers: dict[str, float]) -> None:
        workspace.report("step", label=self.label, step=step, steps=self.total, numbers=numbers)
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in numbers.items()}, refresh=False)
        elif self.shown and step * 10 // self.total > self.said:
            self.said = step * 10 // self.total
            shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            print(f"{self.label}: step {step} of {self.total}  {shown}", flush=True)

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)
