"""Stored arrays: npz files are read and written, and arrays are checked and become tensors.

Images are uint8 in any axis order, tables are real numbers. Values are not scaled
here: the functions of `transforms` do that later.

Imports: oodlab.workspace.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from oodlab.workspace import atomic_file

NARROW = 8  # pixels; a picture of 3 or 4 columns and so many rows is no grey picture
LOST = 1e-3  # largest rounding error to float32 that a column may have, in its standard deviations


LABELS = (
    "y",
    "label",
    "labels",
    "target",
    "targets",
    "class",
    "classes",
)  # names that an array or column of labels has


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return the arrays x and y (None if absent) and the class names that an npz file holds.

    Raises:
        ValueError: the file is truncated, altered or empty (its inner checksums
            are compared), is no npz file, or has no array named x.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}  # all of them: a damaged name must not hide y
    except (OSError, MemoryError):  # say nothing about what is in the file
        raise
    except Exception as error:  # zip, LZMA, zlib and header errors have no common class
        raise ValueError(
            f"{path} cannot be read as an npz file ({type(error).__name__}: {error}): it is truncated, "
            "altered or no npz file; copy or fetch it again."
        ) from error
    if "x" not in found:
        raise ValueError(
            f"{path} expects an array named x, got {list(found)}: save the file by numpy.savez(path, x=x, y=y)."
        )
    other = [name for name in found if name.lower() in LABELS and name != "y"]
    if other and "y" not in found:
        raise ValueError(
            f"{path} expects labels named y, got an array named {other[0]}: save the file by "
            f"numpy.savez(path, x=x, y={other[0]})."
        )
    names = (name.decode() if isinstance(name, bytes) else str(name) for name in found.get("class_names", ()))
    return found["x"], found.get("y"), tuple(names)


def write_npz(path: Path, x: np.ndarray, y: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Write one part of a set (train, say) as an npz file; a process that is killed leaves no half-written file."""
    named = {"class_names": np.array(class_names)} if class_names else {}
    with atomic_file(path) as file:
        np.savez_compressed(file, x=x, y=y, **named)


