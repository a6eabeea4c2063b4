"""Data-parallel training from a notebook: torchrun beside this process, its progress shown here.

Processes of their own, and not forks of this one: a fork breaks once CUDA was used.

Imports: checks, workspace, its own folder.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from oodlab import checks, workspace
from oodlab.training.devices import pick_device
from oodlab.training.loop import Result
from oodlab.training.parallel import check_gpus
from oodlab.training.progress import Progress
from oodlab.training.recipe import Recipe
from oodlab.training.stored import check_recipe, forget, is_finished, train_or_load

GRACE = 45  # seconds; torchrun gives its processes 30 to end after their step
LAST_LINES = 12


def train_or_load_in_parallel(
    recipe: Recipe,
    *,
    processes: int,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    graph: str = "auto",
    anew: bool | None = None,
) -> Result:
    """Train a recipe on several processes of this machine, go on with it, or load what it has become.

    The cores that this process may use are shared out; on GPUs each process has one of
    its own. When this process is interrupted, the others end after their step, and the
    next call continues.

    Args:
        recipe: Recipe, as train_or_load takes it; its parts come from modules, not from a notebook's cells.
        processes: How many.
        seed, device, precision, graph, anew: The arguments of train_or_load.

    Raises:
        ValueError: Bad arguments.
        RuntimeError: The training failed; with the last lines of the first process that did.
    """
    check_recipe("train_or_load_in_parallel", recipe, seed, precision, graph)
    checks.whole("train_or_load_in_parallel", "processes", processes, least=1)
    check_gpus(pick_device(device), processes)
    pickled = _pickled(recipe)
    if workspace.trains_anew() if anew is None else anew:
        forget(recipe, seed)
    if not is_finished(recipe, seed):
        given = {"seed": seed, "device": device, "precision": precision, "graph": graph}
        _train(recipe, pickled, processes, given)
    return train_or_load(recipe, seed=seed, device=device, precision=precision, graph=graph, anew=False)


def _pickled(recipe: Recipe) -> bytes:
    """Return what the other processes make the recipe of."""
    reason = None
    try:
        pickled = pickle.dumps(recipe)
        if b"__main__" not in pickled:
            return pickled
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # a lambda, a function within another, a lock
        reason = error
    raise ValueError(
        f"train_or_load_in_parallel expects a recipe whose parts come from modules, got {recipe.name} with one defined in "
        "this notebook or script: the other processes cannot import it; put it into a file of its own."
    ) from reason


def _train(recipe: Recipe, pickled: bytes, processes: int, given: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="oodlab-") as name:
        events, log, file = (Path(name) / part for part in ("events", "log", "recipe"))
        file.write_bytes(pickled)
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        threads = max(1, torch.get_num_threads() // processes)
        given = {**given, "pickled": file, "owner": os.getpid(), "threads": threads}
        command = [sys.executable, "-m", *torchrun, "-m", "oodlab.batch.train"]
        command += [f"--{option}={value}" for option, value in given.items()]
        with (
            log.open("wb") as printed,
            Progress(f"{recipe.name} seed {given['seed']}", recipe.steps, True) as progress,
        ):
            process = subprocess.Popen(
                command,
                env={**os.environ, "OODLAB_PROGRESS": str(events), "OODLAB_ANEW": ""},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt reaches it once, from here
            )
            errors, offset = [], 0
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=0.2)
                    news, offset = workspace.events(events, offset)
                    errors += _show(news, progress)
            finally:
                _end(process)
        # one that falls as it leaves has done its part
        if process.returncode and not is_finished(recipe, given["seed"]):
            said = errors[0] if errors else _last_lines(log)
            raise RuntimeError(
                f"{recipe.name} on {processes} processes ended with status {process.returncode}; its last lines:\n{said}"
            )


def _last_lines(log: Path) -> str:
    """Return what was printed last before torchrun's own account of it, and that account's first line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    failed = [i for i, line in enumerate(lines) if "torch/distributed/elastic" in line] or [len(lines)]
    return "\n".join(lines[: failed[0] + 1][-LAST_LINES:])


def _show(events: list[dict[str, Any]], progress: Progress) -> list[str]:
    """Show the events that came, and return the errors among them."""
    errors = []
    for event in events:
        if event.get("event") == "step":
            progress.show(event["step"], event["numbers"])
        elif event.get("event") == "said":
            progress.say(event["text"])
        elif event.get("event") == "error":
            errors.append(event["text"])
    return errors


def _end(process: subprocess.Popen) -> None:
    """End torchrun if it runs, which ends its processes; they end by themselves if it is killed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=GRACE)
        finally:
            process.kill()
            process.wait()
