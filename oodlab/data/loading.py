"""The function `load`, through which all data sets are read: load(name, split) -> Split.

Imports: oodlab.checks, oodlab.workspace, the other files of oodlab.data.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from oodlab import checks
from oodlab.data.arrays import as_stored, numbered, read_npz
from oodlab.data.download import fetch
from oodlab.data.pictures import class_folders, read_folder, split_folders
from oodlab.data.rows import SPLITS, Classes, class_numbers, part_of, taken
from oodlab.data.search import find, how_to_get, known, looked_at, looked_for, stored_parts, with_continuations
from oodlab.data.sets import SetEntry, entry, find_entry
from oodlab.data.split import Split, SplitInfo
from oodlab.data.tables import TABLES, read_table
from oodlab.workspace import explained, only_writer

MOST_REMEMBERED = 200_000_000  # bytes of a packed file; larger ones are read anew each time


def load(
    name: str | Path,
    split: str = "train",
    *,
    without: Classes = (),
    only: Classes = (),
    n: int | None = None,
    seed: int = 0,
    balanced: bool = False,
    download: bool = True,
    size: int | None = None,
    at_most: bool = False,
) -> Split:
    """Return one split of a data set, with its stored values.

    Args:
        name: Name or alias of a set of the table; name of a folder with a set of
            your own on the search path OODLAB_DATA; or the path (with a separator)
            of a file (.npz; .npy, .csv or .parquet with a table), of a folder of npz
            files or of a folder of pictures, which may have subfolders train and test.
        split: train, test, val (where a set has none: a fixed tenth of train),
            train-val (train minus val; `train` itself contains a val made that
            way), or all (a set stored in one part: tables, one npz, pictures;
            its train, val and test are 80, 10 and 10 % of the rows).
        without: Classes to hold out, by number or name.
        only: Classes to keep, e.g. one for one-class detection.
        n: Number of items to draw at random; None keeps all.
        seed: Seed of the draw of n items.
        balanced: Draw equally many items of each class.
        download: Whether a set that is not on this machine may be downloaded.
        size: Side in pixels to which the pictures of a folder are resized: the shorter
            side becomes `size`, and the centre square is cropped; None requires
            pictures of one size.
        at_most: Whether a set with fewer than n items gives all of them instead of
            an error.

    Returns:
        Split with x uint8 (N, C, H, W) or float32 (N, D), y int64 (N,).

    Raises:
        ValueError: the set, split or class is unknown, n is impossible, or a file
            is damaged or differs from what the table of sets says.
        FileNotFoundError: the files are missing; the message lists the folders
            looked at and the way to get the set.
        ConnectionError: the download failed.
    """
    checks.one_of("load", "a split of", split, SPLITS)
    if not isinstance(balanced, bool):
        raise ValueError(
            f"load expects balanced True or False, got {balanced!r}: any text would count as true; pass a bool."
        )
    if not isinstance(name, str | Path):
        raise ValueError(
            f"load expects the name of a set or a path, got {type(name).__name__}: `oodlab data` lists the sets."
        )
    source = source_of(name, split, download=download, size=size)
    if size is not None and getattr(source.read, "func", None) is not read_folder:
        raise ValueError(
            f"load expects size with a folder of pictures only, got size={size!r}: "
            "load without size, then resize the images by as_shape."
        )
    x, y, class_names = from_source(source)
    labels = _labels(source.entry, y)
    first = source.entry.first_label if source.entry else 0
    without, only = (class_numbers(classes, class_names, first) for classes in (without, only))
    if without and labels and bool((y < 0).any()):  # an item without a label may be of the class held out
        without, labels = (-1, *without), (-1, *labels)
    if (
        at_most
        and n is not None
        and n >= len(taken(y.numpy(), source.tenths, labels=labels, without=without, only=only))
    ):
        n = None
    wanted = {"without": without, "only": only, "n": n, "seed": seed, "balanced": balanced}
    rows = taken(y.numpy(), source.tenths, labels=labels, **wanted)
    info = SplitInfo(
        name=source.title,
        split=split,
        origin=source.origin,
        record=f"{'own:' if source.origin == 'own' else ''}{source.title}/{split}{_options(**wanted)}",
        class_names=class_names,
        n=len(rows),
        stored=len(x),
        complete=source.entry.sizes.get(source.stem) if source.entry else None,
    )
    return Split(x, y, info) if len(rows) == len(x) else Split(x[rows], y[rows], info)


@dataclass(frozen=True)
class Source:
    """The stored part of a set that a split is read from, and the function that reads it."""

    title: str
    entry: SetEntry | None
    origin: str
    where: str  # name or path of the part, for messages
    stem: str
    tenths: range
    read: Callable[[], tuple]
    files: tuple[Path, ...] = ()  # empty for an embedded set


def source_of(name: str | Path, split: str, *, download: bool = False, size: int | None = None) -> Source:
    """Return the stored part that a split is read from; the arguments and errors are those of load."""
    if isinstance(name, Path) or Path(name).suffix.lower() in (".npz", *TABLES) or os.sep in name:
        return _from_path(Path(name).expanduser(), split, size)
    return _from_name(name, split, download)


def from_source(source: Source) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Return all values, labels and class names of a stored part, checked against the table of sets."""
    stored_x, stored_y, class_names = source.read()
    stored_y, class_names = numbered(stored_y, class_names, source.where)
    x, y = as_stored(stored_x, stored_y, who=source.where)
    if source.entry:
        _check(source.entry, x, y, source.where)
        class_names = class_names or source.entry.class_names
    elif class_names and int(y.max()) >= len(class_names):
        raise ValueError(
            f"{source.where} expects labels 0..{len(class_names) - 1} for its {len(class_names)} class names, got {int(y.max())}: "
            "the first name is that of class 0; number the classes from 0, or name all of them."
        )
    return x, y, class_names


