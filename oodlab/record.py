"""What is remembered of finished runs, and what a figure is made from.

state/<experiment>.json below `workspace.runs_folder()` holds, per variant of the
experiment and oldest first: profile, key, data, rows, seconds, figures, and their digests.

Imports: identity, workspace, notebook, data.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from oodlab import identity, workspace
from oodlab.notebook import Experiment

FIELDS = {"profile", "key", "data", "rows", "seconds", "figures", "digests"}  # of a record


def recorded(experiment: str) -> dict[str, Any]:
    """Return the records of an experiment's finished runs: variant -> record, oldest first.

    A damaged file counts as none, with a warning: its runs are done again.
    """
    path = _file(experiment)
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = {name: record for name, record in found.items() if record.keys() >= FIELDS}
        if len(whole) == len(found):
            return whole
    except (ValueError, AttributeError):  # no JSON, not UTF-8, or JSON of another form
        whole = {}
    warnings.warn(f"{path} is damaged: runs that it no longer tells of are done again.", stacklevel=2)
    return whole


def remember(experiment: str, variant: str, record: dict[str, Any]) -> None:
    """Make a record the experiment's newest, in place of its variant's last.

    Raises:
        ValueError: a number in it is not finite.
    """
    file = _file(experiment)
    with workspace.only_writer(file.parent):
        others = {name: other for name, other in recorded(experiment).items() if name != variant}
        workspace.write_json(file, {**others, variant: record})


def digest(content: Any) -> str:
    """Return the SHA-256 of anything that JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digests(figures: list[dict[str, Any]]) -> dict[str, str]:
    """Return the digests of those of the figures' files that exist."""
    files = [Path(figure[kind]) for figure in figures for kind in ("png", "json")]
    return {str(file): _digest(file) for file in files if file.is_file()}


def code(experiment: Experiment) -> list[str]:
    """Return hashes of all that an experiment is made from but its data.

    Its cells with what they use of the package, the papers' numbers, the embedded sets, and torch's version.
    """
    cells = identity.digest(identity.code_of_cells(experiment.code))
    return [cells, numbers(), workspace.source_hash("data/embedded.py"), importlib.metadata.version("torch")]


def kept_rows(experiment: str) -> dict[str, str]:
    """Return the digests of an experiment's files of kept rows, those that are committed or that $OODLAB_ROWS names."""
    folder = workspace.rows_folders()[0]
    name = Path(experiment).name
    patterns = (f"{name}.*.csv", f"{name}-numbers.*.csv")
    files = [file for pattern in patterns for file in sorted((folder / experiment).parent.glob(pattern))]
    return {file.name: _digest(file) for file in files}


def numbers() -> str:
    """Return the hash of the papers' numbers."""
    return _digest(Path(__file__).with_name("reported.csv"))


def data(names: Iterable[str]) -> dict[str, list[tuple[str, int, int]]]:
    """Return the files of sets on the data's search path and in its cache: set -> name, size and time of each file.

    Args:
        names: Sets, by name or by path; one that is not here has no files.
    """
    from oodlab.data.search import cache_folder, search_path  # not above: importing torch takes a second

    return {name: list(_stamps(Path(name), (*search_path(), cache_folder()))) for name in names}


def _stamps(wanted: Path, roots: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of a set's files; of a path, of what lies there."""
    for place in [wanted] if wanted.is_absolute() else [root / wanted for root in roots]:
        for file in [place] if place.is_file() else sorted(place.rglob("*.*")):
            stat = file.stat()
            yield file.relative_to(place.parent).as_posix(), stat.st_size, stat.st_mtime_ns


def _file(experiment: str) -> Path:
    """Return the file that holds an experiment's records."""
    return workspace.runs_folder() / "state" / f"{experiment}.json"


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
