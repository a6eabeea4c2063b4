"""Data-parallel training: several processes, one model, the gradient of the whole batch.

Every process (a rank of torch.distributed's group) draws the same batch, takes its
slice of it and keeps its share of the replay; noise is its own. After backward one
all-reduce averages all gradients in one flat tensor, so that all ranks make the same
optimiser step. No wrapper around the model: torch's waits for gradients that some
objectives never give (score matching has none for an output bias), and is wrong in silence.

Whatever decides the course of a run (a stop, a divergence, what a checkpoint says) is
agreed on by all ranks, or else some would wait in an all-reduce that others never reach.

In a single process every function returns what it is given.

Imports: replay.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from oodlab.replay import ReplayBuffer, joined, share_of

STREAM = 2_654_435_769  # between two ranks' seeds: golden ratio of 2**32, whose multiples lie far apart
PATIENCE = timedelta(minutes=10)  # a rank that waits longer for the others ends with an error

T = TypeVar("T")


def ranks() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number among them, from 0; rank 0 writes and prints."""
    return dist.get_rank() if ranks() > 1 else 0


def join_group(device: str) -> str:
    """Join the processes that torchrun started with this one, if it did, and return the device of this one.

    Raises:
        ValueError: There are more processes on this machine than GPUs.
    """
    if "WORLD_SIZE" not in os.environ:
        return device
    place = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    check_gpus(place, here)
    if place.type == "cuda":
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    # few numbers are agreed on from the CPU, also where gradients are averaged between GPUs
    dist.init_process_group("gloo" if place.type == "cpu" else "cpu:gloo,cuda:nccl", timeout=PATIENCE)
    return str(place)


def check_gpus(place: torch.device, processes: int) -> None:
    """Raise ValueError where a machine has more processes than GPUs to give them."""
    if place.type == "cuda" and processes > torch.cuda.device_count():
        raise ValueError(
            f"training on GPUs expects one for each process, got {processes} processes and {torch.cuda.device_count()} GPUs: "
            "two on one GPU only wait for each other; start fewer, or name the device cpu."
        )


def leave_group() -> None:
    """Leave the group that join_group joined; not after an error, when the others may be gone."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def end_with(parent: int, *others: int) -> None:
    """End this process within a second of the one that started it, or of any other: nobody is left to stop it."""

    def watch() -> None:
        while os.getppid() == parent and all(_runs(process) for process in others):
            time.sleep(1)
        os._exit(1)  # checkpoints are written whole or not at all

    threading.Thread(target=watch, daemon=True).start()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# ------------------------------------------------------------------------ what each rank has of its own


def own_seed(seed: int) -> int:
    """Return this rank's seed of a run's noise; rank 0 has the run's own."""
    return seed + rank() * STREAM


