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
    split, without = given.get("split", "train"), given.get("without", ())
    return drawn(given["name"], split, n=given["n"], seed=given["seed"], without=without)


def drawn(
    name: str | data.Choice, split: str, *, n: int | None, seed: int = 0, **which: int | tuple[int, ...]
) -> data.Split:
    """Load a part of a set: a fixed draw of n items, or all where n is None or there are no more.

    Args:
        name, split, n, seed: As in data.load.
        which: Classes, `without` or `only` as in data.load.
    """
    whole = data.load(name, split, download=False, **which)
    return whole if n is None or n >= len(whole) else data.load(name, split, n=n, seed=seed, download=False, **which)


@functools.lru_cache(maxsize=4)  # the trainings of one experiment share their images
def _stored(
    name: str, n: int | None, shape: tuple[int, int, int], seed: int, split: str, without: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    chosen = drawn(name, split, n=n, seed=seed, without=without)
    return data.as_shape(chosen.x, shape), chosen.y
