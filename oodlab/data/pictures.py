"""Picture files: a photo is resized, and a folder of pictures is read as arrays.

Imports: oodlab.checks; Pillow inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from oodlab import checks

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def shrink(image: Any, size: int = 32) -> Any:
    """Return a PIL image whose shorter side is resized to `size` pixels (Lanczos), cropped to the centre square.

    Source: released code of Elflein et al. (2021), arXiv:2107.08785: Resize(32, Lanczos) then CenterCrop(32).
    """
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), method=Image.Resampling.LANCZOS)


def read_folder(folder: Path, size: int | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return the pictures of a folder as arrays, with their classes.

    Args:
        folder: Folder with pictures directly inside (no labels, y = -1), or with
            one subfolder per class, in alphabetical order 0, 1, ...
        size: Side of the square that each picture is resized and cropped to; None
            requires pictures of one size.

    Returns:
        x, (N, H, W) uint8 if every picture is grey, else (N, H, W, 3); y, (N,);
        class names.

    Raises:
        ValueError: the folder has no pictures, pictures of several sizes, or a
            damaged picture, which the message names.
    """
    from PIL import Image

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
    names = tuple(sorted(set(classes) - {""}))
    if names and "" in classes:
        raise ValueError(
            f"{folder} expects all pictures in subfolders, or none, got both: each subfolder is a class; "
            "move every picture into one."
        )
    subfolders = {
        parts[0] for path, parts in inside.items() if len(parts) == 1 and path.is_dir() and path not in hidden
    }
    if names and subfolders - set(names):
        empty = ", ".join(sorted(subfolders - set(names)))
        raise ValueError(
            f"{folder} expects a picture in every class, got none in {empty}: add pictures or remove the subfolder."
        )

    pictures = []
    for path in files:
        try:
            with Image.open(path) as image:
                picture = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        except OSError as error:
            raise ValueError(f"{path} cannot be read as a picture ({error}): remove or replace the file.") from error
        pictures.append(shrink(picture, size) if size else picture)
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(
            f"{folder} expects pictures of one size, got {len(sizes)} sizes such as {sorted(sizes)[:3]}: "
            "pass a size, such as size=32, to resize them to squares."
        )
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    x = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    y = np.array([names.index(label) if label else -1 for label in classes], dtype=np.int64)
    return x, y, names
