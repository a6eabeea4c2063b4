"""What is remembered of finished runs, and what a figure is made from.

state/<experiment>.json below `workspace.runs_folder()` holds, per variant of the
experiment and oldest first: profile, key, seconds, figures, and their digests.

Imports: workspace, data.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import warnings
from pathlib import Path
from typing import Any

from oodlab import workspace

FIELDS = {"profile", "key", "seconds", "figures", "digests"}  # of a record


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


def code() -> list[str]:
    """Return hashes of the package's code and of the papers' numbers, and torch's version."""
    numbers = Path(__file__).with_name("reported.csv")
    return [workspace.source_hash(), _digest(numbers), importlib.metadata.version("torch")]


def data() -> list[tuple[str, int, int]]:
    """Return names, sizes and times of the sets on the data's search path and in its cache."""
    from oodlab.data.search import cache_folder, search_path  # not above: importing torch takes a second

    found = []
    for root in (*search_path(), cache_folder()):
        stats = [(str(file.relative_to(root)), file.stat()) for file in sorted(root.glob("*/*.npz"))]
        found += [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return found


def _file(experiment: str) -> Path:
    """Return the file that holds an experiment's records."""
    return workspace.runs_folder() / "state" / f"{experiment}.json"


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
