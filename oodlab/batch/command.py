"""The `oodlab` command: figures, list, data, results.

Exit status: 0 success; 1 a notebook or a download failed; 2 the arguments do
not fit and nothing ran; 130 interrupted, 143 terminated.

Imports: workspace, notebook, progress, record, runner; data and studies when their commands need them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from pathlib import Path

from oodlab import workspace
from oodlab.batch.environment import cores
from oodlab.batch.notebook import PROFILES, Notebook, UsageError, choose, find, read
from oodlab.batch.progress import Progress, minutes, table
from oodlab.batch.record import recorded
from oodlab.batch.runner import announcement, execute, plan, summary

JOBS = max(1, min(4, cores() // 2))
STOPPED = (
    "Stopped. Nothing is lost: finished notebooks and trainings are kept, and an unfinished training up to its last checkpoint. "
    "Run the same command again to go on from there."
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130


def figures(arguments: argparse.Namespace) -> int:
    """Run notebooks and print the table of their figures."""
    _check_place(arguments.on, arguments.jobs)
    folder = _notebooks(arguments.notebooks)
    if arguments.names:
        paths = choose(arguments.names, folder)
    else:
        everything = arguments.all or arguments.notebooks is not None
        paths = [path for path in find(folder) if everything or read(path).core]
        paths.sort(key=lambda path: read(path).seconds(arguments.profile))  # the first picture soon
    if not paths:
        raise UsageError(
            f"oodlab expects notebooks, got none below {folder}: a notebook lies in a folder of its paper, "
            "<folder>/<paper>/<notebook>.ipynb; name one or add --all."
        )
    runs = plan(
        paths,
        folder=folder,
        given=arguments.parameters,
        profile=arguments.profile,
        out=arguments.out,
        force=arguments.fresh,
    )
    progress, jobs = Progress(sys.stderr), arguments.jobs or JOBS
    progress.say(announcement(runs, jobs, arguments.on))
    try:
        execute(runs, jobs=jobs, progress=progress, on=arguments.on)
    except (KeyboardInterrupt, SystemExit):
        progress.say(STOPPED)
        raise
    print(summary(runs))
    failed = [run for run in runs if run.status == "failed"]
    for run in failed:
        came = f"; as far as it came: {run.partial}" if run.partial.exists() else ""
        print(f"\n{run.notebook.name} failed{came}\n{run.error}")
    return 1 if failed else 0


def results(arguments: argparse.Namespace) -> int:
    """Write the tables of results and the gallery from committed figures and rows, and print how many numbers there are."""
    root = workspace.checkout()
    if root is None:
        raise UsageError(
            "oodlab expects a checkout for its results, got an installed package alone: the papers' tables are compared with the "
            "committed figures; clone the repository and run oodlab results there."
        )
    from oodlab.studies import results as of_studies

    written = of_studies.files(root, described(root / "notebooks"))
    for path, text in written.items():
        with workspace.atomic_file(path) as stream:
            stream.write(text.encode())
        print(path.relative_to(root))
    return 0


def described(folder: Path) -> list[tuple[str, str, str]]:
    """Return name, title and minutes at quick of each notebook, the core ones first, then the shortest."""
    notebooks = sorted(map(read, find(folder)), key=lambda one: (not one.core, one.seconds("quick")))
    return [(one.name, one.title, f"{max(1, round(one.seconds('quick') / 60))}") for one in notebooks]


def listing(arguments: argparse.Namespace) -> int:
    """Print the notebooks with their parameters, time and disk space."""
    broken = 0
    for path in find(_notebooks(arguments.notebooks)):
        try:
            print(_describe(read(path)) + "\n")
        except UsageError as error:
            print(error, file=sys.stderr)
            broken = 2
    return broken


def datasets(arguments: argparse.Namespace) -> int:
    """Print the data sets and their state, or fetch the named sets."""
    from oodlab import data

    if not arguments.names:
        rows = []
        for entry in data.table():
            state = data.state(entry.name)
            size = "" if state.nbytes is None else f"{state.nbytes / 1e6:.1f}"
            rows.append((entry.name, state.kind, size, entry.licence, state.detail))
        print(table(("name", "state", "MB", "licence", "where"), rows, right=("MB",)))
        return 0
    failed = 0
    for name in arguments.names:
        try:
            for file in data.fetch(name):
                print(f"{name}: {file}")
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


def _check_place(on: str, jobs: int | None) -> None:
    """Raise UsageError unless --on names a place, --jobs fits it, and the extra it needs is there."""
    if on == "local":
        return
    if not re.fullmatch(r"tcp://([\w.-]+|\[[\da-fA-F:]+\]):\d{1,5}", on):
        raise UsageError(
            f"oodlab expects --on local or --on tcp://HOST:PORT, got {on!r}: the second is the address that "
            "`dask scheduler` prints when it starts; write for example --on tcp://127.0.0.1:8786."
        )
    if jobs is not None:
        raise UsageError(
            f"oodlab expects --jobs only with --on local, got --jobs {jobs} --on {on}: there, each worker runs as "
            "many notebooks at a time as it has threads; leave --jobs out."
        )
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(
            f"oodlab expects the package distributed for --on {on}, got none: it talks to the cluster and is an "
            "extra of the kit; run pip install 'oodlab[cluster]'."
        )


def _describe(notebook: Notebook) -> str:
    """Write a notebook's entry in the list."""
    tags = [text for text in (notebook.figures, "core" if notebook.core else "") if text]
    lines = [f"{notebook.name}  {notebook.title}" + (f"  ({'; '.join(tags)})" if tags else "")]
    for name, parameter in notebook.parameters.items():
        value = f"    {name}: {parameter.type} = {parameter.default!r}"
        lines.append(f"{value:36}  {parameter.comment}".rstrip())
    runs = list(recorded(notebook.name).values())
    for profile in PROFILES:
        estimate = notebook.estimate.get(profile, {})
        measured = [run["seconds"] for run in runs if run["profile"] == profile]
        parts = []
        if measured:
            parts.append(f"{minutes(measured[-1])} when last run here")
        elif "seconds" in estimate:
            parts.append(f"about {minutes(estimate['seconds'])} on two cores")
        if "megabytes" in estimate:
            parts.append(f"{estimate['megabytes']:g} MB on disk")
        if parts:
            lines.append(f"  {profile}: {', '.join(parts)}")
    return "\n".join(lines)