def as_stored(x: Any, y: Any | None, *, who: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Check images or a table with their labels, and return both as tensors in the kit's form.

    Args:
        x: Images (N, H, W), (N, H, W, C) or (N, C, H, W) as uint8 with C = 1 or
            3, or a table (N, D) of real numbers; array or tensor.
        y: Labels, (N,) integers; None means none.
        who: What the arrays are, for the error message.

    Returns:
        x as uint8 (N, C, H, W) or float32 (N, D), contiguous and a copy, and
        y as int64 (N,), -1 where there are no labels.

    Raises:
        ValueError: x has another shape or type, or NaN or infinite entries; or
            y does not fit x.
    """
    x = _array(x, f"{who} expects x as one array")
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(
            f"{who} expects x of shape (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W), with no size 0, got {x.shape}: "
            "pass one row or one image per item."
        )
    stored = _table(x, who) if x.ndim == 2 else _images(x, who)
    return stored, _labels(y, len(x), who)


def _array(values: Any, expected: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError(
            f"{expected}, got a masked array with {int(np.ma.getmaskarray(values).sum())} masked entries: tensors have no mask, "
            "and what lies below it would count; fill those entries in or leave their rows out."
        )
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{expected}, got {type(values).__name__}: {error}; give all rows the same length.") from error


def _table(x: np.ndarray, who: str) -> torch.Tensor:
    if x.dtype == np.uint8:
        raise ValueError(
            f"{who} expects a table of real numbers or images (N, H, W), got uint8 {x.shape}: "
            "reshape flattened images to (N, H, W), or cast a table of counts to float."
        )
    if x.dtype.kind not in "fiu":
        raise ValueError(f"{who} expects a table of real numbers, got dtype {x.dtype}: cast it to float.")
    with np.errstate(over="ignore"):  # an overflow to float32 is counted below
        table = x.astype(np.float32)
    lost = ~np.isfinite(table)
    if lost.any():
        raise ValueError(
            f"{who} expects finite numbers, got {int(lost.sum())} NaN or infinite entries (as float32) in "
            f"{int(lost.any(axis=1).sum())} of {len(x)} rows: drop those rows or fill them in."
        )
    _check_precision(x, table, who)
    return torch.from_numpy(table)


def _check_precision(x: np.ndarray, table: np.ndarray, who: str) -> None:
    """Refuse columns whose differences float32 cannot hold, such as times in seconds since 1970."""
    wide = x.astype(np.float64)
    lost = np.abs(table - wide).max(axis=0) > LOST * wide.std(axis=0)
    columns = np.flatnonzero(lost & (wide.min(axis=0) < wide.max(axis=0))).tolist()
    if columns:
        first = wide[:, columns[0]]
        raise ValueError(
            f"{who} expects columns whose differences float32 can hold, got column{'s' * (len(columns) > 1)} "
            f"{', '.join(map(str, columns))}, the first with values near {np.median(first):.6g} that vary by {first.std():.3g}: "
            "subtract each such column's smallest value first."
        )


def _images(x: np.ndarray, who: str) -> torch.Tensor:
    if x.dtype != np.uint8:
        raise ValueError(
            f"{who} expects images as uint8 values 0..255, got {x.dtype}: images are stored unscaled, and a "
            f"transform scales them later; {_to_bytes(x)}."
        )
    if x.ndim == 3 and x.shape[2] in (3, 4) and x.shape[1] >= NARROW:
        raise ValueError(
            f"{who} expects images (N, H, W), (N, H, W, C) or (N, C, H, W), got {x.shape}: that is one colour picture, or grey "
            "pictures 3 or 4 pixels wide; pass one picture as x[None]."
        )
    if x.ndim == 3:
        return torch.from_numpy(x[:, None].copy())
    channels_first, channels_last = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
    if channels_first == channels_last:
        why = "both ends could be the channels" if channels_first else "neither end is 1 or 3 channels"
        raise ValueError(
            f"{who} expects images (N, H, W, C) or (N, C, H, W) with C = 1 or 3, got {x.shape}: {why}; "
            "save grey images as (N, H, W) and colour as (N, H, W, 3)."
        )
    return torch.from_numpy((x if channels_first else x.transpose(0, 3, 1, 2)).copy(order="C"))


def _to_bytes(x: np.ndarray) -> str:
    """Say how images of another type become bytes; the advice depends on the values."""
    if x.dtype.kind not in "fiu":
        return "cast them to numbers 0..255 first"
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    if x.dtype.kind == "f" and low >= 0 and high <= 1:
        return "these lie in [0, 1]: pass (x * 255).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return (
            "these lie in 0..255: pass x.round().astype('uint8')" if x.dtype.kind == "f" else "pass x.astype('uint8')"
        )
    return f"these lie in {low:g}..{high:g}: bring them to 0..255 by a fixed rule, the same for all your images"


def numbered(y: Any, class_names: tuple[str, ...], who: str) -> tuple[Any, tuple[str, ...]]:
    """Return labels as numbers and the class names: texts become the numbers of their names, in alphabetical order.

    Args:
        y: Labels, (N,), numbers or texts; None means none.
        class_names: Names of classes 0, 1, ...; () where there are none.
        who: Origin of the labels, for the error message.

    Raises:
        ValueError: A text is none of the class names.
    """
    texts = np.asarray(y) if y is not None and not isinstance(y, torch.Tensor) else np.zeros(0)
    if texts.dtype.kind == "S":
        texts = np.char.decode(texts)
    if texts.dtype.kind not in "UO" or not all(isinstance(one, str) for one in texts.flat) or texts.ndim != 1:
        return y, class_names
    names = class_names or tuple(sorted(set(texts.tolist())))
    unknown = sorted(set(texts.tolist()) - set(names))
    if unknown:
        raise ValueError(f"{who} expects labels that are class names, got {unknown[:3]}: the names are {list(names)}.")
    return np.array([names.index(one) for one in texts], dtype=np.int64), names


def _labels(y: Any | None, n: int, who: str) -> torch.Tensor:
    if y is None:
        return torch.full((n,), -1, dtype=torch.int64)
    y = _array(y, f"{who} expects y as one array")
    if y.shape != (n,) or y.dtype.kind not in "iu":
        raise ValueError(
            f"{who} expects y as {n} integers, one per item of x, got {y.dtype} {y.shape}: "
            "number the classes 0, 1, ..., give their names as texts, or leave y out."
        )
    if y.size and int(y.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{who} expects labels that int64 can hold, got {int(y.max())}: number the classes 0, 1, ...")
    if (y < -1).any():
        raise ValueError(
            f"{who} expects y >= 0, or -1 for an item without a class, got {int(y.min())}: number the classes 0, 1, ..."
        )
    return torch.from_numpy(y.astype(np.int64))
