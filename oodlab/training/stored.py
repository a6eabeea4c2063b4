"""Trainings that are kept: train a preset, go on with it, or load what it has become.

Imports: checks, workspace, its own folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from oodlab import checks, workspace
from oodlab.training import parallel
from oodlab.training.batches import Batches
from oodlab.training.checkpoints import CHECKPOINT, read_checkpoint
from oodlab.training.devices import GRAPHS, PRECISIONS, is_small, own_randomness, pick_device
from oodlab.training.loop import OnStep, Probe, Result, fit
from oodlab.training.progress import Progress

DECIDES_A_TRAINING = (
    "data",
    "models",
    "objectives",
    "graphs.py",
    "samplers.py",
    "replay.py",
    "training",
)  # source that is hashed
WORTH_A_PROCESS = 2000  # updates in all; below it starting processes costs more than they save


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
    probe: Callable[[], Probe] | None
    probes: int
    start: Trainable | None


def train_or_load(
    preset: Trainable,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    graph: str = "auto",
    anew: bool | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_step: OnStep | None = None,
) -> Result:
    """Train a preset, go on with its unfinished training, or load the finished one.

    The checkpoint lies below the runs folder under the preset's name, profile,
    seed and the hash of its text and of the source code that decides a training.
    The training it starts from is kept in the same way, for all that start from it.

    Args:
        preset: See presets.Preset.
        seed: Of the initial weights and of the run, also of the one it starts from.
        anew: Train again what is finished, but not what it starts from; None asks workspace.trains_anew.
        device, precision, graph, should_stop, on_step: As in fit; on_step is of this training only.

    Returns:
        The training's result, or, where should_stop ended the one it starts from, that one's.
    """
    _check("train_or_load", preset, seed, precision, graph)
    place = pick_device(device)
    with own_randomness(seed, place):
        model = preset.model()
    folder = _folder(preset, seed)
    anew = workspace.trains_anew() if anew is None else anew
    if anew:
        parallel.from_first(partial(_forget, preset, seed))
    if preset.start and not parallel.from_first((folder / CHECKPOINT).exists):
        given = {"device": device, "precision": precision, "graph": graph, "should_stop": should_stop}
        first = train_or_load(preset.start, seed=seed, anew=False, **given)
        if not first.finished:
            return first
        model.load_state_dict(first.model.state_dict())
    return fit(
        model,
        preset.objective(model),
        preset.batches(),
        optimiser=preset.optimiser,
        steps=preset.steps,
        warm_up=preset.warm_up,
        schedule=preset.schedule,
        probe=preset.probe() if preset.probe else None,
        probes=preset.probes,
        seed=seed,
        device=device,
        precision=precision,
        graph=graph,
        folder=folder,
        identity=preset.text,
        should_stop=should_stop,
        on_step=on_step,
        label=f"{preset.name} seed {seed}",
    )


def train_or_load_all(
    presets: Mapping[str, Trainable],
    seeds: Mapping[str, Sequence[int]],
    *,
    device: str = "auto",
    precision: str = "auto",
    graph: str = "auto",
) -> dict[str, list[Result]]:
    """Train or load several presets for several seeds each.

    Small dense networks use one core each (see fit); on a CPU they train side by
    side, in as many processes as this one has threads, through their checkpoints.

    Args:
        presets: By name.
        seeds: Seeds by the same names.
        device, precision, graph: As in fit.
    """
    for name, preset in presets.items():
        if not isinstance(seeds.get(name), Sequence) or not len(seeds[name]):
            raise ValueError(
                f"train_or_load_all expects seeds for {name!r}, got {seeds.get(name)!r}: give a sequence such as range(3)."
            )
        for seed in seeds[name]:
            _check("train_or_load_all", preset, seed, precision, graph)
    tasks = [(preset, seed) for name, preset in presets.items() for seed in seeds[name]]
    if not workspace.trains_anew():
        tasks = [(preset, seed) for preset, seed in tasks if not is_finished(preset, seed)]
    waves = _waves(tasks)
    workers = min(torch.get_num_threads(), max(map(len, waves), default=0)) if pick_device(device).type == "cpu" else 1
    worth_it = sum(preset.steps for wave in waves for preset, _ in wave) >= WORTH_A_PROCESS
    with own_randomness(0, torch.device("cpu")):  # building a model draws its weights
        small = all(is_small(preset.model()) for preset in presets.values())
    side_by_side = workers > 1 and worth_it and small
    if side_by_side:
        for wave in waves:
            _train_side_by_side(wave, workers, precision, graph)
    anew = False if side_by_side else None  # what the processes have just finished is loaded
    return {
        name: [
            train_or_load(preset, seed=seed, device=device, precision=precision, graph=graph, anew=anew)
            for seed in seeds[name]
        ]
        for name, preset in presets.items()
    }


def _check(who: str, preset: Trainable, seed: int, precision: str, graph: str) -> None:
    missing = [name for name in Trainable.__annotations__ if not hasattr(preset, name)]
    if missing:
        raise ValueError(
            f"{who} expects a preset, got {type(preset).__name__} without {', '.join(missing[:3])}: an experiment's trainings "
            "are in its `runs`; pass one of them, at a profile."
        )
    checks.whole(who, "seed", seed, least=0)
    if preset.start:
        _check(who, preset.start, seed, precision, graph)
        shapes = [{name: tuple(value.shape) for name, value in _fresh(part).items()} for part in (preset, preset.start)]
        if shapes[0] != shapes[1]:
            other = next(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
            raise ValueError(
                f"{preset.name} expects to start from a training of the same model, got {preset.start.name}: {other} is "
                f"{shapes[0].get(other)} here and {shapes[1].get(other)} there."
            )
    checks.one_of("precision", "one of", precision, PRECISIONS)  # as fit says it
    checks.one_of(who, "graph", graph, GRAPHS)


def _fresh(preset: Trainable) -> dict[str, Tensor]:
    with own_randomness(0, torch.device("cpu")):  # building a model draws its weights
        return preset.model().state_dict()


def _folder(preset: Trainable, seed: int) -> Path:
    """Where a training's checkpoint lies; other code or another setting has another folder."""
    code = workspace.source_hash(*DECIDES_A_TRAINING) + _builders(preset)
    key = hashlib.sha256((preset.text + code).encode()).hexdigest()[:12]
    return workspace.runs_folder() / "checkpoints" / preset.name / f"{preset.profile}-seed{seed}-{key}"


