"""Kill runs at random moments, let them go on, and compare: what test_survival.py does a few times.

    python tests/machine/survival.py --moments 20 --seed 0

A moment is a signal to a process (or to its group, as Ctrl-C does) a little after
one of the events it reports, or while it starts.  After each: nothing of it runs,
no file under its own name is torn, and the next run loses at most one interval
between checkpoints.  After the last: the bits of a run that nobody disturbed.

Processes come from a server that has imported torch once, and stay single-threaded.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
import psutil
import torch
from drawings import made_rows, named
from matplotlib import image
from torch import Tensor, nn

from oodlab import plotting, training, workspace
from oodlab.batch.command import main as command
from oodlab.plotting.saving import read_figure
from oodlab.samplers import MalaChain, RejectOutside
from oodlab.studies.nae.eight_gaussians.setting import STUDY

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MARK = "OODLAB_SURVIVAL"  # in the environment of every process that a victim starts
PATIENCE = 60  # seconds, for what takes one on an idle machine
STEPS = 60
EVERY = STEPS // 20  # steps between checkpoints
IMPORTS = os.pathsep.join(map(str, Path(__file__).resolve().parents[:3]))  # this folder, the tests, the checkout


# --------------------------------------------------------------------- what is killed: the places


def weight_norms(model: nn.Module) -> dict[str, Tensor]:
    """Probe a model."""
    return {"norms": torch.stack([weight.norm() for weight in model.parameters()])}


def probing() -> Callable[[nn.Module], dict[str, Tensor]]:
    """Build the probe."""
    return weight_norms


def settings(*variants: str) -> dict[str, training.Recipe]:
    """Return tiny trainings with chains, and with a replay buffer where the method has one."""
    runs = STUDY.at("smoke").recipes
    short = MalaChain(4, 0.005, 0.1, bounds=RejectOutside(-5.0, 5.0))
    found = {}
    for name in variants:
        recipe = runs["eight_gaussians", name, "model"]
        objective = replace(recipe.objective, negatives=replace(recipe.objective.negatives, chain=short))
        found[name] = replace(recipe, steps=STEPS, probe=probing, probes=6, objective=objective)
    return found


def train(variant: str) -> None:
    """Train in this process."""
    training.train_or_load(settings(variant)[variant], device="cpu")


def train_side_by_side() -> None:
    """Train in worker processes."""
    training.stored.WORTH_A_PROCESS = 1
    torch.set_num_threads(2)
    runs = settings("NAE-OMI, D_z = 3", "NAE-CD")
    training.train_or_load_all(runs, {name: (0,) for name in runs}, device="cpu")


def draw(n: int = 12) -> None:
    """Save the same two figures again and again."""
    for i in range(n):
        fig = plotting.figure(3, 2)
        fig.subplots().plot([0, 1], [i % 2, 1])
        many = made_rows(*({"step": step} for step in range(500)), auroc=i % 2)
        plotting.save_figure(fig, named("demo/draw"), many, part=str(i % 2))


NOTEBOOK = """\
from oodlab import plotting, training
from drawings import made_rows, named
from survival import settings
recipe = settings("NAE-PCD, 5 % restart")["NAE-PCD, 5 % restart"]
result = training.train_or_load(recipe, seed=seed, device="cpu")
fig = plotting.figure(3, 2)
fig.subplots().plot([row["loss"] for row in result.history])
rows = made_rows(*({"step": row["step"], "auroc": row["loss"]} for row in result.history), seed=seed)
plotting.save_figure(fig, named("demo/batch"), rows)
"""
TOGETHER = """\
from survival import train_side_by_side
train_side_by_side()
"""


def batch(source: str) -> None:
    """Run a folder of one notebook."""
    folder = workspace.runs_folder().parent / "notebooks"
    cells = [nbformat.v4.new_code_cell('profile = "smoke"\nseed = 0', metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(source))
    for place, cell in enumerate(cells):
        cell["id"] = f"cell-{place}"  # the same notebook every time
    (folder / "demo").mkdir(parents=True, exist_ok=True)
    with workspace.atomic_file(folder / "demo" / "batch.ipynb") as file:
        file.write(nbformat.writes(nbformat.v4.new_notebook(cells=cells)).encode())
    status = command(["figures", "--notebooks", str(folder), "--jobs", "1"])
    if status:
        sys.exit(status)


@dataclass(frozen=True)
class Place:
    """Something to kill: what it does, and how many events it reports after it has started."""

    work: Callable[[], None]
    arguments: tuple[Any, ...] = ()
    trains: int = 1  # trainings that go on from a checkpoint


PLACES = {
    "training, OMI": Place(train, ("NAE-OMI, D_z = 3",)),
    "training, CD": Place(train, ("NAE-CD",)),
    "training, PCD": Place(train, ("NAE-PCD, 5 % restart",)),
    "side by side": Place(train_side_by_side, trains=2),
    "figures": Place(draw, trains=0),
    "batch": Place(batch, (NOTEBOOK,)),
    "batch, side by side": Place(batch, (TOGETHER,), trains=2),
}


# ------------------------------------------------------------------------------ in the process to be killed


def _begin(place: str, folder: Path) -> None:
    os.setsid()  # a group of its own, and not the terminal's
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {MARK: str(folder), "OODLAB_RUNS": str(folder / "runs"), "PYTHONPATH": IMPORTS}
    if "batch" not in place:  # the runner names a file of its own to each notebook
        os.environ["OODLAB_PROGRESS"] = str(folder / "events.jsonl")
    said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    torch.set_num_threads(1)
    with open(folder / "begun", "w"):
        PLACES[place].work(*PLACES[place].arguments)


# ------------------------------------------------------------------------------------- killing and comparing


def server() -> multiprocessing.context.ForkServerContext:
    """Return the context whose processes start with torch and papermill imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["survival", "oodlab.batch.kernel", "oodlab.studies"])
    return context