def own_slice(batch: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Return this rank's equal part of a batch (x, y or None)."""
    x, y = batch
    if len(x) % ranks():
        raise ValueError(
            f"training on {ranks()} processes expects batches of a multiple of {ranks()}, got {len(x)}: every process "
            f"takes an equal slice; start a number of processes that divides {len(x)}, or change batch_size."
        )
    n = len(x) // ranks()
    part = slice(rank() * n, (rank() + 1) * n)
    return x[part], None if y is None else y[part]


def divide(model: nn.Module, objective: Callable[..., Any]) -> None:
    """Give every rank the weights of rank 0, and this one its share of the objective's replay.

    Raises:
        ValueError: The objective is not a mean over inputs, or a replay cannot be divided.
    """
    if ranks() == 1:
        return
    if getattr(objective, "couples_batch", False):
        raise ValueError(
            f"training on {ranks()} processes expects an objective that is a mean over inputs, got {objective}: its value on "
            "a slice means something else than on the batch; train it in one process."
        )
    model.load_state_dict(from_first(lambda: _on_cpu(model.state_dict())))
    for _, replay in _replays(objective):
        replay.divide(rank(), ranks())


def reunite(objective: Callable[..., Any]) -> None:
    """Give every rank the whole replay again."""
    if ranks() > 1:
        for _, replay in _replays(objective):
            replay.replace(joined(_from_all(_on_cpu(replay.state_dict()))))


# ------------------------------------------------------------------------------- what all ranks agree on


def together(compute: Callable[[], T], model: nn.Module, stops: bool) -> tuple[T, bool]:
    """Compute gradients on every rank and put their mean in place of each; running statistics likewise.

    A parameter without gradient counts as zero, and has none afterwards if it had none on
    any rank. Whether a rank stops or failed travels with the gradients: once a step it is
    read from the device.

    Args:
        compute: Leaves gradients in the model's parameters.
        model: The same weights on all ranks.
        stops: Whether this rank is asked to stop.

    Returns:
        What compute returns here, and whether any rank is asked to stop: then all do, after this step.

    Raises:
        FloatingPointError: compute raised it on one of the ranks, so here too.
    """
    if ranks() == 1:
        return compute(), False
    result, error = None, None
    try:
        result = compute()
    except FloatingPointError as raised:  # the others wait for this rank's part of the mean
        error = f"process {rank()}: {raised}"
    parameters = [p for p in model.parameters() if p.requires_grad]
    has = [error is None and p.grad is not None for p in parameters]
    values = [p.grad if here else torch.zeros_like(p) for p, here in zip(parameters, has, strict=True)]
    statistics = [
        value
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        for value in (module.running_mean, module.running_var)
    ]
    said = torch.tensor([*has, stops, error is not None], dtype=torch.float32, device=values[0].device)
    flat = torch.cat([value.detach().flatten() for value in (*values, *statistics, said)])
    dist.all_reduce(flat)
    *has, stops, failed = (count > 0 for count in flat[-len(said) :].tolist())
    if failed:
        raise FloatingPointError(next(text for text in _from_all(error) if text))
    means = (flat[: -len(said)] / ranks()).split([value.numel() for value in (*values, *statistics)])
    for parameter, here, mean in zip(parameters, has, means, strict=False):
        if here and parameter.grad is None:
            parameter.grad = mean.view_as(parameter).to(parameter.dtype, copy=True)
        elif here:
            parameter.grad.copy_(mean.view_as(parameter))
    for value, mean in zip(statistics, means[len(parameters) :], strict=True):
        value.copy_(mean)
    return result, stops


def largest(value: Tensor) -> float:
    """Return the largest of all ranks' numbers."""
    return max(_from_all(float(value)))


def complaint(text: str) -> str:
    """Return what the first rank with a complaint says, "" if none has one."""
    return next((said for said in _from_all(text) if said), "")


def mean(numbers: dict[str, float]) -> dict[str, float]:
    """Return the means over ranks of numbers that all of them have."""
    every = _from_all(numbers)
    return {name: sum(of[name] for of in every) / len(every) for name in numbers}


def from_first(act: Callable[[], T]) -> T:
    """Let rank 0 act, and return on every rank what it got, or raise what it raised."""
    if ranks() == 1:
        return act()
    told: list[Any] = [None]
    if rank() == 0:
        try:
            told = [(act(), None)]
        except Exception as error:  # it reaches the caller on every rank, this one too
            told = [(None, error)]
    dist.broadcast_object_list(told)
    value, error = told[0]
    if error is not None:
        raise error
    return value


# ---------------------------------------------------------------------------------------- checkpoints


def whole(state: dict[str, Any], model: nn.Module, objective: Callable[..., Any]) -> dict[str, Any]:
    """Return a run's state with the parts that each rank has of its own.

    The replay is put together as one process would hold it, "random" becomes a list.

    Raises:
        RuntimeError: The ranks' weights are no longer the same.
    """
    if ranks() == 1:
        return state
    every = _from_all({"sum": _fingerprint(model), "random": state["random"], "objective": _on_cpu(state["objective"])})
    if any(of["sum"] != every[0]["sum"] for of in every):
        raise RuntimeError(
            f"training on {ranks()} processes expects the same weights in each, got different ones: part of the model sets "
            "itself by the data it sees, as ActNorm does at its first batch (show it one before training), or the "
            "processes compute on different hardware."
        )
    own = dict(state["objective"])
    for prefix, _ in _replays(objective):
        shares = [{key: of["objective"][prefix + key] for key in ("states", "_extra_state")} for of in every]
        own.update({prefix + key: value for key, value in joined(shares).items()})
    return {**state, "objective": own, "random": [of["random"] for of in every]}


def own_part(state: dict[str, Any], objective: Callable[..., Any]) -> dict[str, Any]:
    """Return this rank's part of a whole state; "random" is None if another number of ranks made it."""
    states = state["random"] if isinstance(state["random"], list) else [state["random"]]
    own = dict(state["objective"])
    for prefix, _ in _replays(objective) if ranks() > 1 else ():
        held = {key: own[prefix + key] for key in ("states", "_extra_state")}
        own.update({prefix + key: value for key, value in share_of(held, rank(), ranks()).items()})
    return {**state, "objective": own, "random": states[rank()] if len(states) == ranks() else None}


def _replays(objective: Callable[..., Any]) -> list[tuple[str, ReplayBuffer]]:
    """Return an objective's replays, each with what its names in the state_dict begin with."""
    modules = objective.named_modules() if isinstance(objective, nn.Module) else ()
    return [(f"{name}." if name else "", module) for name, module in modules if isinstance(module, ReplayBuffer)]


def _from_all(value: T) -> list[T]:
    every: list[Any] = [value] * ranks()
    if ranks() > 1:
        dist.all_gather_object(every, value)
    return every


def _on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.cpu() if torch.is_tensor(value) else value for name, value in state.items()}


def _fingerprint(model: nn.Module) -> int:
    """Return the sum of all bytes of a model's weights and buffers: exact, whatever the order."""
    values = [value for value in model.state_dict().values() if torch.is_tensor(value)]
    return sum(int(value.contiguous().flatten().view(torch.uint8).sum(dtype=torch.int64)) for value in values)
