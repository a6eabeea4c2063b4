"""Notebooks on a Dask cluster: a real scheduler and two worker processes that share no folder with the driver."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nbformat
import psutil
import pytest
import test_runner
from test_runner import DRAW, alive, hear_interrupts, wait_for, write

from oodlab import workspace
from oodlab.batch import runner
from oodlab.batch.command import main
from oodlab.batch.progress import Progress

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra cluster"),
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

notebooks = test_runner.notebooks  # the fixture
ROOT = Path(__file__).parents[2]
TELL = """\
import json, os
facts = {name: value for name, value in os.environ.items() if name.startswith(("OODLAB_", "MALLOC_"))}
print(json.dumps(facts | {"folder": os.getcwd(), "place": os.environ["PLACE"], "sizes": sizes}))
"""
HANG_ONCE = """\
import os, time
from oodlab import workspace
if not os.path.exists(os.environ["STARTED"]):
    workspace.report("step", label="NAE-OMI", step=3, steps=30)
    with open(os.environ["STARTED"] + ".new", "w") as file:
        file.write(f"{os.getpid()} {os.getppid()}")
    os.rename(file.name, os.environ["STARTED"])
    time.sleep(300)
"""


class Local:
    """A scheduler and workers, each a process with a folder of its own and nothing of the driver's."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started = folder / "started"  # HANG_ONCE writes it: process ids of the kernel and of its worker
        self.processes: list[subprocess.Popen] = []
        place = folder / "scheduler.json"
        self._start("scheduler", "scheduler", "--port", "0", "--scheduler-file", str(place))
        wait_for(lambda: place.exists() and place.stat().st_size, 60)
        self.address = json.loads(place.read_text())["address"]

    def workers(self, *names: str, options: tuple[str, ...] = ()) -> None:
        """Start workers; without a nanny, so that a killed one stays away."""
        for name in names:
            self._start(
                name,
                "worker",
                self.address,
                "--no-nanny",
                "--nthreads",
                "1",
                "--name",
                name,
                "--local-directory",
                str(self.folder / name),
                *options,
            )

    def wait(self, count: int) -> None:
        """Return when the scheduler knows so many workers."""
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self, name: str, *command: str) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True)
        own = {"PYTHONPATH": str(ROOT), "OODLAB_RUNS": "runs", "OODLAB_DATA": "data", "PLACE": name}
        nannys = {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OODLAB_")}
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--host", "127.0.0.1", "--no-dashboard"],
                cwd=folder,
                env=inherited | own | nannys | {"STARTED": str(self.started)},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)


@contextlib.contextmanager
def cluster_in(folder: Path) -> Iterator[Local]:
    """Start a scheduler; in the end, stop it and the workers it got."""
    local = Local(folder)
    try:
        yield local
    finally:
        local.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Return two workers for all tests that kill none."""
    with cluster_in(tmp_path_factory.mktemp("cluster")) as local:
        local.workers("one", "two")
        local.wait(2)
        yield local


def facts() -> dict[str, str]:
    """Return what the kit compares; imported here, as without the extra all tests are skipped."""
    from oodlab.batch import worker

    return worker.facts()


def told(notebook: str) -> dict:
    """Return what TELL, in its last cell, printed in an executed notebook."""
    (executed,) = (workspace.runs_folder() / "notebooks" / "nae").glob(f"{notebook}-smoke*.ipynb")
    content = nbformat.read(executed, as_version=4)
    nbformat.validate(content)
    return json.loads(content.cells[-1].outputs[0].text)


def meeting(folder: Path, count: int) -> str:
    """Return a cell that ends only when so many notebooks execute at the same time."""
    folder.mkdir()
    return f"""\
import pathlib, time, uuid
(pathlib.Path({str(folder)!r}) / uuid.uuid4().hex).touch()
end = time.monotonic() + 60
while len(list(pathlib.Path({str(folder)!r}).iterdir())) < {count}:
    assert time.monotonic() < end, "the others do not run"
    time.sleep(0.05)
