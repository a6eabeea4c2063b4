"""Batches of named data sets, as presets hold them.

Imports: data, training, presets.base.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from oodlab import data
from oodlab.presets.base import Preset
from oodlab.training import Shuffled, Transformed

Transform = Callable[[Tensor, torch.Generator], Tensor]


def images(
    *, name: str, n: int | None, shape: tuple[int, int, int], batch_size: int, seed: int, transform: Transform
) -> Transformed:
    """Build shuffled batches of a set's training images.

    Args:
        name: Set.
        n: Images in one epoch, a fixed draw with `seed`; None takes all.
        shape: (C, H, W) they are brought to.
        batch_size: Images per step.
        seed: Of the draw and of the order of every epoch.
        transform: (stored uint8 batch, generator) -> the model's input.
    """
    x, y = _stored(name, n, shape, seed)
    return Transformed(Shuffled(x, y, batch_size, seed), transform)


def training_images(preset: Preset) -> data.Split:
    """Return the stored images that a preset with `images` trains on: a fixed draw, or all where there are no more."""
    given = preset.batches.keywords
    return _drawn(given["name"], given["n"], given["seed"])


def _drawn(name: str, n: int | None, seed: int) -> data.Split:
    whole = data.load(name, "train", download=False)
    return whole if n is None or n >= len(whole) else data.load(name, "train", n=n, seed=seed, download=False)


@functools.lru_cache(maxsize=4)  # the trainings of one experiment share their images
def _stored(name: str, n: int | None, shape: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    split = _drawn(name, n, seed)
    return data.as_shape(split.x, shape), split.y
