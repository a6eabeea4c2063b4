"""Sets that come with scikit-learn: no network, ever.

Each function takes a stored part's name and returns x, y and class names.

Imports: oodlab.data.rows; scikit-learn inside.
"""

from __future__ import annotations

import numpy as np

from oodlab.data.rows import tenths

Arrays = tuple[np.ndarray, np.ndarray, tuple[str, ...]]

# Columns of a 640-pixel-wide photo that each part of photo_patches may touch: disjoint regions.
PATCH_REGIONS = {"train": (0, 384), "val": (384, 480), "test": (480, 640)}
PATCH_SIDE = 32
PATCH_STRIDE = 8  # neighbours overlap by 24 pixels, within a region only


def digits(part: str) -> Arrays:
    """Return handwritten digits, (N, 8, 8): tenths 0-7 are train (1,439), 8-9 test (358).

    scikit-learn stores the ink as 0..16; here it is round(ink * 255 / 16).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    y = bunch.target.astype(np.int64)
    keep = (tenths(y) < 8) == (part == "train")
    return x[keep], y[keep], tuple("0123456789")


def photo_patches(part: str) -> Arrays:
    """Return 32 x 32 colour patches of two photos; the label is the photo.

    Patches overlap within a region of the photo; train, val and test come from
    regions side by side that share no pixel.
    """
    from sklearn.datasets import load_sample_images

    left, right = PATCH_REGIONS[part]
    patches, labels = [], []
    for label, photo in enumerate(load_sample_images().images):
        region, window = photo[:, left:right], (PATCH_SIDE, PATCH_SIDE)
        windows = np.lib.stride_tricks.sliding_window_view(region, window, axis=(0, 1))
        grid = windows[::PATCH_STRIDE, ::PATCH_STRIDE].transpose(0, 1, 3, 4, 2)
        patches.append(grid.reshape(-1, PATCH_SIDE, PATCH_SIDE, 3))
        labels.append(np.full(len(patches[-1]), label, dtype=np.int64))
    return np.concatenate(patches), np.concatenate(labels), ("china", "flower")


def wine(part: str) -> Arrays:
    """Return the wine table, (178, 13), 3 classes."""
    from sklearn.datasets import load_wine

    bunch = load_wine()
    return bunch.data, bunch.target.astype(np.int64), tuple(map(str, bunch.target_names))


def breast_cancer(part: str) -> Arrays:
    """Return the breast cancer table, (569, 30), 2 classes."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return bunch.data, bunch.target.astype(np.int64), tuple(map(str, bunch.target_names))
