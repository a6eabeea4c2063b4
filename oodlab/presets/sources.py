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
    *,
    name: str,
    n: int | None,
    shape: tuple[int, int, int],
    batch_size: int,
    seed: int,
    transform: Transform,
    split: str = "train",
    without: tuple[int, ...] = (),
) -> Transformed:
    """Build shuffled batches of a set's training images.

    Args:
        name: Set.
        split: train, or train-val without the part for validation.
        without: Classes held out.
        n: Images in one epoch, a fixed draw with `seed`; None takes all.
        shape: (C, H, W) they are brought to.
        batch_size: Images per step.
        seed: Of the draw and of the order of every epoch.
        transform: (stored uint8 batch, generator) -> the model's input.
    """
    x, y = _stored(name, n, shape, seed, split, without)
    return Transformed(Shuffled(x, y, batch_size, seed), transform)


def training_images(preset: Preset) -> data.Split:
    """Return the stored images that a preset with `images` trains on: a fixed draw, or all where there are no more."""
    given = preset.batches.keywords
    return _drawn(given["name"], given["n"], given["seed"], given.get("split", "train"), given.get("without", ()))


def _drawn(name: str, n: int | None, seed: int, split: str, without: tuple[int, ...]) -> data.Split:
    chosen = {"split": split, "without": without, "download": False}
    whole = data.load(name, **chosen)
    return whole if n is None or n >= len(whole) else data.load(name, n=n, seed=seed, **chosen)


@functools.lru_cache(maxsize=4)  # the trainings of one experiment share their images
def _stored(
    name: str, n: int | None, shape: tuple[int, int, int], seed: int, split: str, without: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    drawn = _drawn(name, n, seed, split, without)
    return data.as_shape(drawn.x, shape), drawn.y
