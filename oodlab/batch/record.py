"""Records of finished runs, and digests of everything that a figure is made from.

state/<notebook>.json below `workspace.runs_folder()` holds, per variant of the
notebook and oldest first: profile, key, data, rows, seconds, figures, and their digests.

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
from oodlab.batch.notebook import Notebook

FIELDS = {"profile", "key", "data", "rows", "seconds", "figures", "digests"}  # of a record


def recorded(name: str) -> dict[str, Any]:
    """Return the records of a notebook's finished runs: variant -> record, oldest first.

    A damaged file counts as empty, with a warning, so that its runs are repeated.
    """
    path = _file(name)
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = {variant: record for variant, record in found.items() if record.keys() >= FIELDS}
        if len(whole) == len(found):
            return whole
    except (ValueError, AttributeError):  # no JSON, not UTF-8, or JSON of another form
        whole = {}
    warnings.warn(f"{path} is damaged: runs without a record are repeated.", stacklevel=2)
    return whole


def remember(name: str, variant: str, record: dict[str, Any]) -> None:
    """Make a record the notebook's newest, in place of its variant's last.

    Raises:
        ValueError: A number in the record is not finite.
    """
    file = _file(name)
    with workspace.only_writer(file.parent):
        others = {other: its for other, its in recorded(name).items() if other != variant}
        workspace.write_json(file, {**others, variant: record})


def digest(content: Any) -> str:
    """Return the SHA-256 of anything that JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digests(figures: list[dict[str, Any]]) -> dict[str, str]:
    """Return the digests of the figures' files, as far as they exist."""
    files = [Path(figure[kind]) for figure in figures for kind in ("png", "json")]
    return {str(file): _digest(file) for file in files if file.is_file()}


def code(notebook: Notebook) -> list[str]:
    """Return hashes of everything but data that decides a notebook's output.

    These are its cells with the package's code that they use, the papers' numbers, the embedded sets and torch's version.
    """
    cells = identity.digest(identity.code_of_cells(notebook.code))
    return [cells, numbers(), workspace.source_hash("data/embedded.py"), importlib.metadata.version("torch")]


def kept_rows(name: str) -> dict[str, str]:
    """Return the digests of a notebook's files of kept rows, below figures or in the folder that $OODLAB_ROWS names."""
    folder = workspace.rows_folders()[0]
    place = folder / name
    patterns = (f"{place.name}.*.csv", f"{place.name}-numbers.*.csv")
    files = [file for pattern in patterns for file in sorted(place.parent.glob(pattern))]
    return {file.name: _digest(file) for file in files}


def numbers() -> str:
    """Return the hash of the papers' numbers."""
    return _digest(Path(__file__).parent.parent / "reported.csv")


def data(names: Iterable[str]) -> dict[str, list[tuple[str, int, int]]]:
    """Return the files of sets on the data's search path and in its cache: set -> name, size and time of each file.

    Args:
        names: Sets, by name or by path; an absent set has no files.
    """
    from oodlab.data.search import cache_folder, search_path  # not above: importing torch takes a second

    return {name: list(_stamps(Path(name), (*search_path(), cache_folder()))) for name in names}


def _stamps(wanted: Path, roots: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of a set's files, or of the files at a path."""
    for place in [wanted] if wanted.is_absolute() else [root / wanted for root in roots]:
        for file in [place] if place.is_file() else sorted(place.rglob("*.*")):
            stat = file.stat()
            yield file.relative_to(place.parent).as_posix(), stat.st_size, stat.st_mtime_ns


def _file(name: str) -> Path:
    """Return the file that holds a notebook's records."""
    return workspace.runs_folder() / "state" / f"{name}.json"


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
