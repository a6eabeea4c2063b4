"""Readers of public sets: download one split and return its arrays.

Each reader takes the folder for raw files and a split, and returns x (uint8 images
(N, H, W[, 3]) or a float64 table), y and class names (which may be empty).
torchvision and scikit-learn compare the files with their own checksums.

Imports: oodlab.workspace; torchvision, scikit-learn, tqdm, Pillow inside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oodlab.workspace import in_batch

Arrays = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


def upright(image: Any) -> Any:
    """Return an EMNIST image upright: torchvision's files hold its transpose."""
    from PIL import Image

    return image.transpose(Image.Transpose.TRANSPOSE)


def white_strokes_28(image: Any) -> Any:
    """Return an Omniglot drawing (105 x 105, black on white) in MNIST's form: white on black, 28 x 28 (bicubic)."""
    from PIL import Image, ImageOps

    return ImageOps.invert(image.convert("L")).resize((28, 28), Image.Resampling.BICUBIC)


def torchvision_set(
    class_name: str,
    options: Mapping[str, Mapping[str, Any]],
    folder: Path,
    split: str,
    *,
    picture: Callable[[Any], Any] = lambda image: image,
) -> Arrays:
    """Download one split by torchvision's class of the set, and return its arrays.

    Args:
        class_name: Name of the class in torchvision.datasets.
        options: Arguments of that class for each split of the kit.
        folder: Folder for the raw files of torchvision.
        split: The split to return, a key of options.
        picture: Function applied to each PIL image before the image becomes an array.
    """
    import torchvision.datasets
    from tqdm.auto import tqdm

    dataset = getattr(torchvision.datasets, class_name)(root=str(folder), download=True, **options[split])
    x = y = None
    for i, (image, label) in enumerate(tqdm(dataset, desc=f"{class_name} {split}", disable=_silent())):
        pixels = np.asarray(picture(image))
        if x is None:
            x = np.empty((len(dataset), *pixels.shape), dtype=np.uint8)
            y = np.full(len(dataset), -1, dtype=np.int64)
        x[i] = pixels
        if label is not None:
            y[i] = int(label)
    return x, y, tuple(str(name) for name in getattr(dataset, "classes", ()))


def openml_table(data_id: int, folder: Path, split: str) -> Arrays:
    """Return a table downloaded from OpenML; its classes are the target's names in alphabetical order."""
    from sklearn.datasets import fetch_openml
    from tqdm.auto import tqdm

    with tqdm(total=1, desc=f"OpenML {data_id}", unit="table", disable=_silent()) as bar:  # of unknown size
        bunch = fetch_openml(data_id=data_id, as_frame=False, parser="liac-arff", data_home=str(folder))
        bar.update()
    targets = [str(target) for target in bunch.target]
    names = tuple(sorted(set(targets)))
    return np.asarray(bunch.data, dtype=np.float64), np.array([names.index(t) for t in targets]), names


def uci_text(url: str, file_name: str, folder: Path, split: str) -> Arrays:
    """Return a table downloaded from the UCI repository: a zip file with a text file whose last column is the label."""
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(url, str(folder), filename="raw.zip")
    table = np.loadtxt(folder / file_name)
    return table[:, :-1], table[:, -1].astype(np.int64), ()


def _silent() -> bool:
    return in_batch() or not (sys.stderr.isatty() or "ipykernel" in sys.modules)
