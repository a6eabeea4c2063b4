"""Data of the gamma sweep: tables with held-out classes, image sets, and what their models are asked about.

Imports: data, training, presets.base, presets.sources.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oodlab import data
from oodlab.presets.base import Preset
from oodlab.presets.sources import training_images
from oodlab.training import Shuffled


@dataclass(frozen=True)
class Scaled:
    """A table's training part on [-1, 1], without constant columns, and the scaling for its other rows.

    Attributes:
        x: (N, D).
        y: Classes renumbered 0, 1, ..., (N,).
        scale: Stored rows to the model's input.
        info: Of the training part.
    """

    x: Tensor
    y: Tensor
    scale: Callable[[Tensor], Tensor]
    info: data.SplitInfo


@functools.lru_cache(maxsize=4)  # the trainings of one experiment share their table
def scaled_table(name: str, without: tuple[int, ...]) -> Scaled:
    """Load a table's training part with classes held out; constants and ranges are learned from it."""
    train = data.load(name, "train", without=without, download=False)
    vary = data.DropConstant.fit(train.x)
    ranges = data.MinMax.fit(vary(train.x))
    _, y = train.y.unique(return_inverse=True)
    return Scaled(ranges(vary(train.x)), y, _Composed(vary, ranges), train.info)


@dataclass(frozen=True)
class _Composed:
    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def table_rows(*, name: str, without: tuple[int, ...], batch_size: int, seed: int) -> Shuffled:
    """Build shuffled batches of a table's scaled training part; a table with fewer rows is one batch."""
    table = scaled_table(name, without)
    return Shuffled(table.x, table.y, min(batch_size, len(table.x)), seed)


# --------------------------------------------------------------------------- data of the experiments


@dataclass(frozen=True)
class Table:
    """A table with held-out classes.

    Attributes:
        name: Set.
        without: Classes held out.
        features: Columns that vary in the training part.
        classes: Classes left.
        held_out: Name of the held-out rows; the papers' table has it too.
    """

    name: str
    without: tuple[int, ...]
    features: int
    classes: int
    held_out: str


@dataclass(frozen=True)
class Images:
    """An image set.

    Attributes:
        name: Set.
        channels: Of the images.
        n: Training images used.
        batch_size: Per step.
        steps: Of 50 epochs.
        outs: Natural OOD sets.
        unscaled: The OOD set that is also shown without scaling (OODomain).
        stand_ins: Embedded sets where files are missing: in-distribution and OOD.
    """

    name: str
    channels: int
    n: int
    batch_size: int
    steps: int
    outs: tuple[str, ...]
    unscaled: str
    stand_ins: tuple[str, str]


TABLES = {
    "segment": Table("segment", (5,), 18, 6, "segment_sky"),
    "sensorless": Table("sensorless", (10, 11), 48, 9, "sensorless_10_11"),
}
STAND_INS = {
    "segment": Table("wine", (2,), 13, 2, "wine_2"),
    "sensorless": Table("wine", (0,), 13, 2, "wine_0"),
}
IMAGES = {
    "fashion_mnist": Images(
        "fashion_mnist", 1, 54_000, 64, 42_150, ("kmnist", "mnist", "notmnist"), "kmnist", ("digits", "photo_patches")
    ),
    "cifar10": Images(
        "cifar10",
        3,
        45_000,
        32,
        70_300,
        ("cifar100", "celeba", "lsun", "svhn", "textures"),
        "svhn",
        ("photo_patches", "digits"),
    ),
}


@dataclass(frozen=True)
class Inputs:
    """Inputs that the trained models of one in-distribution set are asked about.

    Attributes:
        inside: In-distribution test inputs, (n, *event).
        outs: OOD inputs by name, at most n each; AUPR depends on the ratio, so the sets are cut to equal size.
        natural: Names of those OOD sets that are data.
        infos: Of every split used.
        sentence: What is used and what stands in.
    """

    inside: Tensor
    outs: dict[str, Tensor]
    natural: tuple[str, ...]
    infos: tuple[data.SplitInfo, ...]
    sentence: str


