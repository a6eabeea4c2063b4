"""Splits of a user's own data: arrays in memory and folders of pictures.

`load` takes the path of an npz file or of a folder, too.

Imports: oodlab.data.arrays, oodlab.data.pictures, oodlab.data.split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oodlab.data.arrays import as_stored, numbered
from oodlab.data.pictures import read_folder, split_folders
from oodlab.data.split import Split, SplitInfo


def from_arrays(
    x: Any,
    y: Any | None = None,
    *,
    name: str = "arrays",
    origin: str = "own",
    class_names: tuple[str, ...] = (),
) -> Split:
    """Return a Split of arrays or tensors.

    Args:
        x: uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W), or a table
            (N, D) of finite numbers.
        y: Labels, (N,): integers, or texts, which become class names; None means that the items have no labels (all -1).
        name: Name for captions and records.
        origin: "own", or "synthetic" for generated items.
        class_names: Names of classes 0, 1, ...

    Raises:
        ValueError: x or y has another form; the message says what to do.
    """
    if origin not in ("own", "synthetic"):
        raise ValueError(f"from_arrays expects origin 'own' or 'synthetic', got {origin!r}: pass 'own' for real data.")
    named = isinstance(class_names, tuple | list) and all(isinstance(one, str) for one in class_names)
    if not isinstance(name, str) or not named:
        raise ValueError(
            f"from_arrays expects name as text and class_names as several texts, got {name!r} and {class_names!r}: "
            "write class_names=('cat', 'dog')."
        )
    y, class_names = numbered(y, tuple(class_names), f"from_arrays({name})")
    stored, labels = as_stored(x, y, who=f"from_arrays({name})")
    n = len(stored)
    if class_names and int(labels.max()) >= len(class_names):
        raise ValueError(
            f"from_arrays({name}) expects a name for each class 0..{int(labels.max())}, got {len(class_names)} in class_names: "
            "add names, or leave class_names out."
        )
    info = SplitInfo(name, "all", origin, f"{origin}:{name}/all", class_names, n, stored=n, complete=None)
    return Split(stored, labels, info)


def from_folder(path: str | Path, size: int | None = None) -> Split:
    """Return a Split of a folder of pictures, in which each subfolder is a class.

    Args:
        path: The folder.
        size: Side in pixels to which each picture's shorter side is resized before
            the centre square is cropped; None requires pictures of one size.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has no pictures, pictures of several sizes, or a
            damaged picture, which the message names.
    """
    if not isinstance(path, str | Path):
        raise ValueError(f"from_folder expects a path, got {type(path).__name__}: pass the folder's path as text.")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"from_folder expects a folder of pictures, got {folder}: no such folder; check the path."
        )
    found = split_folders(folder)
    if found:
        raise ValueError(
            f"from_folder expects a folder whose subfolders are classes, got {folder} with {', '.join(found)}: these are splits; "
            f"read one by data.load({str(folder)!r}, {next(iter(found))!r}), or pass the subfolder."
        )
    x, y, class_names = read_folder(folder, size)
    return from_arrays(x, y, name=folder.resolve().name, class_names=class_names)
