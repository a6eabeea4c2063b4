"""The one loop: budget, warm-up, progress, checkpoints, stopping, divergence guard.

What is learned is the objective's business, what a step computes that of training.run.  A
checkpoint holds the weights, the optimiser, the objective's state (replay buffer), all random
number generators and the step, so an interrupted run continues with the same bits on CPU.

Several processes train one model together where torch.distributed has started them; what
they do together is in training.team.

Imports: checks, samplers, its own folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oodlab.samplers import Stopped
from oodlab.training.batches import Batches
from oodlab.training.checkpoints import CHECKPOINT, read_checkpoint, snapshot_file, write_checkpoint
from oodlab.training.devices import own_randomness, own_threads, pick_device, pick_precision
from oodlab.training.inspection import check_first_batch, checked_budget
from oodlab.training.parallel import from_first
from oodlab.training.progress import Progress
from oodlab.training.run import STREAM, Guard, Probe, Run, compute, gradients_of, largest
from oodlab.training.team import Team

ADVICE = "a longer warm_up, clipping the gradient"  # of an objective that has none of its own
HISTORY_ROWS = 200  # numbers are read from the device this often in a run: each reading waits for it

OnStep = Callable[[int, int, dict[str, float], dict[str, Tensor]], None]


@dataclass(frozen=True)
class Result:
    """What a training leaves behind.

    Attributes:
        model: In eval mode.
        objective: Objective with the state it ended in, such as its replay buffer.
        history: One row per HISTORY_ROWS-th of the run: step, seconds and the watched numbers.
        probes: What the probe measured, each {"step": int, "values": {name: tensor on the CPU}}.
        step: Steps done; less than planned when the run was stopped.
        seconds: Training time of all parts of a resumed run.
        rollbacks: How often the divergence guard had to act.
        finished: Whether the whole budget was used.
        snapshots: Files with the weights after some steps, by step; see read_snapshot.
    """

    model: nn.Module
    objective: Callable[..., dict[str, Tensor]]
    history: list[dict[str, float]]
    probes: list[dict[str, Any]]
    step: int
    seconds: float
    rollbacks: int
    finished: bool
    snapshots: dict[int, Path] = field(default_factory=dict)


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
    snapshots: int = 0,
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
        model: Network, trained in place and moved to the device.
        objective: objective(model, **batch, generator=, should_stop=) -> parts with a
            scalar "loss"; other scalars are watched, other tensors go to on_step. Its attribute
            `advice`, if it has one, says what helps when it diverges.
        batches: Source of named tensors per step; see Fresh and Shuffled.
        optimiser: Function that builds the optimiser of the model.
        steps, epochs: Budget, one of the two; epochs need batches.steps_per_epoch.
        seed: Seed of all randomness in the run but the initial weights, which are the caller's.
        warm_up: Number of steps over which learning rates rise linearly to their value.
        schedule: Factor on the learning rates by the share of the budget used, e.g. LinearTail.
        probe: probe(model) -> tensors by name, called on the model in eval mode, in float32; what it
            measures is part of the result and of checkpoints.
        probes: Number of times in the run, evenly spaced up to its end; the untrained model is probed too.
        snapshots: Number of times in the run, evenly spaced up to its end, the weights are kept in files of `folder`; those
            before the first update are kept, too.
        device, precision: See pick_device and pick_precision.
        graph: "auto" replays a step's forward and backward passes, chains included, as one CUDA graph
            on a GPU once they prove static (see graphs.Replayed); should_stop then acts between steps,
            and a chain that leaves the finite numbers shows in the loss. "off" never does.
        guard: Divergence guard; None takes Guard's defaults.
        folder: Folder that checkpoint.pt is kept in; None keeps none.
        identity: Text that says what the run is (a recipe's); a checkpoint of another one is refused.
        checkpoint_every: Number of steps between checkpoints; None makes about 20 in a run.
        should_stop: Function asked before every step, and by the objective within chains; of several processes before
            every step alone, and all stop after it.
        on_step: Function called with (step, steps, numbers, parts) HISTORY_ROWS times in a run, by the first process.
        label: Name on the progress line.
        show_progress: Whether to show that line; a panel has its own.

    Returns:
        The result; model in eval mode.

    Raises:
        ValueError: Bad arguments, or a checkpoint of another identity.
        FloatingPointError: The run diverged more often than the guard's patience. A FloatingPointError
            of the objective, the probe or on_step counts as divergence.
    """
    total = checked_budget(locals())
    place = pick_device(device)
    dtype = pick_precision(precision, model, place)
    team = Team(model.to(place), objective)
    noise = torch.Generator(place).manual_seed(team.seed(seed + STREAM))
    run = Run(model, objective, optimiser(model), noise, seed, team)
    if isinstance(objective, nn.Module):
        objective.to(place)
    team.begin()
    gradients = partial(gradients_of, run, dtype, place, should_stop if team.alone else None, graph)
    plan = _Plan.of(total, checkpoint_every, probes, snapshots)
    with (
        own_threads(model, place),
        own_randomness(team.seed(seed + STREAM), place),
        Progress(label, total, show_progress) as progress,
    ):
        course = _Course(
            run=run,
            batches=batches,
            plan=plan,
            guard=guard or Guard(),
            progress=progress,
            make_gradients=gradients,
            place=place,
            folder=Path(folder) if folder else None,
            identity=identity,
            warm_up=warm_up,
            schedule=schedule,
            probe=probe,
            should_stop=should_stop,
            on_step=on_step,
        )
        course.begin()
        course.go()
        course.end()
    return Result(
        model.eval(),
        objective,
        run.history,
        run.probes,
        run.step,
        run.seconds,
        run.rollbacks,
        run.step == total,
        course.snapshots(),
    )