def inputs_for(preset: Preset, *, n: int, seed: int, version: str = "paper") -> Inputs:
    """Load what a training's test needs, in the shape and scale it was trained in.

    Args:
        preset: Any training of the in-distribution set, as run.
        n: Inputs per set at most.
        seed: Of draws and of synthetic sets.
        version: Whose synthetic sets: those of the "paper", or as "released" two kinds of noise, and grey
            levels (images) or a wider range (tables) as constants.
    """
    given = preset.batches.keywords
    if preset.batches.func is table_rows:
        return _table_inputs(given["name"], given["without"], n, seed, version)
    return _image_inputs(training_images(preset).info, given["shape"], n, seed, version)


def _synthetic(
    n: int, shape: tuple[int, ...], seed: int, version: str
) -> tuple[dict[str, Tensor], list[data.SplitInfo]]:
    generator = torch.Generator().manual_seed(seed)
    if version == "paper":
        made = {
            "noise": data.noise_printed(n, shape, generator),
            "constant": data.constant_printed(n, shape, generator),
        }
    elif len(shape) == 1:
        normal, uniform = data.noise_table_released(n, shape[0], generator)
        constant = data.constant_printed(n, shape, generator, bound=5.0)
        made = {"noise": normal, "noise_uniform": uniform, "constant": constant}
    else:
        stored = {
            "noise": data.noise_normal_released(n, shape, generator),
            "noise_uniform": data.noise_uniform(n, shape, generator),
            "constant": data.constant_gray(n, shape, generator),
        }
        made = {name: data.scale_signed(x) for name, x in stored.items()}
    infos = [data.from_arrays(x.flatten(1), name=name, origin="synthetic").info for name, x in made.items()]
    return made, infos


def _table_inputs(name: str, without: tuple[int, ...], n: int, seed: int, version: str) -> Inputs:
    table = scaled_table(name, without)
    inside = data.load(name, "test", without=without, download=False)
    held_out = data.load(name, "all", only=without, download=False)
    n = min(n, len(inside), len(held_out))
    parts = [
        part if len(part) == n else data.load(name, part.info.split, **chosen, n=n, seed=seed, download=False)
        for part, chosen in ((inside, {"without": without}), (held_out, {"only": without}))
    ]
    title = next(
        (
            task.held_out
            for task in (*TABLES.values(), *STAND_INS.values())
            if (task.name, task.without) == (name, without)
        ),
        f"{name}_{'_'.join(map(str, without))}",
    )
    made, infos = _synthetic(n, tuple(table.x.shape[1:]), seed, version)
    whose = next((key for key, task in STAND_INS.items() if (task.name, task.without) == (name, without)), None)
    instead = [replace(info, stand_in_for=whose) for info in (table.info, *(part.info for part in parts))]
    return Inputs(
        inside=table.scale(parts[0].x),
        outs={title: table.scale(parts[1].x), **made},
        natural=(title,),
        infos=(*instead, *infos),
        sentence=f"{name}: {len(table.x):,} rows to train on"
        + (f", embedded stand-in for {whose}" if whose else "")
        + f"; {n} test rows per set; held out: class {', '.join(map(str, without))}.",
    )


def _image_inputs(train: data.SplitInfo, shape: tuple[int, int, int], n: int, seed: int, version: str) -> Inputs:
    task = next(task for task in IMAGES.values() if train.name in (task.name, task.stand_ins[0]))
    settings = {"stand_in": task.stand_ins[0], "stand_in_outs": task.stand_ins[1:], "shape": shape, "seed": seed}
    loaded = data.task(task.name, task.outs, n=n, **settings)
    fewest = min(len(loaded.test), *(len(split) for split in loaded.outs.values()))
    if fewest < n:  # drawn anew: the first so many of a set may be of one class
        n, loaded = fewest, data.task(task.name, task.outs, n=fewest, **settings)
    made, infos = _synthetic(n, shape, seed, version)
    unscaled = task.unscaled if task.unscaled in loaded.outs else next(iter(loaded.outs))
    outs = {title: data.scale_signed(split.x) for title, split in loaded.outs.items()}
    return Inputs(
        inside=data.scale_signed(loaded.test.x),
        outs={**outs, **made, "oodomain": data.oodomain(loaded.outs[unscaled].x)},
        natural=tuple(outs),
        infos=(
            replace(train, stand_in_for=loaded.test.info.stand_in_for),
            loaded.test.info,
            *(split.info for split in loaded.outs.values()),
            *infos,
        ),
        sentence=f"{loaded.sentence} {train.n:,} images to train on, {n} test images per set; oodomain is {unscaled} without scaling.",
    )
