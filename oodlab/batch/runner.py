"""A batch of notebooks: plan, skip what is up to date, run in parallel, remember.

    runs = plan(paths, folder=notebooks, given=["seed=1"], profile="quick")
    execute(runs, jobs=2, progress=Progress(sys.stderr))
    print(summary(runs))

Below `workspace.runs_folder()` a run leaves notebooks/<notebook>-<variant>.ipynb
(executed), jobs/<notebook>-<variant>/ (the kernel's folder, its events and log)
and state/<notebook>.json (per variant: key, seconds, figures and digests). A
variant is the profile, and a hash of the parameters that differ from the
notebook's defaults where there are any.

A run is up to date when its key (parameters, notebook with what it uses of the
package, papers' numbers, torch, figures folder) is the recorded one, the files of the
sets that it looked for and its kept rows are as they were, and its figures are still
those it drew: a run of another variant may have put its own in their place.

Imports: workspace, notebook, record, progress, kernel, data; cluster where one is named.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oodlab import workspace
from oodlab.batch import record
from oodlab.batch.environment import cores, environment
from oodlab.batch.notebook import Notebook, UsageError, read, resolve
from oodlab.batch.progress import Progress, minutes, table

if TYPE_CHECKING:
    from oodlab.batch.cluster import RemoteKernel
    from oodlab.batch.kernel import Kernel


@dataclass
class Run:
    """One notebook with its parameters, and the state of its run."""

    notebook: Notebook
    values: dict[str, Any]  # of every parameter
    figures_folder: Path
    key: str  # equal keys and data give equal figures
    anew: bool = False  # whether finished trainings are repeated

    status: str = "waiting"  # running, done, up to date, failed
    seconds: float | None = None
    figures: list[dict[str, Any]] = field(default_factory=list)  # events: png, json, headline
    sets: list[str] = field(default_factory=list)  # names of the data sets that it looked for
    error: str = ""  # last lines of the traceback
    cell: str = ""  # k/n
    step: dict[str, Any] = field(default_factory=dict)  # the last event of a training
    started: float = 0.0
    starts: int = 0  # more than one where a worker of a cluster was lost
    kernel: Kernel | RemoteKernel | None = None

    @property
    def own(self) -> dict[str, Any]:
        """Parameters that differ from the notebook's defaults, the profile aside."""
        return _own(self.notebook, self.values)

    @property
    def variant(self) -> str:
        """Name of the run among those of its notebook."""
        return _variant(self.values["profile"], self.own)

    @property
    def folder(self) -> Path:
        """Folder in which the kernel runs."""
        return workspace.runs_folder() / "jobs" / f"{self.notebook.name}-{self.variant}"

    @property
    def executed(self) -> Path:
        """The executed notebook of the last run that came to its end."""
        return workspace.runs_folder() / "notebooks" / f"{self.notebook.name}-{self.variant}.ipynb"

    @property
    def partial(self) -> Path:
        """The notebook as far as it is executed: while it runs, and after a failure."""
        return self.folder / "executed.ipynb"

    @property
    def events(self) -> Path:
        """File that the notebook's process reports to."""
        return self.folder / "events.jsonl"

    @property
    def headline(self) -> dict[str, Any]:
        """The first figure's number to remember: name, value, unit, reported; or empty."""
        return next((figure["headline"] for figure in self.figures if figure.get("headline")), {})

    def result(self) -> dict[str, Any]:
        """Return the record that is kept of a finished run."""
        return {
            "profile": self.values["profile"],
            "key": self.key,
            "data": record.data(self.sets),
            "rows": record.kept_rows(self.notebook.name),
            "seconds": round(self.seconds, 1),
            "figures": self.figures,
            "digests": record.digests(self.figures),
        }

    def line(self) -> str:
        """Return one line on the run's progress."""
        where = "starting Python"
        if self.cell:
            number, _, count = self.cell.partition("/")
            where = f"cell {number} of {count}"
        if self.step:
            label = str(self.step.get("label")).removeprefix(f"{self.notebook.name}/")
            where += f", training {label}, update {self.step.get('step')} of {self.step.get('steps')}"
        return f"{self.notebook.name}  {minutes(time.monotonic() - self.started)}  {where}"