def _builders(preset: Trainable) -> str:
    """Return the source of what builds a training's parts, and those of the one it starts from."""
    parts = [part for part in (preset.model, preset.objective, preset.batches, preset.probe) if part]
    own = "".join(inspect.getsource(getattr(part, "func", part)) for part in parts)
    return own + (_builders(preset.start) if preset.start else "")


def _forget(preset: Trainable, seed: int) -> None:
    """Delete a finished training; an unfinished one goes on, as it belongs to a run that was interrupted."""
    if is_finished(preset, seed):
        (_folder(preset, seed) / CHECKPOINT).unlink()


def is_finished(preset: Trainable, seed: int) -> bool:
    """Return whether train_or_load would load this training whole."""
    file = _folder(preset, seed) / CHECKPOINT
    return file.exists() and read_checkpoint(file, preset.text)["step"] == preset.steps


def _waves(tasks: Sequence[tuple[Trainable, int]]) -> list[list[tuple[Trainable, int]]]:
    """Put these trainings, and the unfinished ones that they start from, behind what they start from."""
    chosen = {_folder(*task): task for task in tasks}
    waves: dict[int, list[tuple[Trainable, int]]] = {}
    for preset, seed in tasks:
        while preset.start:
            preset = preset.start
            if not is_finished(preset, seed):
                chosen.setdefault(_folder(preset, seed), (preset, seed))
    for preset, seed in chosen.values():
        waves.setdefault(_depth(preset), []).append((preset, seed))
    return [wave for _, wave in sorted(waves.items())]


def _depth(preset: Trainable) -> int:
    return 1 + _depth(preset.start) if preset.start else 0


def _train_side_by_side(tasks: Sequence[tuple[Trainable, int]], workers: int, precision: str, graph: str) -> None:
    spawn = multiprocessing.get_context("spawn")  # fork would copy a process whose threads hold locks
    stop = spawn.Event()
    start = {"mp_context": spawn, "initializer": _start_worker, "initargs": (stop, os.getpid())}
    with (
        ProcessPoolExecutor(workers, **start) as pool,
        Progress(f"{len(tasks)} trainings, {workers} at a time", len(tasks), True) as progress,
    ):
        try:
            futures = [pool.submit(_train_one, preset, seed, precision, graph) for preset, seed in tasks]
            for done, future in enumerate(as_completed(futures), 1):
                said = future.result()
                progress.show(done, {})
                for line in said:
                    progress.say(line)
        except BaseException:  # an interrupt too: the workers write their checkpoints and end
            stop.set()
            pool.shutdown(cancel_futures=True)  # waits: whoever runs the cell again finds nobody writing
            raise


# ------------------------------------------------------------------------- in a worker process

_stop: Event | None = None


def _start_worker(stop: Event, parent: int) -> None:
    """Keep the worker on one thread, and let it end with the process that started it."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent turns it into stop
    torch.set_num_threads(1)
    parallel.end_with(parent)


def _train_one(preset: Trainable, seed: int, precision: str, graph: str) -> list[str]:
    """Train; the result reaches the caller as a checkpoint, what is unusual as text."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        train_or_load(preset, seed=seed, device="cpu", precision=precision, graph=graph, should_stop=_stop.is_set)
    return [line for line in said.getvalue().splitlines() if "diverged" in line or "continues" in line]