def _from_path(path: Path, split: str, size: int | None) -> Source:
    if not path.exists():
        raise FileNotFoundError(
            f"load expects a set's name or a path, got {path}, which does not exist: check the path; "
            "`oodlab data` lists the sets."
        )
    looked_for(str(path.resolve()))
    stems = stored_parts(path) if path.is_dir() else ()
    pictures = split_folders(path) if path.is_dir() and not stems else {}
    found = part_of(split, stems or tuple(pictures) or ("all",))
    if found is None:
        raise ValueError(
            f"load expects a split that {path} holds, got {split!r}: it holds {', '.join(stems or pictures)}; ask for one."
        )
    stem, part = found
    file = path / f"{stem}.npz" if stems else pictures.get(stem, path)
    if file.is_dir():
        names = class_folders(*pictures.values()) if pictures else ()
        read, files = partial(read_folder, file, size, names), tuple(sorted(file.rglob("*.*")))
    elif file.suffix.lower() in TABLES:
        read, files = partial(read_table, file), (file,)
    else:
        read, files = partial(_read, file), with_continuations(file)
    return Source(path.resolve().stem, None, "own", str(file), stem, part, read, files)


def _from_name(name: str, split: str, download: bool) -> Source:
    real = find_entry(name) if known(name) else entry(name)
    title = real.name if real else name
    if real and real.embedded:
        found = part_of(split, real.sizes)
        if found is None:
            raise _no_split(title, split, tuple(real.sizes))
        stem, part = found
        return Source(title, real, "embedded", f"{title}/{stem}", stem, part, partial(real.embedded, stem))

    file = find(title, split)
    if file is None and real:
        if part_of(split, real.sizes) is None:
            raise _no_split(title, split, tuple(real.sizes))
        if real.download and download:
            fetch(title)
            file = find(title, split)
    if file is None:
        hint = how_to_get(real) if real else "save the part that is missing"
        raise FileNotFoundError(f"load found no file for {title}/{split}; looked in {looked_at(title)}; {hint}.")
    origin = file.origin if real else "own"
    again = real and real.download and download and origin == "download"
    read = partial(_read_or_fetch, file.path, title) if again else partial(_read, file.path)
    return Source(title, real, origin, str(file.path), file.path.stem, file.tenths, read, file.parts)


