"""Picture files: a photo is resized, and a folder of pictures is read as arrays.

Imports: oodlab.checks; Pillow inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oodlab import checks

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".avif", ".tif", ".tiff", ".ppm", ".pgm")
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
ORIENTATION = 0x0112  # EXIF tag
GREY, DEEP = ("1", "L", "LA", "La"), ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes: grey bytes, 16 bits


def shrink(image: Any, size: int = 32) -> Any:
    """Return a PIL image whose shorter side is resized to `size` pixels (Lanczos), cropped to the centre square.

    Source: released code of Elflein et al. (2021), arXiv:2107.08785: Resize(32, Lanczos) then CenterCrop(32).
    """
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), method=Image.Resampling.LANCZOS)


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the subfolders of a folder of pictures that are splits, by split; {} where its subfolders are classes."""
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if not below or any(path.name.lower() not in SPLIT_NAMES for path in below):
        return {}
    found = {SPLIT_NAMES[path.name.lower()]: path for path in below}
    if len(found) < len(below):
        raise ValueError(
            f"{folder} expects one folder per split, got {', '.join(path.name for path in below)}: join those of one split."
        )
    return found


def class_folders(*folders: Path) -> tuple[str, ...]:
    """Return the class names of folders of pictures: the names of all their subfolders, whole numbers by value."""
    names = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    return _in_order({name for name in names if not name.startswith(".")})


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Sort class names; where all are whole numbers, a class has the number in its name, also where numbers are missing."""
    if names and all(name.isdecimal() for name in names):
        return tuple(map(str, range(max(map(int, names)) + 1)))
    return tuple(sorted(names))


def read_folder(
    folder: Path, size: int | None, names: tuple[str, ...] = ()
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return the pictures of a folder as arrays, with their classes; prints what was changed in reading.

    Pictures are turned as their EXIF orientation says; transparent ones are laid on white; of several frames the first
    one counts; 16 bits become 8 by dividing by 257.

    Args:
        folder: Folder with pictures directly inside (no labels, y = -1), or with one subfolder per class: 0, 1, ... in
            alphabetical order, or the number that the subfolder's name is.
        size: Side of the square that each picture is resized and cropped to; None requires pictures of one size.
        names: Class names, where other folders have further classes; () takes the subfolders'.

    Returns:
        x, (N, H, W) uint8 if every picture is grey, else (N, H, W, 3); y, (N,); class names.

    Raises:
        ValueError: The folder has no pictures, pictures of several sizes, files that are no pictures, or pictures that
            cannot be read as 8 bits; the message names them.
    """
    if size is not None:
        checks.whole("from_folder", "size", size, least=1)
    inside = {path: path.relative_to(folder).parts for path in sorted(folder.rglob("*"))}
    hidden = {path for path, parts in inside.items() if any(part.startswith(".") for part in parts)}
    files = [path for path in inside if path.suffix.lower() in SUFFIXES and path not in hidden]
    if not files:
        raise ValueError(
            f"{folder} expects pictures, got none with a suffix of {', '.join(SUFFIXES)}: "
            "copy pictures into the folder, or convert them to one of these formats."
        )
    classes = [inside[path][0] if len(inside[path]) > 1 else "" for path in files]
    found = set(classes) - {""}
    if found and "" in classes:
        raise ValueError(
            f"{folder} expects all pictures in subfolders, or none, got both: each subfolder is a class; "
            "move every picture into one."
        )
    subfolders = {
        parts[0] for path, parts in inside.items() if len(parts) == 1 and path.is_dir() and path not in hidden
    }
    if found and subfolders - found:
        empty = ", ".join(sorted(subfolders - found))
        raise ValueError(
            f"{folder} expects a picture in every class, got none in {empty}: add pictures or remove the subfolder."
        )
    pictures, changed = _read_all(files)
    if size:
        pictures = [shrink(picture, size) for picture in pictures]
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(
            f"{folder} expects pictures of one size, got {len(sizes)} sizes such as {sorted(sizes)[:3]}: "
            "pass a size, such as size=32, to resize them to squares."
        )
    others = [path for path in inside if path.is_file() and path not in hidden and path not in set(files)]
    if others:
        changed[f"not read, as their suffix is that of no picture: {', '.join(path.name for path in others[:3])}"] = (
            len(others)
        )
    if changed:
        said = "; ".join(f"{count} {what}" for what, count in changed.items())
        print(f"{folder.name}: {len(files):,} pictures; {said}")
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    x = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    names = names or _in_order(found)
    y = np.array([names.index(label) if label else -1 for label in classes], dtype=np.int64)
    return x, y, names


def _read_all(files: Sequence[Path]) -> tuple[list[Any], dict[str, int]]:
    """Return pictures as grey or colour bytes, and how many were changed in which way.

    Raises:
        ValueError: Files are no pictures; all of them are named.
    """
    pictures, changed, broken = [], Counter(), []
    for path in files:
        try:
            picture, ways = _read_picture(path)
        except Exception as error:  # Pillow's readers raise errors of many classes for damaged files
            broken.append(f"{path} ({type(error).__name__}: {error})")
            continue
        pictures.append(picture)
        changed.update(ways)
    if broken:
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise ValueError(
            f"{len(broken)} of {len(files)} files cannot be read as a picture of 8 bits: {'; '.join(broken[:10])}{more}: "
            "remove or replace them."
        )
    return pictures, dict(changed)


def _read_picture(path: Path) -> tuple[Any, list[str]]:
    """Return one picture as Pillow's mode L or RGB, and what was changed."""
    from PIL import Image, ImageOps

    changed = []
    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            changed.append("with several frames, of which the first counts")
        upright = ImageOps.exif_transpose(image)
        if image.getexif().get(ORIENTATION, 1) != 1:
            changed.append("turned by their EXIF orientation")
        if upright.mode in DEEP or (upright.mode == "I" and image.format == "PNG"):  # a 16-bit PNG opens as 32 bits
            changed.append("of 16 bits, divided by 257")
            values = np.asarray(upright, dtype=np.int64)
            return Image.fromarray((values // 257).clip(0, 255).astype(np.uint8)), changed
        if upright.mode in ("I", "F"):
            raise ValueError(f"its values are of mode {upright.mode}, 32 bits, which have no fixed black and white")
        if upright.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
            clear = upright.convert("RGBA")
            if np.asarray(clear)[..., 3].min() < 255:
                changed.append("with transparent parts, laid on white")
            white = Image.new("RGBA", clear.size, "white")
            upright = Image.alpha_composite(white, clear).convert("L" if upright.mode in GREY else "RGB")
        return upright.convert("L" if upright.mode in GREY else "RGB"), changed
