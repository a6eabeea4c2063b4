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
            "altered or no npz file; delete it and copy or fetch it again."
        ) from error
    if "x" not in found:
        raise ValueError(
            f"{path} expects an array named x, got {list(found)}: save the file by numpy.savez(path, x=x, y=y)."
        )
    return found["x"], found.get("y"), tuple(str(name) for name in found.get("class_names", ()))


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
    return torch.from_numpy(table)


def _images(x: np.ndarray, who: str) -> torch.Tensor:
    if x.dtype != np.uint8:
        raise ValueError(
            f"{who} expects images as uint8 values 0..255, got {x.dtype}: images are stored unscaled, and a "
            "transform scales them later; for floats in [0, 1] save (x * 255).round().astype('uint8')."
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


def _labels(y: Any | None, n: int, who: str) -> torch.Tensor:
    if y is None:
        return torch.full((n,), -1, dtype=torch.int64)
    y = _array(y, f"{who} expects y as one array")
    if y.shape != (n,) or y.dtype.kind not in "iu":
        raise ValueError(
            f"{who} expects y as {n} integers, one per item of x, got {y.dtype} {y.shape}: "
            "number the classes 0, 1, ..., or leave y out."
        )
    if (y < -1).any():
        raise ValueError(
            f"{who} expects y >= 0, or -1 for an item without a class, got {int(y.min())}: number the classes 0, 1, ..."
        )
    return torch.from_numpy(y.astype(np.int64))
