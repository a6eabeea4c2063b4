"""One call that tries the kit on a GPU: tests, speed and trainings, within a budget of time.

    python -m tests.bench.gpu OUT [--budget SECONDS] [--device cuda|cpu] [--jobs N]
    python -m tests.bench.gpu --pack FOLDER     copies the data that the trainings need, to carry along

OUT holds log.txt, report.json, tests.txt (whole output of the tests) and rows.zip, and is
complete at every moment: a kill keeps what is done. `unzip rows.zip -d figures` lets the rows
join the kept ones. Checkpoints stay below the runs folder, so that a second call goes on.

Every part runs in a process of its own: after an error on a GPU nothing in that process can
be trusted. With --device cpu the same way is gone in small: GPU tests are skipped, trainings
have the profile smoke.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oodlab import study, workspace
from oodlab.data.search import search_path, stored_parts
from oodlab.studies import studies
from oodlab.study.rows import machine

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = ("tests/test_cuda.py", "tests/test_graphs.py")  # those marked gpu
BENCHES = ("chain_rows", "mass_rows", "nae_rows")  # of tests.bench.images
SHARES = {"tests": 0.35, "bench": 0.55}  # of the budget, after which each part is to be over; the rest is trained
LAST = 15  # seconds kept to end everything in
WORTH_STARTING = 25  # seconds; a process that imports torch and captures a graph has done nothing before
LIMIT, EACH = 55 * 2**20, 15 * 2**20  # bytes: of packed data, of a file in OUT


@dataclass(frozen=True)
class Training:
    """A study that is trained: its name, profile, methods (none: all), and the seconds that each of its processes has."""

    study: str
    profile: str
    methods: tuple[str, ...] = ()
    seconds: int = 240


TRAININGS = (  # in the order of their worth
    Training("mass/epoch_curves", "long"),
)
FURTHER = (  # sets that are packed besides those of these studies, while there is room
    *("mnist", "notmnist", "svhn", "omniglot", "segment", "sensorless", "emnist", "gtsrb", "textures", "celeba"),
)


class Session:
    """What a call has found so far, on disk at every moment."""

    def __init__(self, out: Path, budget: float, device: str) -> None:
        self.out, self.budget, self.device, self.started = out, budget, device, time.monotonic()
        self.found: dict[str, Any] = {"device": device, "tests": [], "bench": [], "trainings": [], "skipped": []}
        out.mkdir(parents=True, exist_ok=True)

    def left(self, share: float = 1.0) -> float:
        """Return the seconds until a share of the budget is used."""
        return share * (self.budget - LAST) - (time.monotonic() - self.started)

    def say(self, text: str) -> None:
        """Write a line to the log and to the screen."""
        line = f"{time.monotonic() - self.started:6.1f} s  {text}"
        print(line, flush=True)
        with open(self.out / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def keep(self, part: str, entry: dict[str, Any]) -> None:
        """Add an entry to the report."""
        self.found[part].append(entry)
        workspace.write_json(self.out / "report.json", {**self.found, "seconds": self.budget - self.left() - LAST})

    def skip(self, what: str, why: str) -> None:
        """Report what was not done."""
        self.say(f"skipped {what}: {why}")
        self.keep("skipped", {"what": what, "why": why})


def run(arguments: Sequence[str], limit: float, **environment: str) -> tuple[int | None, str]:
    """Run a Python command from the checkout; return its status (None: it was ended) and what it printed."""
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    for end in (None, signal.SIGINT, signal.SIGKILL):  # an interrupted training or test run says how far it came
        if end:
            process.send_signal(end)
        try:
            printed = process.communicate(timeout=max(1.0, limit) if end is None else LAST / 3)[0]
            return (process.returncode if end is None else None), printed
        except subprocess.TimeoutExpired:
            pass
    return None, process.communicate()[0]


def last(printed: str, lines: int = 60) -> str:
    """Return the last lines of an output."""
    return "\n".join(printed.splitlines()[-lines:])


# ------------------------------------------------------------------------------------------ the parts


def about() -> dict[str, Any]:
    """Return what machine this is."""
    found = {
        "machine": machine(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "numpy": np.__version__,
        "data": [
            f"{folder.name}: {', '.join(stored_parts(folder))}" for root in search_path() for folder in _sets(root)
        ],
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        found["capability"] = f"{properties.major}.{properties.minor}"
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout.strip()
    return found


def tests(session: Session, jobs: int) -> None:
    """Run the GPU's tests, each function in a process of its own, and failed ones with parameters once more, each alone."""
    collect = ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
    limited = ["--timeout=120"] if importlib.util.find_spec("pytest_timeout") else []
    options = [*collect, "--tb=short", "-rfEs", "-v", "--color=no", *limited]
    status, printed = run([*collect, "--collect-only", "-q", "-o", "addopts=", *TESTS], session.left(SHARES["tests"]))
    names = [line for line in printed.splitlines() if line.startswith("tests/") and "::" in line]
    if status or not names:
        session.keep("tests", {"what": "collecting", "status": status, "text": last(printed)})
        session.say(f"tests: collecting ended with {status}\n{last(printed, 20)}")
        return
    functions = list(dict.fromkeys(name.partition("[")[0] for name in names))
    groups = [[name] for name in functions] if session.device == "cuda" else [functions]

    def one(group: list[str]) -> list[str]:
        """Run a group and return what failed of it."""
        short = ", ".join(name.partition("::")[2] for name in group)
        if session.left(SHARES["tests"]) < 5:
            session.skip(short, "the tests' share of the time is used")
            return []
        status, printed = run([*options, *group], session.left(SHARES["tests"]), OMP_NUM_THREADS="2")
        counts = printed.splitlines()[-1] if printed.strip() else ""
        session.say(
            f"{'ok    ' if status == 0 else 'FAILED'}  {short[:100]}: {counts if status is not None else 'ended'}"
        )
        with open(session.out / "tests.txt", "a", encoding="utf-8") as file:
            file.write(printed)
        failed = re.findall(r"^(?:FAILED|ERROR) (tests/\S+::[^\[\s]+(?:\[.*?\])?)(?= - |$)", printed, re.M)
        entry = {"what": short, "status": status, "counts": counts, "failed": failed}
        session.keep("tests", entry if status == 0 else {**entry, "text": last(printed, 120)})
        return failed

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        failed = [name for group in pool.map(one, groups) for name in group if "[" in name]
        list(pool.map(one, [[name] for name in failed]))