def plan(
    paths: Iterable[Path],
    *,
    folder: Path,
    given: Sequence[str] = (),
    profile: str | None = None,
    out: Path | None = None,
    force: bool = False,
) -> list[Run]:
    """Check all arguments before anything runs, and find the runs that are up to date.

    Args:
        paths: The notebooks' files.
        folder: Folder of notebooks that they come from.
        given: Texts "NAME=VALUE", for every notebook.
        profile: Budget, None for each notebook's own.
        out: Folder for the figures. None means the committed set for runs that may
            replace it (a checkout's own notebook, not at smoke, default parameters),
            else the user's own.
        force: Also run notebooks that are up to date, and repeat finished trainings.

    Raises:
        UsageError: The arguments do not fit; the message has one line for each notebook and fault.
    """
    given = [*given, f"profile={profile}"] if profile else list(given)
    accepted, wrong = [], []
    for path in paths:
        try:
            notebook = read(path)
            accepted.append((notebook, resolve(notebook, given)))
        except UsageError as error:
            wrong.append(str(error))
    if wrong:
        raise UsageError("\n".join(wrong))
    runs = []
    for notebook, values in accepted:
        figures = (out or _figures(notebook, values, folder)).resolve()
        key = record.digest([notebook.name, values, str(figures), *record.code(notebook)])
        run = Run(notebook, values, figures, key, anew=force)
        runs.append(run)
        last = record.recorded(run.notebook.name).get(run.variant, {})
        if last.get("key") == run.key and _as_it_was(notebook.name, last) and not force:
            run.status, run.seconds, run.figures = "up to date", last["seconds"], last["figures"]
    return runs


def _as_it_was(notebook: str, last: Mapping[str, Any]) -> bool:
    """Say whether the data and kept rows behind a recorded run, and its figures, are those of the run."""
    data = {name: [list(file) for file in files] for name, files in record.data(last["data"]).items()}
    same = data == last["data"] and record.kept_rows(notebook) == last["rows"]
    return same and last["digests"] == record.digests(last["figures"])


def announcement(runs: Sequence[Run], jobs: int, on: str) -> str:
    """Say in a sentence or two what is about to run, and how long it takes."""
    waiting = [run for run in runs if run.status == "waiting"]
    if not waiting:
        return "All figures are up to date; --fresh draws them anew."
    seconds = [run.notebook.seconds(run.values["profile"]) for run in waiting]
    count = f"{len(waiting)} notebook{'s' * (len(waiting) > 1)}"
    how = f" on {on}" if on != "local" else f", {jobs} at a time" if jobs > 1 < len(waiting) else ""
    profiles = ", ".join(dict.fromkeys(run.values["profile"] for run in waiting))
    long = (
        "" if math.inf in seconds or on != "local" else f", about {math.ceil(sum(seconds) / 60)} minutes on two cores"
    )
    return (
        f"Running {count}{how}, profile {profiles}{long}. Each trains models, scores test inputs and draws figures; what was "
        "trained before is loaded. Ctrl-C stops, and the same command goes on later."
    )


def execute(runs: Sequence[Run], *, jobs: int, progress: Progress, on: str = "local") -> None:
    """Run the notebooks that wait, `jobs` at a time, each in a kernel of its own.

    A failing run ends as status "failed" with its `error`; the other runs continue. When the
    process is interrupted or told to end (SIGTERM), all kernels end first.

    Args:
        runs: From `plan`; changed in place.
        jobs: How many kernels run at once; the cores are shared out among them.
        progress: Receives one line per running notebook.
        on: "local", or the address of a Dask scheduler whose workers run the kernels;
            `jobs` then has no part in it.
    """
    waiting = [run for run in runs if run.status == "waiting"]
    if not waiting:
        return
    offsets = {run.notebook.name: 0 for run in waiting}
    starts = {run.notebook.name: 1 for run in waiting}
    for run in waiting:
        run.folder.mkdir(parents=True, exist_ok=True)
        run.events.unlink(missing_ok=True)
        run.partial.unlink(missing_ok=True)

    said: set[str] = set()
    with _termination_raises(), _kernels(waiting, jobs, on) as at_once, ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(_execute, run) for run in waiting]
        try:
            pending = set(futures)
            while pending:
                _, pending = wait(pending, timeout=0.5)
                for run in waiting:
                    name = run.notebook.name
                    if run.starts > starts[name]:
                        starts[name] = run.starts
                        progress.say(f"{name}  starts again: the worker it ran on is gone")
                    if run.status == "waiting" or name in said:
                        continue
                    news, offsets[name] = workspace.events(run.events, offsets[name])
                    run.step = next((e for e in reversed(news) if e.get("event") == "step"), run.step)
                    drawn = [Path(event["png"]) for event in news if event.get("event") == "figure"]
                    for file in filter(Path.is_file, drawn):  # those of a cluster's worker come with its notebook
                        progress.say(f"{name}  has drawn {_short(file)}")
                    if run.status in ("done", "failed"):
                        said.add(name)
                        progress.say(f"{name}  {run.status} in {minutes(run.seconds or 0)}")
                running = [run for run in waiting if run.status == "running"]
                progress.update({run.notebook.name: run.line() for run in running})
        finally:
            _stop(waiting, futures)
    for future in futures:
        future.result()  # raises an error of the runner itself, which no notebook caused