"""


def test_results_of_a_cluster_run_are_those_of_a_local_run(
    cluster: Local, notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    meet = meeting(tmp_path / "meeting", 2)
    for name in "ab":
        write(notebooks / "nae" / f"{name}.ipynb", DRAW.format(name=name), meet, TELL)
    monkeypatch.setenv("PLACE", "driver")
    options = ["figures", "nae", "-p", "seed=7", "-p", "sizes=4,4", "--notebooks", str(notebooks)]
    results, facts = {}, {}
    for place, more in {"local": ["--jobs", "2"], "cluster": ["--on", cluster.address]}.items():
        monkeypatch.setenv("OODLAB_RUNS", str(tmp_path / place))
        for file in (tmp_path / "meeting").iterdir():
            file.unlink()
        assert main([*options, *more]) == 0
        jobs = {file for file in (tmp_path / place / "jobs").rglob("*") if file.name == "kernel.log"}
        files = {file for file in (tmp_path / place).rglob("*") if file.is_file()} - jobs
        results[place] = {}
        for file in files:
            text = file.read_text().replace(str(tmp_path / place), "RUNS")
            if file.suffix == ".ipynb":
                text = [cell.source for cell in nbformat.from_dict(json.loads(text)).cells]
            elif file.parent.parent.name == "state":
                (content,) = json.loads(text).values()
                text = {name: value for name, value in content.items() if name not in ("seconds", "key")}
            results[place][str(file.relative_to(tmp_path / place))] = text
        facts[place] = {name: told(name) for name in "ab"}

    assert results["cluster"] == results["local"]
    assert len(results["local"]) == 2 * 5  # png, json, notebook, record, events
    assert {facts["local"][name]["place"] for name in "ab"} == {"driver"}
    assert {facts["cluster"][name]["place"] for name in "ab"} == {"one", "two"}
    for fact in facts["cluster"].values():
        own = cluster.folder / fact["place"]
        assert fact["OODLAB_RUNS"] == str(own / "runs")
        assert fact["OODLAB_DATA"] == str(own / "data")
        for inside in (fact["folder"], fact["OODLAB_FIGURES"], fact["OODLAB_PROGRESS"]):
            assert Path(inside).is_relative_to(own)
        assert not Path(fact["folder"]).exists()
        assert fact["sizes"] == [4, 4]
        assert "OODLAB_ANEW" not in fact
        assert "MALLOC_TRIM_THRESHOLD_" not in fact, "Dask's own setting"

    capsys.readouterr()
    assert main([*options, "--on", cluster.address]) == 0
    assert capsys.readouterr().out.count("up to date") == 2
    write(notebooks / "nae" / "c.ipynb", TELL)
    assert main(["figures", "c", "--fresh", "--notebooks", str(notebooks), "--on", cluster.address]) == 0
    assert told("c")["OODLAB_ANEW"] == "1"


def test_a_notebook_that_fails_on_a_cluster_is_explained_as_locally_and_not_retried(
    cluster: Local, notebooks: Path, tmp_path: Path, capsys
) -> None:
    tries = tmp_path / "tries"
    failing = f"open({str(tries)!r}, 'a').write('x')\nraise RuntimeError(f'no luck with {{40 + 2}}')"
    write(notebooks / "nae" / "fails.ipynb", DRAW.format(name="before"), failing)
    write(notebooks / "nae" / "killed.ipynb", "import os\nos.kill(os.getpid(), 9)")
    write(notebooks / "nae" / "works.ipynb", "1 + 1")
    explained = {}
    for place in ("local", cluster.address):
        assert main(["figures", "nae", "--fresh", "--notebooks", str(notebooks), "--on", place]) == 1
        shown = capsys.readouterr()
        assert "nae/works  done in" in shown.err
        explained[place] = shown.out[shown.out.index("nae/fails failed") :]
        drawn = workspace.runs_folder() / "figures" / "smoke" / "demo" / "before.png"
        drawn.unlink()  # what a failed notebook drew is kept, too
    assert explained[cluster.address] == explained["local"]
    assert "RuntimeError: no luck with 42" in explained["local"]
    assert "The kernel died" in explained["local"]
    assert tries.read_text() == "xx", "once here, once there"
    partial = workspace.runs_folder() / "jobs" / "nae" / "fails-smoke" / "executed.ipynb"
    assert "no luck with 42" in partial.read_text()
    assert f"as far as it came: {partial}" in explained["local"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_driver_leaves_no_kernel_on_a_worker(cluster: Local, notebooks: Path, number: int) -> None:
    cluster.started.unlink(missing_ok=True)
    for name in "abc":  # more than there are workers
        write(notebooks / "nae" / f"{name}.ipynb", HANG_ONCE, "import time\ntime.sleep(300)")
    command = [sys.executable, "-m", "oodlab", "figures", "nae", "--on", cluster.address]
    driver = subprocess.Popen(
        [*command, "--notebooks", str(notebooks)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_interrupts,
    )
    wait_for(cluster.started.exists, 60)

    driver.send_signal(number)

    status = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert driver.wait(timeout=60) == status[number]
    workers = [psutil.Process(process.pid) for process in cluster.processes[1:]]
    wait_for(lambda: not any(alive(child.pid) for worker in workers for child in worker.children()), 60)
    assert all(alive(worker.pid) for worker in workers)


def test_jobs_run_on_workers_with_gpus_and_a_killed_workers_job_runs_on_another(
    notebooks: Path, tmp_path: Path
) -> None:
    path = write(notebooks / "nae" / "a.ipynb", HANG_ONCE, DRAW.format(name="a"), TELL)
    others = [write(notebooks / "nae" / f"{name}.ipynb", TELL) for name in "bcd"]
    shown = io.StringIO()
    with cluster_in(tmp_path / "cluster") as local, ThreadPoolExecutor(1) as driver:
        local.workers("plain")
        local.workers("gpu-1", "gpu-2", options=("--resources", "GPU=1"))
        local.wait(3)
        runs = runner.plan(others, folder=notebooks)
        runner.execute(runs, jobs=1, progress=Progress(io.StringIO()), on=local.address)
        assert {told(name)["place"] for name in "bcd"} == {"gpu-1", "gpu-2"}

        (run,) = runner.plan([path], folder=notebooks)
        batch = driver.submit(runner.execute, [run], jobs=1, progress=Progress(shown, every=0), on=local.address)
        try:
            wait_for(lambda: "cell 3 of 5, training NAE-OMI, update 3 of 30" in shown.getvalue() or batch.done(), 60)
            kernel, worker = map(int, local.started.read_text().split())
            (place,) = (process.args for process in local.processes if process.pid == worker)

            os.kill(worker, signal.SIGKILL)

            batch.result(timeout=60)
        finally:
            local.close()  # or a failure here would wait for the batch for ever
        wait_for(lambda: not alive(kernel))
    first = place[place.index("--name") + 1]
    assert run.status == "done", run.error
    assert shown.getvalue().count("nae/a  starts again: the worker it ran on is gone") == 1
    assert {first, told("a")["place"]} == {"gpu-1", "gpu-2"}
    assert [Path(figure["png"]).read_text() for figure in run.figures] == ["0"]


@pytest.mark.parametrize(
    "place", ["127.0.0.1:8786", "tcp://127.0.0.1", "tcp://:8786", "tcp://h:x", "tls://h:1", "slurm", "tcp://h:1/x", ""]
)
def test_an_invalid_address_of_a_cluster_is_refused(notebooks: Path, capsys, place: str) -> None:
    write(notebooks / "nae" / "a.ipynb")
    assert main(["figures", "--notebooks", str(notebooks), "--on", place]) == 2
    assert f"expects --on local or --on tcp://HOST:PORT, got {place!r}" in capsys.readouterr().err
    assert not workspace.runs_folder().exists()


def test_requirements_of_a_cluster_run_are_checked_before_anything_runs(
    notebooks: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(notebooks / "nae" / "a.ipynb")

    def refusal(place: str, *options: str) -> str:
        assert main(["figures", "--notebooks", str(notebooks), "--on", place, *options]) == 2
        return capsys.readouterr().err

    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        nobody = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        assert "expects --jobs only with --on local, got --jobs 2" in refusal(nobody, "--jobs", "2")
        monkeypatch.setattr("oodlab.batch.cluster.CONNECT_SECONDS", 1)
        assert f"expects a Dask scheduler at {nobody}, got no answer within 1 s" in refusal(nobody)
    with cluster_in(tmp_path / "cluster") as local:
        complaint = refusal(local.address)
        assert f"expects workers at {local.address}, got none" in complaint
        assert f"`dask worker {local.address} --nworkers 1 --nthreads 1`" in complaint
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else find_spec(name))
    assert "run pip install 'oodlab[cluster]'" in refusal("tcp://127.0.0.1:8786")
    assert not (workspace.runs_folder() / "notebooks").exists()


@pytest.mark.parametrize(
    ("owner", "name", "told", "complaint"),
    [
        (workspace, "source_hash", lambda *parts: "other", "got oodlab {}"),
        (importlib.metadata, "version", lambda package: "1.13.0+cpu", "got torch {} (the driver has 1.13.0)"),
        (platform, "python_version_tuple", lambda: ("3", "9", "2"), "got Python {} (the driver has 3.9)"),
    ],
)
def test_a_worker_with_other_code_is_refused(
    cluster: Local, notebooks: Path, capsys, monkeypatch: pytest.MonkeyPatch, owner, name: str, told, complaint: str
) -> None:
    write(notebooks / "nae" / "a.ipynb")
    theirs = facts()
    monkeypatch.setattr(owner, name, told)

    assert main(["figures", "--notebooks", str(notebooks), "--on", cluster.address]) == 2

    shown = capsys.readouterr().err
    assert shown.count(complaint.format(theirs[complaint.split()[1]])) == 2, "one line for each worker"
    assert shown.count("oodlab expects of the worker tcp://127.0.0.1:") == 2
    assert not (workspace.runs_folder() / "notebooks").exists()


def test_a_job_refuses_a_worker_with_other_versions_than_the_driver(cluster: Local) -> None:
    """The worker may have joined after the driver checked all workers."""
    from distributed import Client

    from oodlab.batch.worker import job

    with Client(cluster.address, set_as_default=False) as client:
        future = client.submit(job, b"no notebook", {}, False, facts() | {"torch": "1.13"}, {})
        with pytest.raises(ValueError, match=r"got torch .* \(the driver has 1.13\)"):
            future.result(timeout=60)


@pytest.mark.parametrize(
    ("cores", "neighbours", "threads"),
    [(12, {"10.0.0.1": 3, "10.0.0.2": 1}, "4"), (12, {}, "6"), (1, {"10.0.0.1": 2}, "1")],
)
def test_a_hosts_cores_are_shared_out_among_its_workers_threads(
    monkeypatch: pytest.MonkeyPatch, cores: int, neighbours: dict, threads: str
) -> None:
    from oodlab.batch.worker import _environment

    monkeypatch.setattr("dask.system.CPU_COUNT", cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # Dask's
    worker = SimpleNamespace(address="tcp://10.0.0.1:4711", state=SimpleNamespace(nthreads=2))
    environment = _environment(worker, neighbours)
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == (threads, threads)
    assert "OPENBLAS_NUM_THREADS" not in environment


@pytest.mark.parametrize("stand_in", [True, False])
def test_a_stand_ins_figure_from_a_cluster_never_replaces_a_committed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: bool
) -> None:
    from oodlab.batch.cluster import RemoteKernel

    committed, events = tmp_path / "figures", tmp_path / "events.jsonl"
    monkeypatch.setattr(workspace, "reference_figures", lambda: committed)
    files = {"nae/a.png": b"drawn", "nae/a.json": json.dumps({"stand_in": stand_in}).encode()}
    drawn = {"event": "figure", "png": "nae/a.png", "json": "nae/a.json"}

    RemoteKernel(None, events, committed, anew=False)._land(
        {"events": [drawn], "files": files, "notebook": None}, tmp_path / "executed.ipynb"
    )

    (event,) = workspace.events(events, 0)[0]
    folder = workspace.runs_folder() / "figures" if stand_in else committed
    assert (event["png"], event["json"]) == (str(folder / "nae/a.png"), str(folder / "nae/a.json"))
    assert Path(event["png"]).read_bytes() == b"drawn"
    assert committed.exists() is not stand_in


def test_every_worker_of_a_cluster_is_counted() -> None:
    """Some versions of Dask's client report only five workers unless asked for all."""
    from oodlab.batch.cluster import Cluster

    known = {f"tcp://10.0.0.{i}:1": {"resources": {}} for i in range(9)}

    def scheduler_info(n_workers: int = 5) -> dict:
        return {"workers": dict(list(known.items())[: None if n_workers == -1 else n_workers])}

    there = SimpleNamespace(client=SimpleNamespace(scheduler_info=scheduler_info), resources={})
    assert Cluster.workers(there) == known


def test_a_lost_connection_to_the_cluster_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import KilledWorker

    from oodlab.batch import cluster
    from oodlab.batch.kernel import ExplainedError

    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0)
    empty = SimpleNamespace(address="tcp://h:1", workers=dict)
    for fault, why in {
        CancelledError(): "The scheduler at tcp://h:1 has ended",
        KilledWorker("a", SimpleNamespace(address="tcp://w:2"), 3): "the last of them tcp://w:2",
        TimeoutError(): "tcp://h:1 has had no worker for this notebook for 0 s",
    }.items():
        future = SimpleNamespace(result=Mock(side_effect=fault))
        with pytest.raises(ExplainedError, match=why):
            cluster.RemoteKernel(empty, Path(), Path(), anew=False)._result(future)


def test_a_run_on_this_machine_needs_no_dask(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(notebooks / "nae" / "a.ipynb")
    for module in ("dask", "distributed", "oodlab.batch.cluster", "oodlab.batch.worker"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    assert main(["figures", "--notebooks", str(notebooks)]) == 0
