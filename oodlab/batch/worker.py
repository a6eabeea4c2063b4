"""A cluster worker's part: run a notebook in a kernel of its own, and return its output.

The driver's side is in `cluster`, and calls `facts`, `misfit` and `job`.

Imports: dask, distributed, workspace, record, environment, kernel.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
from distributed import Status, get_worker

from oodlab import workspace
from oodlab.batch import record
from oodlab.batch.environment import environment
from oodlab.batch.kernel import Kernel, explain

TOPIC = "oodlab"  # Dask topic of the messages from workers to drivers
ENDING = (Status.closing, Status.closed, Status.failed)


def facts() -> dict[str, str]:
    """Return the versions that a worker and the driver must share.

    The version of torch is given without its build, that of Python without its patch: a driver
    without a GPU may use workers with one.
    """
    source = record.digest([workspace.source_hash(), record.numbers()])
    torch = importlib.metadata.version("torch").partition("+")[0]
    python = ".".join(platform.python_version_tuple()[:2])
    return {"oodlab": source[:12], "torch": torch, "Python": python}


def job(
    notebook: bytes, parameters: dict[str, Any], anew: bool, wanted: dict[str, str], threads: Mapping[str, int]
) -> dict[str, Any]:
    """Run a notebook; this is what a worker executes, in one of its threads.

    Args:
        notebook: The file's content.
        parameters: Values of a cell inserted after the parameters cell.
        anew: Whether finished trainings are repeated.
        wanted: Facts of the driver.
        threads: Host -> number of threads of all its workers, which share the host's cores.

    Returns:
        error ("" if none), notebook (executed, None if it could not be read), events (figures in them
        with paths relative to the folder of figures), and files (such a path -> content of the file).

    Raises:
        ValueError: This worker does not fit, for example because it joined after the driver had checked all workers.
    """
    worker = get_worker()
    complaint = misfit(worker.address, facts(), wanted)
    if complaint:
        raise ValueError(complaint)
    key = worker.get_current_task()
    # Below the worker's own folder: Dask removes that also for a worker that was killed.
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=worker.local_directory)).resolve()
    path, output, figures, reported = (
        folder / name for name in ("notebook.ipynb", "executed.ipynb", "figures", "events.jsonl")
    )
    path.write_bytes(notebook)
    places = {"OODLAB_PROGRESS": str(reported), "OODLAB_FIGURES": str(figures)}
    kernel = Kernel(folder, _environment(worker, threads) | places | ({"OODLAB_ANEW": "1"} if anew else {}))

    def say(**news: Any) -> None:
        worker.log_event(TOPIC, {"job": key, **news})

    error = ""
    try:
        with _watched(kernel, worker, key, reported, say):
            try:
                kernel.execute(
                    path, output, parameters=parameters, on_start=say, on_cell=lambda *cell: say(cell=list(cell))
                )
            except Exception as fault:  # the driver's user reads it
                error = explain(fault, folder / "kernel.log")
        events, _ = workspace.events(reported, 0)
        files = {}
        for event in events:
            if event.get("event") == "figure":
                for kind in ("png", "json"):
                    file = Path(event[kind])
                    event[kind] = file.relative_to(figures).as_posix()
                    files[event[kind]] = file.read_bytes()
        executed = output.read_bytes() if output.exists() else None
        return {"error": error, "notebook": executed, "events": events, "files": files}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _watched(kernel: Kernel, worker: Any, key: str, reported: Path, say: Callable[..., None]) -> Iterator[None]:
    """Twice a second, send a training's last step, and kill the kernel if its job has been cancelled."""
    over = threading.Event()

    def watch() -> None:
        offset = 0
        while not over.wait(0.5):
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing" or worker.status in ENDING:
                kernel.kill()  # again and again: it may just be starting
            news, offset = workspace.events(reported, offset)
            steps = [event for event in news if event.get("event") == "step"]
            if steps:
                say(step=steps[-1])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _environment(worker: Any, threads: Mapping[str, int]) -> dict[str, str]:
    """Return a kernel's environment: the worker's, without what Dask sets for its own threads.

    The cores that the worker may use are shared out among the threads of all workers
    of its host, whether or not each runs a notebook now.
    """
    host = worker.address.rpartition(":")[0].partition("://")[2].strip("[]")
    dasks = dask.config.get("distributed.nanny.pre-spawn-environ")  # OMP_NUM_THREADS=1 and the like
    inherited = {name: value for name, value in os.environ.items() if name not in dasks}
    sharing = max(threads.get(host, 0), worker.state.nthreads)
    return environment(inherited, max(1, dask.system.CPU_COUNT // sharing))


def misfit(worker: str, theirs: dict[str, str] | BaseException, wanted: dict[str, str]) -> str:
    """Say why a worker does not fit the driver; "" if it does."""
    who = f"oodlab expects of the worker {worker} what the driver has"
    advice = "install the same on both and start the worker again."
    if isinstance(theirs, BaseException):
        return f"{who}, got {type(theirs).__name__}: {theirs}: the kit is not installed there, or in another version; {advice}"
    differing = [name for name in wanted if theirs.get(name) != wanted[name]]
    if not differing:
        return ""
    got = ", ".join(f"{name} {theirs.get(name)} (the driver has {wanted[name]})" for name in differing)
    return f"{who}, got {got}: the figures would differ from those of a local run; {advice}"
