"""Notebooks on the workers of a Dask cluster: a notebook is sent as bytes and comes back executed, with its figures.

    with connect("tcp://10.0.0.1:8786") as cluster:
        kernel = cluster.kernel(events, figures, anew=False)
        kernel.execute(path, output, parameters={}, on_start=..., on_cell=...)

A worker gets the notebook and its parameters, runs it in a kernel of its own in a
temporary folder and returns the executed notebook, its figures and its events; no
file system is shared. Data, downloads and checkpoints are the worker's own
(OODLAB_DATA, OODLAB_CACHE, OODLAB_RUNS), so a job that comes to a worker again
continues from its checkpoint.

A job runs again elsewhere when its worker is lost, as often as the scheduler's
distributed.scheduler.allowed-failures says (3), and never when its notebook fails.
A kernel ends with its worker (ipykernel watches its parent) and when its job is
no longer wanted: cancelled, or the driver gone. What a worker does is in `worker`.

Imports: distributed, workspace, notebook, kernel, worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker

from oodlab import workspace
from oodlab.batch.kernel import ExplainedError
from oodlab.batch.notebook import UsageError
from oodlab.batch.worker import TOPIC, facts, job, misfit

logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # the runner prints its errors once
CONNECT_SECONDS = 10
PATIENCE_SECONDS = 60  # how long jobs wait for a first worker to return; Dask restarts one in about 2 s
WORKER = "dask worker {address} --nworkers 1 --nthreads 1"


@contextlib.contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler whose workers all fit this process; leaving the context cancels all jobs.

    Raises:
        UsageError: No scheduler answers at the address, there are no workers, or a worker does not fit.
    """
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"oodlab expects a Dask scheduler at {address}, got no answer within {CONNECT_SECONDS} s "
            f"({type(error).__name__}): it does not run, or this machine does not reach it; start it with "
            "`dask scheduler --host HOST --port PORT`."
        ) from error
    with client:
        yield Cluster(client, address)


class Cluster:
    """The workers behind a scheduler.

    Args:
        client: Connection to the scheduler.
        address: Address of the scheduler, as the user wrote it.

    Raises:
        UsageError: There are no workers, or a worker does not fit.
    """

    def __init__(self, client: Client, address: str):
        self.client = client
        self.address = address
        self.listeners: dict[str, Callable[[dict[str, Any]], None]] = {}  # job -> function that gets its messages
        self.resources: dict[str, float] = {}  # resources that each job requires
        found = self.workers()
        if not found:
            raise UsageError(
                f"oodlab expects workers at {address}, got none: the scheduler only hands out jobs; start one on "
                f"each machine with `{WORKER.format(address=address)}` (for a GPU, add --resources GPU=1)."
            )
        if any("GPU" in worker["resources"] for worker in found.values()):
            self.resources = {"GPU": 1}
        self.facts = facts()
        there = client.run(facts, on_error="return")
        wrong = [misfit(worker, theirs, self.facts) for worker, theirs in sorted(there.items())]
        if any(wrong):
            raise UsageError("\n".join(filter(None, wrong)))
        self.threads: dict[str, int] = {}  # host -> threads of all its workers
        for worker in found.values():
            self.threads[worker["host"]] = self.threads.get(worker["host"], 0) + worker["nthreads"]
        client.subscribe_topic(TOPIC, self._hear)

    def workers(self) -> dict[str, Any]:
        """Return the workers that a job may run on: address -> the scheduler's description of the worker."""
        found = self.client.scheduler_info(n_workers=-1)["workers"]
        return {name: worker for name, worker in found.items() if self.resources.keys() <= worker["resources"].keys()}

    def kernel(self, events: Path, figures: Path, *, anew: bool) -> RemoteKernel:
        """Return a kernel on whichever worker is free first.

        Args:
            events: File for the notebook's events; while the notebook runs, the last event of each second.
            figures: Folder for the figures.
            anew: Whether finished trainings are repeated.
        """
        return RemoteKernel(self, events, figures, anew=anew)

    def _hear(self, news: tuple[float, dict[str, Any]]) -> None:
        """Pass a worker's message to the listener of its job; messages of other drivers' jobs are ignored."""
        listener = self.listeners.get(news[1]["job"])
        if listener:
            listener(news[1])