def bench(session: Session) -> None:
    """Time the kit against plain loops on the GPU, one comparison after the other."""
    for name in BENCHES:
        if session.device != "cuda" or session.left(SHARES["bench"]) < WORTH_STARTING:
            session.skip(f"bench {name}", "no GPU" if session.device != "cuda" else "its share of the time is used")
            continue
        status, printed = run(["-m", "tests.bench.gpu", "--bench", name], session.left(SHARES["bench"]))
        cells = json.loads(printed.splitlines()[-1]) if status == 0 else {"text": last(printed)}
        session.say(f"bench {name}: {cells if status == 0 else f'failed with {status}: {last(printed, 8)}'}")
        session.keep("bench", {"what": name, "status": status, **cells})


def trainings(session: Session, jobs: int) -> None:
    """Train and score the listed studies, several processes at a time, as long as time is left."""
    folder = workspace.runs_folder() / "gpu-rows"
    folder.mkdir(parents=True, exist_ok=True)
    if committed := workspace.reference_figures():  # what is kept is not made again
        for file in committed.glob("*/*.csv"):
            (folder / file.parent.name).mkdir(exist_ok=True)
            shutil.copy(file, folder / file.parent.name / f"{file.stem}-kept.csv")

    def one(job: tuple[Training, tuple[str, ...]]) -> None:
        training, methods = job
        what = f"{training.study} {training.profile}: {', '.join(methods)}"
        limit = min(training.seconds, session.left())
        if limit < WORTH_STARTING:
            session.skip(what, f"{max(limit, 0):.0f} s are left of the budget")
            return
        given = json.dumps([training.study, training.profile, list(methods), session.device])
        threads = str(max(1, len(os.sched_getaffinity(0)) // jobs))
        began = time.monotonic()
        environment = {"OODLAB_ROWS": str(folder), "OMP_NUM_THREADS": threads}
        status, printed = run(["-m", "tests.bench.gpu", "--train", given], limit, **environment)
        zipped(folder, session.out / "rows.zip")
        said = "whole" if status == 0 else "its time was used" if status is None else f"failed with {status}"
        session.say(f"{what}: {said}, {time.monotonic() - began:.0f} s\n{last(printed, 12)}")
        entry = {"what": what, "status": status, "seconds": time.monotonic() - began, "text": last(printed)}
        session.keep("trainings", entry)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, _jobs(session, jobs)))