def _notebooks(named: Path | None) -> Path:
    """Return the folder of notebooks: the one named, else the checkout's."""
    here = workspace.checkout()
    folder = named or (here and here / "notebooks")
    if folder is None or not folder.is_dir():
        raise UsageError(
            f"oodlab expects a folder of notebooks, got {folder}: the folder does not exist, or the package "
            "lies outside a checkout; name one with --notebooks DIR."
        )
    return folder


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="oodlab", description="Run the studies' notebooks and see what there is.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    notebooks = argparse.ArgumentParser(add_help=False)
    notebooks.add_argument("--notebooks", type=Path, metavar="DIR", help="folder of notebooks; default: the checkout's")

    run = commands.add_parser("figures", parents=[notebooks], help="run notebooks, draw their figures")
    run.set_defaults(command=figures)
    run.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="paper/notebook, notebook or paper; default: the core ones, or all of --notebooks",
    )
    run.add_argument("--all", action="store_true", help="every notebook")
    run.add_argument(
        "--profile",
        choices=PROFILES,
        help="budget; default: the notebook's own",
    )
    run.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="set a parameter")
    run.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help=f"notebooks at a time on this machine; default: one for two cores, at most 4 (here {JOBS})",
    )
    run.add_argument(
        "--on",
        default="local",
        metavar="PLACE",
        help="local (the default), or tcp://HOST:PORT of a Dask scheduler whose workers run the notebooks",
    )
    run.add_argument(
        "--fresh",
        action="store_true",
        help="run also what is up to date; kept rows and finished trainings are made anew",
    )
    run.add_argument(
        "--out",
        type=Path,
        default=os.environ.get("OODLAB_FIGURES") or None,
        metavar="DIR",
        help="folder for the figures; default: the committed ones if the run may replace them, else your own",
    )

    listed = commands.add_parser("list", parents=[notebooks], help="notebooks, parameters, time and disk")
    listed.set_defaults(command=listing)

    computed = commands.add_parser("results", help="write figures/results.csv and the galleries from what is committed")
    computed.set_defaults(command=results)

    sets = commands.add_parser("data", help="data sets and their state; fetch the named ones")
    sets.set_defaults(command=datasets)
    sets.add_argument("names", nargs="*", metavar="NAME", help="set to fetch")
    return parser


def _positive(text: str) -> int:
    """Read a number of jobs."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expects a whole number above 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
