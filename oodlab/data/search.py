"""Where a set's files are looked for: the search path and the cache, and which files are there.

OODLAB_DATA   folders to read from (separated by os.pathsep), never written to
OODLAB_CACHE  folder for downloads; default ~/.cache/oodlab/data, or below
              $XDG_CACHE_HOME

Relative folders are resolved when first seen, so a later chdir changes nothing.

Imports: oodlab.workspace, oodlab.data.rows, oodlab.data.sets.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from oodlab import workspace
from oodlab.data.rows import SPLITS, part_of
from oodlab.data.sets import SetEntry, entry


@cache
def _absolute(folder: str) -> Path:
    return Path(folder).expanduser().resolve()


def search_path() -> tuple[Path, ...]:
    """Return the read-only folders that $OODLAB_DATA names, absolute."""
    named = os.environ.get("OODLAB_DATA", "")
    return tuple(_absolute(folder) for folder in named.split(os.pathsep) if folder)


def cache_folder() -> Path:
    """Return the folder for downloads, absolute; it need not exist yet."""
    named = os.environ.get("OODLAB_CACHE")
    return _absolute(named or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "oodlab", "data"))


search_path(), cache_folder()  # resolve relative folders now, before anything changes the process's folder


def stored_parts(folder: Path) -> tuple[str, ...]:
    """Return which of train, val, test, all a set's folder holds as npz files.

    Raises:
        ValueError: all.npz lies beside other parts, so rows could be in two of them.
    """
    stems = tuple(stem for stem in SPLITS if (folder / f"{stem}.npz").is_file())
    if "all" in stems and len(stems) > 1:
        raise ValueError(
            f"{folder} expects either all.npz or its parts, got {', '.join(stems)}: train and test rows "
            "could overlap; remove all.npz or the other files."
        )
    return stems


@dataclass(frozen=True)
class Found:
    """The file that a split is read from: its path, which tenths of its rows, and where the file comes from."""

    path: Path
    tenths: range
    origin: str  # "prepared" (search path) or "download" (cache)

    @property
    def parts(self) -> tuple[Path, ...]:
        """The file and its continuation files."""
        return with_continuations(self.path)


def with_continuations(file: Path) -> tuple[Path, ...]:
    """Return a part's file and its continuation files in order: train.npz, train-part2.npz, train-part3.npz, ...

    Raises:
        ValueError: The numbers of the continuation files have a gap.
    """
    further = {int(f.stem.rpartition("-part")[2]): f for f in file.parent.glob(f"{file.stem}-part[0-9]*.npz")}
    if sorted(further) != list(range(2, len(further) + 2)):
        raise ValueError(
            f"{file} expects continuation files numbered from 2 without a gap, got {sorted(further)}: copy the missing "
            "files, or remove the files after the gap."
        )
    return file, *(further[number] for number in sorted(further))


def find(name: str, split: str) -> Found | None:
    """Return the first file on the search path, then in the cache, that holds a split; None if there is none."""
    looked_for(name)
    for root in (*search_path(), cache_folder()):
        part = part_of(split, stored_parts(root / name))
        if part:
            stem, tenths = part
            origin = "download" if root == cache_folder() else "prepared"
            return Found(root / name / f"{stem}.npz", tenths, origin)
    return None


def looked_for(name: str) -> None:
    """Tell the batch runner, once, that this process's results depend on whether a set is present and on its files."""
    _tell(name, os.environ.get("OODLAB_PROGRESS"))


@cache
def _tell(name: str, to: str | None) -> None:
    workspace.report("data", name=name)


def known(name: str) -> bool:
    """Return whether the search path or the cache has a folder of this name with npz files."""
    return any(stored_parts(root / name) for root in (*search_path(), cache_folder()))


def looked_at(name: str) -> str:
    """Return the folders in which a set was looked for as text, for error messages."""
    roots = search_path()
    folders = [str(root / name) if root.is_dir() else f"{root} (not a folder)" for root in roots]
    where = ", ".join([*folders, str(cache_folder() / name)])
    return where if roots else f"{where} (OODLAB_DATA is not set)"


def how_to_get(found: SetEntry) -> str:
    """Return a sentence that says how to get a set that is not embedded."""
    if found.download:
        return f"`oodlab data {found.name}` downloads it ({found.megabytes:g} MB)"
    return f"there is no open download: {found.how}, in {found.name}/ below a folder of OODLAB_DATA"


@dataclass(frozen=True)
class State:
    """Whether a set is present on this machine, and how to get it if it is not."""

    name: str
    kind: str  # "present", "downloadable", "by hand" or "embedded"
    detail: str
    nbytes: int | None  # size on disk if present, approximate size of the download if downloadable


def state(name: str) -> State:
    """Return whether a set is present, downloadable, to be got by hand, or embedded, with details."""
    found = entry(name)
    if found.embedded:
        return State(found.name, "embedded", "comes with scikit-learn", None)
    files = {stem: find(found.name, stem) for stem in found.sizes}
    here = {stem: file for stem, file in files.items() if file}
    missing = [stem for stem in files if stem not in here]
    if here:
        nbytes = sum(path.stat().st_size for path in {file.path for file in here.values()})
        lacks = f"; no {', '.join(missing)}: {how_to_get(found)}" if missing else ""
        return State(found.name, "present", f"{', '.join(here)}{lacks}", nbytes)
    if found.download:
        return State(found.name, "downloadable", how_to_get(found), int(found.megabytes * 1e6))
    return State(found.name, "by hand", how_to_get(found), None)
