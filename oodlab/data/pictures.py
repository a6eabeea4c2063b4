"""Picture files: one way to shrink a photo, and a folder of pictures as arrays.

Imports: oodlab.checks; Pillow inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from oodlab import checks

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def shrink(image: Any, size: int = 32) -> Any:
    """Bring a PIL image's shorter side to `size` (Lanczos) and keep the centre square.

    Source: ebm's released code, Resize(32, Lanczos) then CenterCrop(32).
    """
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), method=Image.Resampling.LANCZOS)


def read_folder(folder: Path, size: int | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read a folder of pictures; subfolders are classes.

    Args:
        folder: Pictures directly inside (no labels, y = -1), or one subfolder
            per class, in alphabetical order 0, 1, ...
        size: Side of the square that each picture is shrunk to; None wants all
            pictures in one size already.

    Returns:
        x, (N, H, W) uint8 if every picture is grey, else (N, H, W, 3); y, (N,);
        class names.

    Raises:
        ValueError: no pictures, several sizes, or a broken picture (named).
    """
    from PIL import Image

    if size is not None:
        checks.whole("from_folder", "size", size, least=1)
    inside = {path: path.relative_to(folder).parts for path in sorted(folder.rglob("*"))}
    hidden = {path for path, parts in inside.items() if any(part.startswith(".") for part in parts)}
    files = [path for path in inside if path.suffix.lower() in SUFFIXES and path not in hidden]
    if not files:
        raise ValueError(
            f"{folder} expects pictures, got none with a suffix of {', '.join(SUFFIXES)}: convert or copy some."
        )
    classes = [inside[path][0] if len(inside[path]) > 1 else "" for path in files]
    names = tuple(sorted(set(classes) - {""}))
    if names and "" in classes:
        raise ValueError(
            f"{folder} expects all pictures in subfolders, or none, got both: subfolders are classes; sort them in."
        )
    subfolders = {
        parts[0] for path, parts in inside.items() if len(parts) == 1 and path.is_dir() and path not in hidden
    }
    if names and subfolders - set(names):
        empty = ", ".join(sorted(subfolders - set(names)))
        raise ValueError(
            f"{folder} expects a picture in every class, got none in {empty}: add some or remove the subfolder."
        )

    pictures = []
    for path in files:
        try:
            with Image.open(path) as image:
                picture = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        except OSError as error:
            raise ValueError(f"{path} cannot be read as a picture ({error}): remove it.") from error
        pictures.append(shrink(picture, size) if size else picture)
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(
            f"{folder} expects pictures of one size, got {len(sizes)} sizes such as {sorted(sizes)[:3]}: "
            "give size=32 to shrink them to squares."
        )
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    x = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    y = np.array([names.index(label) if label else -1 for label in classes], dtype=np.int64)
    return x, y, names