class RemoteKernel:
    """Runs one notebook on a worker, as `kernel.Kernel` does here; another thread may kill it."""

    def __init__(self, cluster: Cluster, events: Path, figures: Path, *, anew: bool):
        self.cluster = cluster
        self.events = events
        self.figures = figures
        self.anew = anew
        self._future: Future | None = None

    def execute(
        self,
        path: Path,
        output: Path,
        *,
        parameters: dict[str, Any],
        on_start: Callable[[], None],
        on_cell: Callable[[int, int], None],
    ) -> None:
        """Run the notebook to its end, and put its output where a local run would have put it.

        Args:
            path: The notebook; left unchanged.
            output: Where the executed notebook goes, when it has ended.
            parameters: Values of a cell inserted after the parameters cell.
            on_start: Called when a worker begins, and again when another worker must begin anew.
            on_cell: Called with (number from 1, of how many) when a code cell starts.

        Raises:
            ExplainedError: The notebook or the cluster failed.
            Exception: The error that the worker's side of the kit raised.
        """

        def hear(news: dict[str, Any]) -> None:
            if "cell" in news:
                on_cell(*news["cell"])
            elif "step" in news:
                with open(self.events, "a", encoding="utf-8") as file:
                    file.write(json.dumps(news["step"]) + "\n")
            else:
                on_start()

        key = f"oodlab-{path.parent.name}-{path.stem}-{uuid.uuid4().hex}"
        cluster = self.cluster
        cluster.listeners[key] = hear
        try:
            self._future = cluster.client.submit(
                job,
                path.read_bytes(),
                parameters,
                self.anew,
                cluster.facts,
                cluster.threads,
                key=key,
                resources=cluster.resources,
            )
            result = self._result(self._future)
        finally:
            del cluster.listeners[key]
            self._future = None  # lets the cluster forget the result
        self._land(result, output)
        if result["error"]:
            raise ExplainedError(result["error"])

    def kill(self) -> None:
        """Cancel the job; its worker ends the kernel within a second."""
        future = self._future
        if future is not None:
            future.cancel()

    def _result(self, future: Future) -> dict[str, Any]:
        """Wait for a job's result for as long as there is a worker."""
        address, last_seen = self.cluster.address, time.monotonic()
        while True:
            try:
                return future.result(timeout=5)
            except TimeoutError:
                pass
            except CancelledError as error:
                raise ExplainedError(
                    f"The scheduler at {address} has ended, and with it the notebooks that ran there; finished runs are kept, and "
                    "trainings continue from their checkpoints on the workers: start the scheduler and run again."
                ) from error
            except KilledWorker as error:
                raise ExplainedError(
                    f"Every worker of {address} that began this notebook was lost, the last of them "
                    f"{error.last_worker.address}; the usual reason is that its machine ran out of memory."
                ) from error
            if self.cluster.workers():
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > PATIENCE_SECONDS:
                raise ExplainedError(
                    f"{address} has had no worker for this notebook for {PATIENCE_SECONDS} s; start one with "
                    f"`{WORKER.format(address=address)}` and run again."
                )

    def _land(self, result: dict[str, Any], output: Path) -> None:
        """Write the files that a worker returned: figures, then events, then the notebook."""
        for event in result["events"]:
            if event.get("event") == "figure":
                numbers = json.loads(result["files"][event["json"]])
                stand_in = isinstance(numbers, dict) and bool(numbers.get("stand_in"))
                folder = workspace.permitted(self.figures, stand_in=stand_in)
                with workspace.only_writer((folder / event["json"]).parent):
                    for kind in ("png", "json"):
                        name, event[kind] = event[kind], str(folder / event[kind])
                        with workspace.atomic_file(folder / name) as file:
                            file.write(result["files"][name])
        with workspace.atomic_file(self.events) as file:
            file.writelines(json.dumps(event).encode() + b"\n" for event in result["events"])
        if result["notebook"] is not None:
            with workspace.atomic_file(output) as file:
                file.write(result["notebook"])