@dataclass
class Run:
    """One place in a folder of its own, killed and started again until it ends."""

    place: str
    folder: Path
    process: Any = None
    killed: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start a process, which goes on from what is there."""
        (self.folder / "begun").unlink(missing_ok=True)
        for file in self.event_files():
            file.unlink()  # the runner does so, too
        self.process = server().Process(target=_begin, args=(self.place, self.folder))
        self.process.start()
        wait_for(lambda: (self.folder / "begun").exists() or not self.process.is_alive(), "the start")

    def event_files(self) -> list[Path]:
        return list(self.folder.rglob("events.jsonl"))

    def events(self) -> list[dict[str, Any]]:
        """Return the whole events so far."""
        lines = [line for file in self.event_files() for line in file.read_bytes().split(b"\n")[:-1]]
        return [json.loads(line) for line in lines]  # a torn line is an error

    def finish(self) -> None:
        """Let it end by itself."""
        self.process.join(4 * PATIENCE)
        assert self.process.exitcode == 0, f"{self.place}: ends with {self.process.exitcode}\n{self.said()}"

    def said(self) -> str:
        """Return what all its processes have printed, executed notebooks included."""
        files = (self.folder / "said.txt", *self.folder.glob("runs/notebooks/*/*.ipynb"))
        return "\n".join(file.read_text() for file in files if file.exists())

    def kill(self, number: signal.Signals, *, group: bool, after: int, pause: float) -> bool:
        """Send a signal `pause` seconds after event `after`; say whether there was a process to hit."""
        wait_for(lambda: len(self.events()) >= after or not self.process.is_alive(), f"event {after}")
        time.sleep(pause)
        hit = self.process.is_alive()
        if hit:
            self.killed.append(f"{number.name}{' to its group' if group else ''} after event {after}")
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.process.pid, number)
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            os.kill(self.process.pid, signal.SIGUSR1)  # its threads' stacks go to said.txt
            self.process.join(1)
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"{self.place}: goes on after {self.killed}\n{self.said()}")
        wait_for(lambda: not self.left(), f"the end of {self.left()}")
        return hit and self.process.exitcode != 0

    def left(self) -> list[str]:
        """Return the command lines of processes that outlive the one they belong to."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(self.folder):
                    found.append(" ".join(process.cmdline())[:200])
        return found

    def checkpoints(self) -> dict[str, dict[str, Any]]:
        """Return every checkpoint by its file's path; a damaged one is an error."""
        files = sorted(self.folder.rglob("checkpoint.pt"))
        return {str(file.relative_to(self.folder)): torch.load(file, weights_only=True) for file in files}

    def check_files(self) -> None:
        """Read every file that has its final name."""
        self.checkpoints()
        self.events()
        for file in self.folder.rglob("*"):
            if file.suffix == ".json":
                json.loads(file.read_text())
            elif file.suffix == ".png" and not file.name.startswith("."):
                assert image.imread(file).size
            elif file.suffix == ".ipynb" and file.parts[-3] == "notebooks":
                nbformat.validate(nbformat.read(file, as_version=4))

    def check_loss(self, before: list[dict[str, Any]], after: dict[str, dict[str, Any]]) -> None:
        """Compare the last steps seen with those that the next run has to go on from."""
        kept = sorted(state["step"] for state in after.values())
        seen: dict[str, int] = {}
        for event in before:
            if event["event"] == "step" and event["steps"] == STEPS:
                seen[event["label"]] = event["step"]
        for step, at_least in zip(sorted(seen.values(), reverse=True), kept[::-1] + [0] * len(seen), strict=False):
            assert at_least >= step - EVERY - 1, f"{self.place}: step {step} was seen, {kept} are kept: {self.killed}"