def summary(runs: Sequence[Run]) -> str:
    """Return the table that ends a batch."""
    rows = []
    for run in runs:
        figure = number = reported = ""
        if run.figures:
            more = f" (+{len(run.figures) - 1})" if run.figures[1:] else ""
            figure = _short(Path(run.figures[0]["png"])) + more
        if run.headline:
            number = f"{run.headline['name']} = {run.headline['value']:.4g} {run.headline['unit']}".strip()
            reported = run.headline.get("reported")
            reported = "" if reported is None else f"{reported:.4g}"
        seconds = "" if run.seconds is None else f"{run.seconds:.1f}"
        rows.append((run.notebook.name, run.values["profile"], run.status, seconds, figure, number, reported))
    head = ("notebook", "profile", "status", "seconds", "figure", "headline", "paper")
    return table(head, rows, right=("seconds", "paper"))


@contextlib.contextmanager
def _kernels(runs: Sequence[Run], jobs: int, on: str) -> Iterator[int]:
    """Give every run a kernel, here or on a cluster, and yield how many to start at once."""
    if on != "local":
        from oodlab.batch.cluster import connect

        with connect(on) as cluster:
            for run in runs:
                run.kernel = cluster.kernel(run.events, run.figures_folder, anew=run.anew)
            yield len(runs)  # all at once: the scheduler lets them wait for a worker
        return
    from oodlab.batch.kernel import Kernel  # seconds to import, and only needed here

    common = environment(os.environ, max(1, cores() // min(jobs, len(runs))))
    for run in runs:
        places = {"OODLAB_PROGRESS": str(run.events), "OODLAB_FIGURES": str(run.figures_folder)}
        run.kernel = Kernel(run.folder, common | places | ({"OODLAB_ANEW": "1"} if run.anew else {}))
    yield jobs


def _execute(run: Run) -> None:
    """Run one notebook, in a thread of the pool."""
    from oodlab.batch.kernel import explain

    run.started = time.monotonic()

    def on_start() -> None:
        run.started, run.status = time.monotonic(), "running"
        run.starts, run.cell, run.step = run.starts + 1, "", {}

    def on_cell(number: int, count: int) -> None:
        run.cell = f"{number}/{count}"

    inserted = {"profile": run.values["profile"], **run.own}
    try:
        run.kernel.execute(run.notebook.path, run.partial, parameters=inserted, on_start=on_start, on_cell=on_cell)
        run.seconds = time.monotonic() - run.started
        told = workspace.events(run.events, 0)[0]
        run.figures = list({e["png"]: e for e in told if e.get("event") == "figure"}.values())  # the last of each
        run.sets = sorted({e["name"] for e in told if e.get("event") == "data"})
        run.executed.parent.mkdir(parents=True, exist_ok=True)
        os.replace(run.partial, run.executed)
        record.remember(
            run.notebook.name, run.variant, run.result()
        )  # last: only a complete run may count as up to date
        run.status = "done"
    except Exception as error:  # the other notebooks continue, and the user reads the message
        run.seconds = time.monotonic() - run.started
        run.error = explain(error, run.folder / "kernel.log")
        run.status = "failed"


def _stop(runs: Sequence[Run], futures: Sequence[Future]) -> None:
    """End all runs; return when no kernel is left."""
    for future in futures:
        future.cancel()
    running = {future for future in futures if not future.done()}
    while running:  # repeatedly, because a kernel may just be starting
        for run in runs:
            run.kernel.kill()
        _, running = wait(running, timeout=0.2)


@contextlib.contextmanager
def _termination_raises() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143), so that it unwinds like an interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _own(notebook: Notebook, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the notebook's defaults, the profile aside."""
    defaults = {name: parameter.default for name, parameter in notebook.parameters.items()}
    return {name: value for name, value in values.items() if name != "profile" and value != defaults[name]}


def _figures(notebook: Notebook, values: dict[str, Any], folder: Path) -> Path:
    """Return the folder for a run's figures when the user names none."""
    here = workspace.checkout()
    reference = here is not None and folder.resolve() == here / "notebooks"
    drawn = ("quick", "long", "full")
    if reference and values["profile"] in drawn and not _own(notebook, values) and not _larger(notebook, values):
        return workspace.reference_figures()
    variant = _variant(values["profile"], _own(notebook, values))
    return workspace.runs_folder() / "figures" / variant  # variants lie side by side, to be compared


def _larger(notebook: Notebook, values: dict[str, Any]) -> bool:
    """Say whether a larger profile has committed rows: its figure is the committed one."""
    larger = {"quick": ("long", "full"), "long": ("full",)}.get(values["profile"], ())
    kept = workspace.reference_figures() / notebook.name
    files = [f"{kept.name}{kind}.{profile}*.csv" for profile in larger for kind in ("", "-numbers")]
    return any(any(kept.parent.glob(file)) for file in files)


def _variant(profile: str, own: dict[str, Any]) -> str:
    """Return the name of a run among those of its notebook: the profile, and a hash of own parameters."""
    return profile + (f"-{record.digest(own)[:8]}" if own else "")


def _short(path: Path) -> str:
    """Write a path relative to the current folder where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
