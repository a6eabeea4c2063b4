"""Downloading a set into the cache: its parts are compared with the table of sets, then written atomically.

Imports: oodlab.workspace, oodlab.data.arrays, .search, .sets.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from http.client import HTTPException
from pathlib import Path

import numpy as np

from oodlab.data.arrays import as_stored, write_npz
from oodlab.data.search import cache_folder, how_to_get
from oodlab.data.sets import SetEntry, entry
from oodlab.workspace import explained


def fetch(name: str) -> list[Path]:
    """Download every part of a set that the cache lacks, and return the paths of all its parts.

    Raw files go to a temporary folder beside the result and are removed; a
    part appears in the cache only when it is complete and has the shape, number
    of items and number of classes that the table of sets says. The folders of
    OODLAB_DATA are neither read nor written.

    Raises:
        ValueError: the name is unknown, or the set is embedded.
        FileNotFoundError: the set has no open download; the message says how to
            get it by hand.
        ConnectionError: the download failed.
        OSError: the downloaded files differ from what the table of sets says.
    """
    found = entry(name)
    if found.embedded:
        raise ValueError(
            f"fetch expects a set to download, got {found.name!r}: it is embedded in scikit-learn; call load."
        )
    if not found.download:
        raise FileNotFoundError(f"{found.name} cannot be fetched: {how_to_get(found)}.")
    folder = cache_folder() / found.name
    paths = {part: folder / f"{part}.npz" for part in found.sizes}
    missing = [part for part, path in paths.items() if not path.is_file()]
    if missing:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            raw_folder = tempfile.TemporaryDirectory(prefix=".raw-", dir=folder)
        _remove_abandoned(folder)
        with raw_folder as raw:
            for part in missing:
                x, y, class_names = _download(found, Path(raw), part)
                _verify(found, part, x, y)
                write_npz(paths[part], x, y, found.class_names or class_names)
    return list(paths.values())


def _remove_abandoned(folder: Path) -> None:
    """Remove the raw files that killed downloads left: folders in which no file has changed for a day."""
    for raw in folder.glob(".raw-*"):
        times = [path.stat().st_mtime for path in (raw, *raw.rglob("*")) if path.exists()]
        if times and time.time() - max(times) > 86_400:
            shutil.rmtree(raw, ignore_errors=True)


def _download(found: SetEntry, raw: Path, part: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    size = f"the whole set is {found.megabytes:g} MB"
    print(f"oodlab: downloading {found.name}/{part} into {cache_folder()} ({size}).")
    try:
        return found.download(raw, part)
    except (OSError, HTTPException, RuntimeError, ValueError) as error:  # each library raises its own
        raise ConnectionError(
            f"{found.name} could not be downloaded ({type(error).__name__}: {error}), and no file was written. Try "
            f"again by `oodlab data {found.name}`, or put {found.name}/{part}.npz (x, y) into a folder "
            "of OODLAB_DATA."
        ) from error


def _verify(found: SetEntry, part: str, x: np.ndarray, y: np.ndarray) -> None:
    """Raise OSError if a downloaded part differs from what the table of sets says about it."""
    stored, labels = as_stored(x, y, who=f"{found.name}/{part}")
    got = (len(stored), tuple(stored.shape[1:]), len(labels.unique()))
    expected = (found.sizes[part], found.shape, found.classes or 1)
    if got != expected:
        raise OSError(
            f"{found.name}/{part} expects (items, shape, classes) = {expected}, got {got}: the "
            "files at the source have changed, and no file was written; update oodlab, or report the change."
        )