def same(got: Any, wanted: Any, at: str = "") -> None:
    """Compare nested values bit by bit, the clock aside."""
    if isinstance(wanted, dict):
        assert got.keys() == wanted.keys(), at
        for key in wanted.keys() - {"seconds"}:
            same(got[key], wanted[key], f"{at}.{key}")
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), at
        for i, item in enumerate(wanted):
            same(got[i], item, f"{at}[{i}]")
    elif torch.is_tensor(wanted):
        assert torch.equal(got, wanted), at
    else:
        assert got == wanted, at


def figures(run: Run) -> dict[str, Any]:
    """Return the figures that a run has drawn: bytes of pictures, records."""
    found: dict[str, Any] = {}
    for file in run.folder.glob("runs/figures/**/*.*"):
        if not file.name.startswith("."):
            content = read_figure(file)[0] if file.suffix == ".json" else file.read_bytes()
            if file.suffix == ".json":
                del content["sha256"]["record"]  # it hashes the seconds, too
            found[str(file.relative_to(run.folder))] = content
    return found


def wait_for(condition: Callable[[], Any], what: str) -> None:
    """Return when the condition holds; fail when it does not in time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.002)


class Ground:
    """Where runs are killed; keeps an undisturbed run of every place to compare with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole, self.count = folder, {}, itertools.count()

    def begin(self, place: str) -> Run:
        run = Run(place, self.folder / str(next(self.count)))
        run.folder.mkdir()
        run.start()
        return run

    def undisturbed(self, place: str) -> tuple[Run, int, float]:
        """Return a run to its end, its number of events, and the seconds between two of them."""
        if place not in self.whole:
            run = self.begin(place)
            wait_for(run.events, "the first event")
            started = time.monotonic()
            run.finish()
            seconds = time.monotonic() - started
            assert not run.left()
            assert len(run.checkpoints()) == PLACES[place].trains
            self.whole[place] = run, len(run.events()), seconds / len(run.events())
        return self.whole[place]

    def survive(self, place: str, signals: list[signal.Signals], chance: random.Random) -> Iterator[str]:
        """Kill one run once per signal, each time at a random moment; yield what was hit; compare its end."""
        whole, events, interval = self.undisturbed(place)
        run = self.begin(place)
        for number in signals:
            left = max(1, events - sum(state["step"] for state in run.checkpoints().values()))
            after = chance.randrange(left)
            pause = chance.random() * (3.0 if after == 0 and place != "figures" else interval)
            group = number == signal.SIGINT and chance.random() < 0.5
            hit = run.kill(number, group=group, after=after, pause=pause)
            before, kept = run.events(), run.checkpoints()
            yield f"{place}: {number.name}{' to the group' if group else ''} after {after} of {left} events" * hit
            run.check_files()
            run.check_loss(before, kept)
            (run.folder / "said.txt").unlink()
            run.start()
            resumable = [state["step"] for state in kept.values() if 0 < state["step"] < STEPS]
        run.finish()
        said = re.findall(rf"continues at step (\d+) of {STEPS}", run.said())
        assert set(map(int, said)) == set(resumable), f"{place}: {said} for {resumable}"
        same(run.checkpoints(), whole.checkpoints(), place)
        same(figures(run), figures(whole), place)
        assert not run.left()
        shutil.rmtree(run.folder)


def moments(folder: Path, count: int, seed: int) -> tuple[int, list[str]]:
    """Kill at this many moments; return how many found a process to hit, and what was hit."""
    chance, ground = random.Random(seed), Ground(folder)
    places, hits, done = list(PLACES), [], 0
    while done < count:
        for place in chance.sample(places, len(places)):
            signals = [chance.choice(SIGNALS) for _ in range(min(chance.choice((1, 1, 2, 3)), count - done))]
            done += len(signals)
            for hit in ground.survive(place, signals, chance) if signals else ():
                hits += [hit] if hit else []
                print(hit or f"{place}: had ended", flush=True)
    return len(hits), hits


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="survival-") as folder:
        started = time.monotonic()
        hits, _ = moments(Path(folder), arguments.moments, arguments.seed)
        print(f"{hits} of {arguments.moments} moments hit; all survived; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    import survival  # the children must find its functions under one name

    survival.main()
