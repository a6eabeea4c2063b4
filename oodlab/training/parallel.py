"""The processes that train one model together: ranks of torch.distributed's group.

How processes come together and end; what they do together is in training.team.

Imports: torch only.
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


def from_all(value: T) -> list[T]:
    """Return every rank's value, in the order of ranks."""
    every: list[Any] = [value] * ranks()
    if ranks() > 1:
        dist.all_gather_object(every, value)
    return every
