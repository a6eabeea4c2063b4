"""What is inside and what outside in `ebm/gamma_sweep`: two tables, two image sets, inputs that are made.

Imports: data, study.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from oodlab import data
from oodlab.data import Stored
from oodlab.study import Made, Task

MADE = {  # names of the inputs that a source makes
    "printed": ("noise", "constant"),
    "released": ("normal noise", "uniform noise", "wide constant", "grey levels"),
}
OODOMAIN = "oodomain"
WIDE = 5.0  # released: bound of tables' constants and uniform noise


@dataclass(frozen=True)
class Facts:
    """What a training needs to know of an inside set.

    Attributes:
        classes: Classes that are trained on.
        columns: Columns of a table that vary in training; 0 for images.
        images: Images that are trained on: 90 % of the training part (text); None takes all.
        batch_size, steps: Images per step, and steps of 50 epochs (released).
    """

    classes: int
    columns: int = 0
    images: int | None = None
    batch_size: int = 0
    steps: int = 0


FACTS = {
    "segment": Facts(classes=6, columns=18),
    "sensorless": Facts(classes=9, columns=48),
    "wine": Facts(classes=2, columns=13),
    "fashion_mnist": Facts(classes=10, images=54_000, batch_size=64, steps=42_150),
    "digits": Facts(classes=10, batch_size=64, steps=42_150),
    "cifar10": Facts(classes=10, images=45_000, batch_size=32, steps=70_300),
    "photo_patches": Facts(classes=2, batch_size=32, steps=70_300),
}


@dataclass(frozen=True)
class Rows:
    """Made rows with a model's columns: what is stored also has those that never vary.

    Attributes:
        draw: draw(n, shape, generator) -> inputs.
        columns: Columns.
    """

    draw: Callable[[int, tuple[int, ...], torch.Generator], Tensor]
    columns: int

    def __call__(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return rows, (n, columns)."""
        return self.draw(n, (self.columns,), generator)


@dataclass(frozen=True)
class Unscaled:
    """Stored images as a model's input, in [0, 255]: the paper's OODomain.

    Attributes:
        stored: Images.
    """

    stored: Stored

    def __call__(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return n of them, (n, *shape)."""
        x = self.stored.load().x
        return data.oodomain(data.as_shape(x[torch.randperm(len(x), generator=generator)[:n]], shape))


def normal_rows(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw rows from N(0, 1)."""
    return torch.randn(n, *shape, generator=generator)


def uniform_rows(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw rows from U(-5, 5)."""
    return WIDE * (2 * torch.rand(n, *shape, generator=generator) - 1)


def constant_rows(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Fill each row with one number from U(-5, 5)."""
    return data.constant_printed(n, shape, generator, bound=WIDE)


def made_rows(name: str) -> tuple[Made, ...]:
    """Return the made inputs of a table, those of both sources."""
    draws = {
        "noise": data.noise_printed,
        "constant": data.constant_printed,
        "normal noise": normal_rows,
        "uniform noise": uniform_rows,
        "wide constant": constant_rows,
    }
    return tuple(Made(title, Rows(draw, FACTS[name].columns), prepared=True) for title, draw in draws.items())


def made_images(unscaled: str) -> tuple[Made, ...]:
    """Return the made inputs of an image set, those of both sources: the released ones are stored bytes."""
    return (
        Made("noise", data.noise_printed, prepared=True),
        Made("constant", data.constant_printed, prepared=True),
        Made("normal noise", data.noise_normal_released),
        Made("uniform noise", data.noise_uniform),
        Made("grey levels", data.constant_gray),
        Made(OODOMAIN, Unscaled(Stored(unscaled, "test")), prepared=True),
    )


def table(name: str, held_out: tuple[int, ...], stand_in_held_out: int) -> Task:
    """Return a table with held-out classes (text), and wine in its place (ours)."""
    return Task(
        name,
        made_rows(name),
        held_out=held_out,
        held_out_split="all",  # released: four fifths of them; here all, as none is trained on
        equal_sizes=True,  # released
        stand_in="wine",
        stand_in_held_out=(stand_in_held_out,),
        stand_in_outside=made_rows("wine"),
    )


def images(name: str, channels: int, outside: tuple[str, ...], unscaled: str, stand_ins: tuple[str, str]) -> Task:
    """Return an image set (text), and embedded ones in its place (ours)."""
    return Task(
        name,
        (*outside, *made_images(unscaled)),
        shape=(channels, 32, 32),  # text
        equal_sizes=True,  # released
        stand_in=stand_ins[0],
        stand_in_outside=(stand_ins[1], *made_images(stand_ins[1])),
    )


TASKS = (
    table("segment", (5,), stand_in_held_out=2),  # text: sky
    table("sensorless", (10, 11), stand_in_held_out=0),  # text
    images("fashion_mnist", 1, ("kmnist", "mnist", "notmnist"), "kmnist", ("digits", "photo_patches")),
    images("cifar10", 3, ("cifar100", "celeba", "lsun", "svhn", "textures"), "svhn", ("photo_patches", "digits")),
)
