"""One call that tries the kit on a GPU: tests, speed and trainings, within a budget of time.

    python -m tests.bench.gpu OUT [--budget SECONDS] [--device cuda|cpu] [--jobs N]
    python -m tests.bench.gpu --pack FOLDER     the data that the trainings need, to carry along
    python -m tests.bench.gpu --join OUT        rows join the kept ones, trainings the finished or unfinished ones

OUT holds log.txt, report.json, tests.txt (what failed tests printed), results.zip (new rows and the
report) and up to four trainings of at most 15 MiB, and is complete at every moment: a kill keeps what
is done. Trainings also stay below the runs folder, so that a second call on the same machine resumes them.

Every part runs in processes of its own: after an error on a GPU nothing in its process can be
trusted. With --device cpu the same way is gone in small: GPU tests are skipped, trainings
have the profile smoke.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oodlab import data, study, workspace
from oodlab.studies import studies
from oodlab.study.rows import machine

from . import carry
from .session import Session, last, outcome


@dataclass(frozen=True)
class Training:
    """A study to train: name and profile, source, methods and inside tasks by name (none: all), seconds of a process."""

    study: str
    profile: str
    source: str = "printed"
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seconds: int = 240


TRAININGS = (  # in the order of their worth; what is unfinished comes back and is resumed
    Training("nae/outlier_reconstruction", "full"),
    Training("nae/holdout_digits", "full", methods=("NAE-OMI",), tasks=("mnist without 9",)),
    Training("mass/epoch_curves", "full", methods=("ReLU, vanilla", "ReLU, per sample"), tasks=("fashion_mnist",)),
)
TESTS = ("tests/machine/test_cuda.py", "tests/laws/test_graphs.py")  # of these, what is marked gpu
BENCHES = ("chain_rows", "mass_rows", "nae_rows")  # of tests.bench.images
WORTH_STARTING = 25  # seconds; a process that loads torch and captures a graph has done nothing before
STAMP = time.strftime("%Y%m%d-%H%M")


# ------------------------------------------------------------------------------------------ the parts


def about() -> dict[str, Any]:
    """Return what machine this is."""
    found = {"machine": machine(), "python": platform.python_version(), "numpy": np.__version__}
    found |= {"torch": str(torch.__version__), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found["gpu"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, capability {gpu.major}.{gpu.minor}"
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout.strip()
    return {**found, "data": os.environ.get("OODLAB_DATA", "none")}


def tests(session: Session) -> None:
    """Run the GPU's tests, each function in its own process; failed ones with parameters once more, each alone."""
    pytest = ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--color=no"]
    limit = ["--timeout=120"] if importlib.util.find_spec("pytest_timeout") else []
    groups = [list(TESTS)]
    if session.device == "cuda":
        collect = [*pytest, "--collect-only", "-q", "-o", "addopts="]
        status, printed = session.run([*collect, *TESTS], session.left("tests"))
        names = dict.fromkeys(line.partition("[")[0] for line in printed.splitlines() if line.startswith("tests/"))
        if status or not names:
            session.keep("tests", "collecting", outcome(status), text=last(printed))
            return
        groups = [[name] for name in names]

    def one(group: Sequence[str]) -> list[str]:
        """Run a group and return which of it failed."""
        what = ", ".join(name.rpartition("::")[2] for name in group)
        if session.left("tests") < 5:
            session.keep("skipped", what, "the tests' share of the time is used")
            return []
        command = [*pytest, *limit, "--tb=short", "-rfEs", *group]
        status, printed = session.run(command, session.left("tests"), OMP_NUM_THREADS="2", COLUMNS="200")
        counts = printed.splitlines()[-1] if status is not None and printed.strip() else outcome(status)
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+?::[^\[\s]+(?:\[.*?\])?)(?: - |$)", printed, re.M)
        text = {} if status == 0 else {"failed": failed, "text": last(printed, 120)}
        session.keep("tests", what, counts, status=status, **text)
        if status != 0:
            session.say(printed, "tests.txt")
        return failed

    with ThreadPoolExecutor(session.jobs) as pool:
        failed = [name for group in pool.map(one, groups) for name in group if "[" in name]
        list(pool.map(one, [[name] for name in failed]))


def bench(session: Session) -> None:
    """Time the kit against plain loops on the GPU, one comparison after the other."""
    for name in BENCHES:
        if session.device != "cuda" or session.left("bench") < WORTH_STARTING:
            why = "no GPU is used" if session.device != "cuda" else "the bench's share of the time is used"
            session.keep("skipped", f"bench {name}", why)
            continue
        status, printed = session.run(["-m", "tests.bench.gpu", "--bench", name], session.left("bench"))
        cells = json.loads(printed.splitlines()[-1]) if status == 0 else {"text": last(printed)}
        session.keep("bench", name, f"ratio {cells['ratio']:.2f}" if status == 0 else outcome(status), **cells)