def snapshot_steps(steps: int, snapshots: int) -> list[int]:
    """Return after which steps of a run its weights are kept: before the first, evenly spaced, and after the last."""
    return sorted({round(i * steps / snapshots) for i in range(snapshots + 1)}) if snapshots else []


@dataclass(frozen=True)
class _Plan:
    """What happens after which steps of a run."""

    total: int
    save_every: int
    look_every: int
    probed: frozenset[int]
    kept: frozenset[int]

    @classmethod
    def of(cls, total: int, checkpoint_every: int | None, probes: int, snapshots: int) -> _Plan:
        return cls(
            total,
            checkpoint_every or max(1, total // 20),
            math.ceil(total / HISTORY_ROWS),
            frozenset(snapshot_steps(total, probes)),
            frozenset(snapshot_steps(total, snapshots)),
        )

    def looks(self, step: int) -> bool:
        """Say whether the watched numbers are read after a step."""
        return step % self.look_every == 0 or step == self.total

    def saves(self, step: int) -> bool:
        """Say whether a checkpoint is made after a step."""
        return step % self.save_every == 0 or step == self.total


@dataclass
class _Course:
    """One run, from its checkpoint to its end."""

    run: Run
    batches: Batches
    plan: _Plan
    guard: Guard
    progress: Progress
    make_gradients: Callable[[], Callable[..., dict[str, Tensor]]]
    place: torch.device
    folder: Path | None
    identity: str
    warm_up: int
    schedule: Callable[[float], float] | None
    probe: Probe | None
    should_stop: Callable[[], bool] | None
    on_step: OnStep | None
    good: dict[str, Any] = field(default_factory=dict)  # the last state that proved finite
    untried: dict[str, Any] | None = None  # a finite state may be beyond all limits: that shows at the step after it
    stops: bool = False

    def begin(self) -> None:
        """Continue from the checkpoint if there is one, look at the first batch, measure the untrained model."""
        run, total = self.run, self.plan.total
        kept = from_first(
            lambda: read_checkpoint(self.file, self.identity) if self.file and self.file.exists() else None
        )
        if kept:
            run.load(run.team.own_part(kept))
            if 0 < run.step < total:
                self.progress.say(f"{self.progress.label}: continues at step {run.step} of {total}")
        if run.step < total:
            before = run.random_state()
            check_first_batch(run.model, run.objective, self.batches, run.step, run.data, self.place)
            run.set_random_state(before)
        if self.plan.probed and run.step == 0 and not run.probes:
            run.look(self.probe)
        if self.plan.kept and run.step == 0:
            self.keep_weights()
        self.good = run.state()

    def go(self) -> None:
        """Do step after step, until the budget is used or somebody asks to stop."""
        run = self.run
        self.gradients = self.make_gradients()
        self.worst = torch.zeros((), device=self.place)
        self.started = time.monotonic() - run.seconds
        run.model.train()
        while run.step < self.plan.total and not self.stops:
            before = run.random_state()
            asked = self.should_stop is not None and self.should_stop()
            if asked and run.team.alone:  # of several processes all stop after the same step, and none within a chain
                break
            try:
                parts = self.step(asked)
                self.look(parts)
            except Stopped:
                run.set_random_state(before)  # the unfinished step is done anew when the run continues
                break
            except FloatingPointError as error:
                self.roll_back(error)
                continue
            if self.plan.saves(run.step):
                run.seconds = time.monotonic() - self.started
                self.untried = run.state()

    def step(self, asked: bool) -> dict[str, Tensor]:
        """Update the weights once, and return the objective's parts."""
        run = self.run
        warmth = min(1.0, (run.step + 1) / self.warm_up) if self.warm_up else 1.0
        run.set_rates(warmth * (self.schedule(run.step / self.plan.total) if self.schedule else 1.0))
        parts, self.stops = run.team.compute(partial(compute, run, self.batches, self.place, self.gradients), asked)
        run.optimiser.step()
        self.worst = torch.maximum(self.worst, largest(parts))
        return parts

    def look(self, parts: dict[str, Tensor]) -> None:
        """Count the step unless it shows a divergence, and write down, probe and keep what is due after it.

        Raises:
            FloatingPointError: A watched number, a weight or what a probe measures shows one.
        """
        run, plan, step = self.run, self.plan, self.run.step + 1
        looked, saves, probed, kept = plan.looks(step), plan.saves(step), step in plan.probed, step in plan.kept
        looks = looked or saves or probed or kept
        if (looks or self.untried) and not (reached := run.team.largest(self.worst)) <= self.guard.limit:
            raise FloatingPointError(f"a watched number reached {reached:.3g} by step {step}")
        if looks and (spoilt := run.team.complaint(run.spoilt(self.guard.limit, whole=saves))):
            raise FloatingPointError(f"{spoilt} at step {step}")
        if self.untried:
            self.good, self.untried = self.untried, None
            self.keep(self.good)
        run.step = step
        if looked:
            run.seconds = time.monotonic() - self.started
            numbers = run.team.mean({name: float(v) for name, v in parts.items() if v.ndim == 0})
            run.history.append({"step": step, "seconds": run.seconds, **numbers})
            self.progress.show(step, numbers)
            if self.on_step is not None:
                from_first(partial(self.on_step, step, plan.total, numbers, parts))
        if probed:
            self.started += run.look(self.probe)  # its time is not the training's
        if kept:
            self.keep_weights()

    def roll_back(self, error: FloatingPointError) -> None:
        """Return to the last good state with lower rates.

        Raises:
            FloatingPointError: That was done as often as the guard allows.
        """
        run, label = self.run, self.progress.label
        rate, rollbacks, lost = run.rate * self.guard.factor, run.rollbacks + 1, run.step
        if rollbacks > self.guard.patience:
            raise FloatingPointError(
                f"{label} diverged {rollbacks} times ({error}); learning rates are down to {run.rate:.2g} of the recipe's. "
                f"What usually helps: a smaller learning rate, {getattr(run.objective, 'advice', ADVICE)}."
            ) from error
        run.go_back(self.good)
        run.rate, run.rollbacks = rate, rollbacks
        self.progress.say(
            f"{label}: diverged at step {lost} ({error}); back to step {run.step}, learning rates x {rate:.2g}"
        )
        self.gradients = self.make_gradients()  # an old graph holds how full the replay was then
        self.worst, self.untried = torch.zeros((), device=self.place), None

    def end(self) -> None:
        """Keep the last state; of a run that was stopped, one that proves finite."""
        run = self.run
        if run.step == self.plan.total and self.untried:
            self.keep(self.untried)
        run.seconds = time.monotonic() - self.started
        if run.step < self.plan.total:  # stopped, perhaps between a divergence and the next look at the numbers
            reached, lost = run.team.largest(self.worst), run.team.complaint(run.spoilt(self.guard.limit, whole=True))
            if lost or not reached <= self.guard.limit:
                lost = lost or f"a watched number reached {reached:.3g}"
                self.progress.say(
                    f"{self.progress.label}: stopped at step {run.step}, diverged ({lost}); back to step {self.good['step']}"
                )
                run.go_back(self.good)
            else:
                self.keep(run.state())
        run.team.end()

    @property
    def file(self) -> Path | None:
        """The checkpoint's file."""
        return self.folder / CHECKPOINT if self.folder else None

    def keep(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, which all processes take part in."""
        if self.file:
            state = self.run.team.whole(state)
            from_first(partial(write_checkpoint, self.file, state, self.identity))

    def keep_weights(self) -> None:
        """Write the weights as they are after this step."""
        weights = {"step": self.run.step, "model": self.run.model.state_dict()}
        from_first(partial(write_checkpoint, snapshot_file(self.folder, self.run.step), weights, self.identity))

    def snapshots(self) -> dict[int, Path]:
        """Return the files with the weights after some steps that this run has passed, by step."""
        files = {step: snapshot_file(self.folder, step) for step in sorted(self.plan.kept) if step <= self.run.step}
        return {step: file for step, file in files.items() if file.exists()}
