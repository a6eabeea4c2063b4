"""Digests of stored data: one SHA-256 for each part (train, test, ...) of a set, known even where the set is absent.

The key of a training contains the digest of its data, and the key of a result row those of
the data that it scores.  `oodlab/digests.csv` holds the digests of the named sets from the
time when the committed rows were made.  The digest of an absent set is read from that table;
the digest of a set that is present is computed from its values.

    make digests     writes the table anew from the sets that are present

Imports: oodlab.identity, oodlab.workspace, oodlab.data.loading, rows, search, sets.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oodlab import workspace
from oodlab.data.loading import from_source, load, source_of
from oodlab.data.rows import Classes, class_numbers, part_of, taken
from oodlab.data.search import find
from oodlab.data.sets import find_entry, table
from oodlab.data.split import Split
from oodlab.identity import code_of, parts_of

TABLE = Path(__file__).resolve().parent.parent / "digests.csv"
COLUMNS = ("set", "part", "origin", "n", "digest")


@dataclass(frozen=True)
class Stored:
    """A choice of items of a named set, which are loaded only when they are needed.

    Attributes:
        name, split, without, only, seed: The arguments of data.load.
        n: Largest number of items to draw; None takes all items, as does an n above their number.
    """

    name: str
    split: str = "train"
    without: Classes = ()
    only: Classes = ()
    n: int | None = None
    seed: int = 0

    def load(self) -> Split:
        """Return the items; an absent set is not downloaded but raises FileNotFoundError."""
        chosen = {"without": self.without, "only": self.only, "n": self.n, "seed": self.seed}
        return load(self.name, self.split, download=False, at_most=True, **chosen)

    @property
    def digest(self) -> str:
        """The SHA-256 of the whole stored part that the items are from, and of its class names if classes are named."""
        found = digest(self.name, self.split)
        classes = (self.without, self.only)
        named = any(
            isinstance(one, str) for given in classes for one in (given if isinstance(given, tuple) else (given,))
        )
        return hashlib.sha256(f"{found} {_class_names(self.name, self.split)}".encode()).hexdigest() if named else found


def drawing() -> str:
    """Return the source code that decides which items of a stored part a split has."""
    return code_of(part_of, class_numbers, taken)


def stored_in(value: Any) -> Iterator[Stored]:
    """Yield each Stored that a value (a recipe, say) is, contains at any depth, or has as an attribute `stored`."""
    if isinstance(value, Stored):
        yield value
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        own = getattr(value, "stored", ())
        yield from (own,) if isinstance(own, Stored) else own
        for _, part in parts_of(value):
            yield from stored_in(part)
    elif isinstance(value, functools.partial):
        for part in (*value.args, *value.keywords.values()):
            yield from stored_in(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from stored_in(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from stored_in(part)


def digest(name: str, split: str) -> str:
    """Return the SHA-256 of the stored part that a split is read from: of its type, shape, values and labels.

    Raises:
        FileNotFoundError: The set is not on this machine, and digests.csv has no digest of it.
    """
    if not is_here(name, split):
        known = _named(name, split)
        if known is not None:
            return known["digest"]
    return _digest_here(name, split)


def differs(name: str, split: str) -> bool:
    """Return whether this machine's values of a set's part differ from those that the committed rows were made from."""
    known = _named(name, split)
    return known is not None and is_here(name, split) and _digest_here(name, split) != known["digest"]


def is_here(name: str, split: str) -> bool:
    """Return whether a split can be loaded without a download."""
    known_set = find_entry(name)
    if known_set and known_set.embedded:
        return True
    if Path(name).suffix == ".npz" or "/" in name:
        return Path(name).expanduser().exists()
    return find(known_set.name if known_set else name, split) is not None


def committed() -> list[dict[str, str]]:
    """Return the rows of the committed table of digests, oodlab/digests.csv."""
    return _read_table(TABLE.stat().st_mtime_ns) if TABLE.is_file() else []


@functools.lru_cache(maxsize=2)
def _read_table(changed: int) -> list[dict[str, str]]:
    return list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))


def _class_names(name: str, split: str) -> tuple[str, ...]:
    if is_here(name, split):
        return from_source(source_of(name, split))[2]
    known_set = find_entry(name)
    return known_set.class_names if known_set else ()


def _named(name: str, split: str) -> dict[str, str] | None:
    known_set = find_entry(name)
    if known_set is None:
        return None
    rows = {row["part"]: row for row in committed() if row["set"] == known_set.name}
    found = part_of(split, tuple(rows))
    return rows[found[0]] if found else None


def _digest_here(name: str, split: str) -> str:
    source = source_of(name, split)
    stamp = (
        (str(source.files), *((f.stat().st_size, f.stat().st_mtime_ns, f.stat().st_ctime_ns) for f in source.files))
        if source.files
        else None
    )
    if stamp is None:
        return _digest_embedded(name, source.stem)
    remembered = workspace.runs_folder() / "digests.json"
    key = hashlib.sha256(f"{stamp} {workspace.source_hash('data')}".encode()).hexdigest()  # files, and their reader
    known = _remembered(remembered)
    if key not in known:
        known = {**_remembered(remembered), key: _of(source)}
        workspace.write_json(remembered, known)
    return known[key]


@functools.lru_cache(maxsize=32)
def _digest_embedded(name: str, stem: str) -> str:
    return _of(source_of(name, stem))


def _remembered(file: Path) -> dict[str, str]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _of(source: Any) -> str:
    x, y, _ = from_source(source)
    result = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
    result.update(x.numpy().data)
    result.update(y.numpy().data)
    return result.hexdigest()


def main() -> None:
    """Write digests.csv anew from the sets that are on the search path or embedded; rows of absent sets stay."""
    rows = {(row["set"], row["part"]): row for row in committed()}
    for known_set in table():
        for stem in {*known_set.sizes, "train", "val", "test", "all"}:
            try:
                source = source_of(known_set.name, stem)
            except (FileNotFoundError, ValueError):
                continue
            if source.stem == stem and source.origin in ("prepared", "embedded"):
                n = len(from_source(source)[0])
                found = (known_set.name, stem, source.origin, str(n), _of(source))
                rows[known_set.name, stem] = dict(zip(COLUMNS, found, strict=True))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[key] for key in sorted(rows))
    with workspace.atomic_file(TABLE) as file:
        file.write(text.getvalue().encode())
    print(f"{TABLE}: {len(rows)} parts")