def trainings(session: Session) -> None:
    """Train and score the listed studies, several processes at a time, as long as time is left."""
    folder = workspace.runs_folder() / "gpu-rows"
    for file in (workspace.reference_figures() or folder).glob("*/*.csv"):  # what is kept is not made again
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name / f"{file.stem}.kept.csv")

    def one(job: Training) -> None:
        """Train some methods of a study, and put all new rows into OUT."""
        what = f"{job.study} {job.profile}: {', '.join(job.methods)}"
        limit = min(job.seconds, session.left())
        if limit < WORTH_STARTING:
            session.keep("skipped", what, "the budget is used")
            return
        given = json.dumps({**dataclasses.asdict(job), "device": session.device})
        threads = str(max(1, (os.cpu_count() or 1) // session.jobs))
        began = time.monotonic()
        places = {"OODLAB_ROWS": str(folder), "OMP_NUM_THREADS": threads}
        status, printed = session.run(["-m", "tests.bench.gpu", "--train", given], limit, **places)
        session.keep("trainings", what, outcome(status), seconds=time.monotonic() - began, text=last(printed))
        with session.one_packs:
            carry.bring_back(folder, workspace.runs_folder() / "checkpoints", session.out, STAMP)

    with ThreadPoolExecutor(session.jobs) as pool:
        list(pool.map(one, shared_out(session)))


def shared_out(session: Session) -> list[Training]:
    """Share out each listed study's methods to so many processes."""
    found = []
    for training in TRAININGS:
        job = training if session.device == "cuda" else dataclasses.replace(training, profile="smoke", tasks=())
        what = f"{job.study} {job.profile}"
        if job.study not in studies() or job.profile not in studies()[job.study].budgets:
            session.keep("skipped", what, "there is no such study or profile")
            continue
        whole = chosen(job, session.device)
        for task in studies()[job.study].at(job.profile, job.source).tasks:
            if task not in whole.tasks:
                session.keep("skipped", f"{what}: {task.name}", "not chosen, or its data are not here")
        names = [method.name for method in whole.chosen] if whole.tasks else []
        names = names if session.device == "cuda" else names[:1]
        found += [dataclasses.replace(job, methods=tuple(names[i :: session.jobs])) for i in range(session.jobs)]
    return [job for job in found if job.methods]


# -------------------------------------------------------------------------------- in processes of their own


def chosen(job: Training, device: str) -> study.Study:
    """Return a study with a training's methods and tasks; on a GPU without tasks whose data are not here."""
    whole = studies()[job.study].at(job.profile, job.source)
    named = [task for task in whole.tasks if not job.tasks or {task.name, task.inside} & set(job.tasks)]
    named = [task if task.is_here else _drawn_from(task) for task in named]
    tasks = tuple(task for task in named if task.is_here or device == "cpu")
    return dataclasses.replace(whole, tasks=tasks, methods=functools.partial(_named, whole.methods, job.methods))


def _drawn_from(task: study.Task) -> study.Task:
    """Return the task inside a seeded draw of its set where only that is here; its rows have the draw's name."""
    drawn = dataclasses.replace(task, inside=f"{task.inside}{carry.SUBSET}")
    known = {entry.name for entry in data.table()}
    return drawn if drawn.inside in known and drawn.is_here else task


def _named(methods: Any, names: Sequence[str], budget: Any, source: str) -> list[study.Method]:
    return [method for method in methods(budget, source) if not names or method.name in names]


def train(device: str, **job: Any) -> None:
    """Evaluate some methods of a study and print what came out."""
    here = chosen(Training(**job), device)
    rows = study.evaluate(here, here.trained(device=device))
    shown = rows.groupby(["in_set", "out_set", "method", "score", "device", "precision", "kept"])["auroc"]
    print(shown.agg(["mean", "count"]).to_csv())


def timed(name: str) -> None:
    """Print one comparison on the GPU, as JSON in the last line."""
    from . import images

    (row,) = getattr(images, name)(kinds=("cuda",))
    print(json.dumps(row.cells()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--budget", type=float, default=540, help="seconds in all; default: 540")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--jobs", type=int, help="processes at a time; default: 4 on a GPU, 1 on a CPU")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="copy the data that the trainings need")
    parser.add_argument("--join", type=Path, metavar="OUT", help="let rows and trainings join those that are here")
    for hidden in ("--bench", "--train"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.pack:
        print("\n".join(carry.pack(given.pack, [chosen(one, "cpu") for one in TRAININGS])))
    elif given.join:
        print("\n".join(carry.join(given.join, workspace.reference_figures(), workspace.runs_folder() / "checkpoints")))
    elif given.bench:
        timed(given.bench)
    elif given.train:
        train(**json.loads(given.train))
    elif given.out is None or (given.device == "cuda" and not torch.cuda.is_available()):
        parser.error("expects a folder OUT, and a GPU unless --device cpu is given")
    else:
        jobs = given.jobs or (4 if given.device == "cuda" else 1)
        session = Session(given.out.resolve(), given.budget, given.device, jobs)
        session.found.update(about())
        session.say("; ".join(f"{name} {value}" for name, value in about().items()))
        for part in (tests, bench, trainings):
            try:
                part(session)
            except Exception:  # the other parts still run
                session.keep("skipped", f"the rest of {part.__name__}", traceback.format_exc())
        session.say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