def _jobs(session: Session, jobs: int) -> list[tuple[Training, tuple[str, ...]]]:
    """Share out each listed study's methods to so many processes."""
    known, found = studies(), []
    for training in TRAININGS:
        training = training if session.device == "cuda" else dataclasses.replace(training, profile="smoke")
        if training.study not in known or training.profile not in known[training.study].budgets:
            session.skip(f"{training.study} {training.profile}", "there is no such study or profile")
            continue
        here = known[training.study].at(training.profile)
        for task in here.tasks if session.device == "cuda" else ():
            if not task.is_here:
                session.skip(f"{training.study} {training.profile}: {task.name}", "its data are not here")
        methods = training.methods or tuple(method.name for method in here.chosen)
        found += [(training, methods[i::jobs]) for i in range(min(jobs, len(methods)))]
    return found


def zipped(folder: Path, file: Path) -> None:
    """Put new rows into one file, under names that join the kept rows."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for rows in sorted(folder.glob("*/*.csv")):
            if not rows.stem.endswith("-kept"):
                archive.writestr(f"{rows.parent.name}/{rows.stem}-gpu.csv", rows.read_bytes())
    if content.tell() < EACH:
        with workspace.atomic_file(file) as stream:
            stream.write(content.getbuffer())


# -------------------------------------------------------------------------------- in processes of their own


def train(name: str, profile: str, methods: Sequence[str], device: str) -> None:
    """Evaluate some methods of a study and print what came out."""
    whole = studies()[name].at(profile)
    tasks = tuple(task for task in whole.tasks if task.is_here or device == "cpu")
    if not tasks:
        print("nothing to train: no task's data are here")
        return
    chosen = functools.partial(_only, whole.methods, tuple(methods))
    here = dataclasses.replace(whole, tasks=tasks, methods=chosen)
    rows = study.evaluate(here, here.trained(device=device))
    print(
        rows[["method", "score", "in_set", "out_set", "seed", "step", "auroc", "device", "precision", "kept"]].to_csv()
    )


def _only(methods: Any, names: tuple[str, ...], budget: Any, source: str) -> list[Any]:
    return [method for method in methods(budget, source) if method.name in names]


def timed(name: str) -> None:
    """Print one comparison on the GPU, as JSON in the last line."""
    from . import images

    (row,) = getattr(images, name)(kinds=("cuda",))
    print(json.dumps(row.cells()))


# ------------------------------------------------------------------------------------------ data to carry


def pack(folder: Path) -> None:
    """Copy the sets of the listed studies, then further ones, from the data's folders while there is room; say what is left out."""
    parts: dict[str, set[str]] = {}
    for training in TRAININGS:
        for task in studies()[training.study].at(training.profile).tasks:
            parts.setdefault(task.inside, set()).update(("train", "val", "test", "all"))
            for one in task.outside:
                parts.setdefault(getattr(one, "name", one), set()).update(("test", "all"))
    for name in FURTHER:
        parts.setdefault(name, set()).update(("train", "val", "test", "all"))
    used = 0
    for name, wanted in parts.items():
        files = [
            file
            for root in search_path()
            for file in sorted((root / name).glob("*.npz"))
            if file.stem.partition("-part")[0] in wanted
        ]
        size = sum(file.stat().st_size for file in files)
        if not files or used + size > LIMIT:
            print(f"left out {name}: " + (f"{size / 2**20:.1f} MiB more than fit" if files else "no files here"))
            continue
        used += size
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / name / file.name)
        print(f"packed {name}: {', '.join(file.name for file in files)}, {size / 2**20:.1f} MiB")
    print(f"{used / 2**20:.1f} MiB in {folder}")


def _sets(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--budget", type=float, default=540, help="seconds in all; default: 540")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--jobs", type=int, help="processes at a time; default: 4 on a GPU, 1 on a CPU")
    parser.add_argument("--pack", type=Path, metavar="FOLDER")
    for hidden in ("--bench", "--train"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.pack or given.bench or given.train:
        pack(given.pack) if given.pack else timed(given.bench) if given.bench else train(*json.loads(given.train))
        return 0
    if given.out is None or (given.device == "cuda" and not torch.cuda.is_available()):
        parser.error("expects a folder OUT, and a GPU unless --device cpu is given")
    session = Session(given.out.resolve(), given.budget, given.device)
    session.found.update(about())
    session.say("  ".join(f"{name}: {value}" for name, value in about().items()))
    jobs = given.jobs or (4 if given.device == "cuda" else 1)
    for part in (lambda: tests(session, jobs), lambda: bench(session), lambda: trainings(session, jobs)):
        try:
            part()
        except Exception:  # the other parts still run
            session.say(traceback.format_exc())
            session.skip("the rest of a part", traceback.format_exc(limit=-3))
    session.say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