def _read(file: Path) -> tuple:
    """Return the arrays of an npz file and its continuation files; small files are kept in memory until they change."""
    files = with_continuations(file)
    stats = [part.stat() for part in files]
    if sum(stat.st_size for stat in stats) > MOST_REMEMBERED:
        return _joined(files)
    return _remembered(files, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


def _joined(files: tuple[Path, ...]) -> tuple:
    """Return the arrays of a part's file and its continuation files, concatenated."""
    read = [read_npz(file) for file in files]
    if len(read) == 1:
        return read[0]
    xs, ys, names = zip(*read, strict=True)
    unlike = [
        str(file)
        for file, x, y in zip(files, xs, ys, strict=True)
        if x.shape[1:] != xs[0].shape[1:] or (y is None) != (ys[0] is None)
    ]
    if unlike:
        raise ValueError(
            f"{files[0]} expects continuation files like itself, with items of shape {xs[0].shape[1:]} "
            f"{'without' if ys[0] is None else 'with'} labels, got another form in {', '.join(unlike)}: save all in one form."
        )
    return np.concatenate(xs), None if ys[0] is None else np.concatenate(ys), next(filter(None, names), ())


def _read_or_fetch(file: Path, title: str) -> tuple:
    """Return the arrays of a downloaded file; a damaged file is downloaded again, by one process at a time."""
    with contextlib.suppress(ValueError, FileNotFoundError):  # the error is met again below
        return _read(file)
    with only_writer(file.parent):
        try:
            return _read(file)  # fetched by another process in the meantime
        except FileNotFoundError:  # removed by a process whose download failed
            pass
        except ValueError as error:
            print(f"oodlab: {error} Downloading it again.")
            with explained(file):
                file.unlink(missing_ok=True)
        fetch(title)
        return _read(file)


@functools.lru_cache(maxsize=8)
def _remembered(files: tuple[Path, ...], stats: tuple[tuple[int, int], ...]) -> tuple:
    return _joined(files)


def _no_split(title: str, split: str, stems: tuple[str, ...]) -> ValueError:
    """Return the error that a set cannot give a split; it lists the splits that the set can give."""
    has = ", ".join(name for name in SPLITS if part_of(name, stems))
    return ValueError(f"load expects a split of {title}: {has}; got {split!r}.")


def _check(known_set: SetEntry, x: torch.Tensor, y: torch.Tensor, where: str) -> None:
    """Raise ValueError if a file's shape or labels differ from what the table of sets says."""
    if tuple(x.shape[1:]) != known_set.shape:
        raise ValueError(
            f"{known_set.name} expects items of shape {known_set.shape}, got {tuple(x.shape[1:])} in "
            f"{where}: save the items in that shape, or rename the file's folder to a set of your own."
        )
    strange = [label for label in y.unique().tolist() if label not in known_set.labels and label != -1]
    if strange and known_set.classes:
        labels = known_set.labels
        raise ValueError(
            f"{known_set.name} expects labels {labels[0]}..{labels[-1]} (or -1 for none), got {strange[:5]} "
            f"in {where}: renumber the classes, or rename the file's folder to a set of your own."
        )


def _labels(known_set: SetEntry | None, y: torch.Tensor) -> tuple[int, ...]:
    """Return the classes that can be held out: those of the table of sets, else of the file; none without labels."""
    present = y[y >= 0].unique().tolist()
    return tuple(known_set.labels) if known_set and known_set.classes and present else tuple(present)


def _options(*, without: tuple[int, ...], only: tuple[int, ...], n: int | None, seed: int, balanced: bool) -> str:
    """Return a selection as a record has it, e.g. (without=1+9, n=5000, seed=0); "" where nothing is selected."""
    given = []
    for key, classes in (("without", without), ("only", only)):
        if classes:
            given.append(f"{key}={'+'.join(map(str, classes))}")
    if n is not None:
        given.append(f"n={n}")
    if balanced:
        given.append("balanced")
    if n is not None or balanced:
        given.append(f"seed={seed}")
    return f"({', '.join(given)})" if given else ""
