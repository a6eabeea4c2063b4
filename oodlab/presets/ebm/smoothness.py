"""Smoothness of images and their density (Figs 3, 4).

Imports: data, models, samplers, training, presets.base, presets.sources, its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import sqrt

from oodlab.data import Augment, augmented_signed
from oodlab.models.wide_resnet import LeakyReLU
from oodlab.presets.base import Experiment, Preset
from oodlab.presets.ebm.parts import joint, persistent, wide_resnet
from oodlab.presets.sources import images
from oodlab.samplers import LangevinChain
from oodlab.training import adam

_SHAPE = (1, 32, 32)
_CLASSES = 10


@dataclass(frozen=True)
class _Version:
    """Where the paper's text and the authors' code part; `supervised` are the steps of a supervised model's chains."""

    name: str
    lr: float
    noise_std: float
    l2: float
    entropy_weight: float
    classes: int
    supervised: int
    sources: Mapping[str, str]
    unstated: tuple[str, ...]


_PAPER = _Version(
    name="ebm/smoothness",
    lr=1e-3,
    noise_std=round(sqrt(0.1), 4),
    l2=0.0,
    entropy_weight=0.0,
    classes=1,
    supervised=100,
    sources={
        "optimiser.lr": "paper",
        "batches.transform.augment.noise_std": "paper: variance 0.1",
        "chain": "paper: 100 steps of size 1, noise 0.01",
        "l2": "none in the printed loss",
        "classes": "chains follow the marginal density",
        "entropy_weight": "none in the printed loss",
    },
    unstated=("The released code's differences are a setting of their own, ebm/smoothness_released.",),
)
_RELEASED = _Version(
    name="ebm/smoothness_released",
    lr=1e-4,
    noise_std=0.1,
    l2=1.0,
    entropy_weight=1e-4,
    classes=_CLASSES,
    supervised=20,
    sources={
        "optimiser.lr": "released",
        "batches.transform.augment.noise_std": "released: standard deviation 0.1",
        "chain": "released: steps of size 1, noise 0.01; 100 of them, but 20 where chains follow a class",
        "l2": "released; the paper does not print it",
        "classes": "released: a supervised model's chains follow one class's logit",
        "entropy_weight": "released",
    },
    unstated=(),
)
_SOURCES = {
    "model.channels": "fashion_mnist is grey",
    "model.outputs": "one logit, or one per class",
    "model.depth": "released: WRN-10-2",
    "model.widen": "released: WRN-10-2",
    "model.width": "arXiv:1605.07146",
    "model.activation": "released",
    "batches.n": "paper: 54,000 of the 60,000 training images",
    "batches.shape": "paper",
    "batches.batch_size": "released",
    "batches.transform.augment.degrees": "released",
    "batches.transform.augment.flip": "released",
    "batches.transform.augment.shift": "released: reflecting pad of 4 pixels, random crop",
    "steps": "released: 50 epochs of 843 batches",
    "warm_up": "released",
}
_GENERATIVE_SOURCES = {
    "shape": "the images' shape",
    "capacity": "released",
    "restart": "released",
    "low": "released",
    "high": "released",
}
_UNSTATED = (
    "batches.seed: decides which images are left out for validation, and their order; 1 here",
    "optimiser: Adam, which AdamW without weight decay is",
)


def _persistent(version: _Version, *, supervised: bool, steps: int, capacity: int = 10_000) -> partial:
    return partial(
        persistent,
        shape=_SHAPE,
        chain=LangevinChain(steps=steps, step_size=1.0, noise_std=0.01),
        capacity=capacity,
        restart=0.05,
        low=-1.0,
        high=1.0,
        classes=version.classes if supervised else 1,
        l2=version.l2,
    )


def _preset(version: _Version, variant: str, *, supervised: bool = False, bottleneck: float | None = None) -> Preset:
    paper = _persistent(version, supervised=supervised, steps=version.supervised if supervised else 100)
    budgets = {
        name: _persistent(version, supervised=supervised, steps=steps, capacity=capacity)
        for name, (steps, capacity) in {"quick": (8, 320), "smoke": (2, 40)}.items()
    }
    sources = {**_GENERATIVE_SOURCES, **{key: version.sources[key] for key in ("chain", "l2", "classes")}}
    prefix, objective = "objective", paper
    if supervised:
        prefix = "objective.generative"
        objective = partial(joint, generative=paper, gamma=1.0, entropy_weight=version.entropy_weight)
        budgets = {name: {"generative": generative} for name, generative in budgets.items()}
    sources = {f"{prefix}.{key}": source for key, source in sources.items()}
    if supervised:
        sources["objective.gamma"] = "paper: JEM with gamma 1"
        sources["objective.entropy_weight"] = version.sources["entropy_weight"]
    if bottleneck is not None:
        sources["model.bottleneck"] = "experiment 4 (table 4)"
    shared = {key: source for key, source in version.sources.items() if "." in key}
    return Preset(
        name=f"{version.name}/{variant}",
        model=partial(
            wide_resnet,
            channels=1,
            outputs=_CLASSES if supervised else 1,
            depth=10,
            widen=2,
            width=16,
            bottleneck=bottleneck,
            activation=LeakyReLU,
        ),
        objective=objective,
        batches=partial(
            images,
            name="fashion_mnist",
            n=54_000,
            shape=_SHAPE,
            batch_size=64,
            seed=1,
            transform=partial(
                augmented_signed, augment=Augment(degrees=15.0, flip=0.5, shift=4, noise_std=version.noise_std)
            ),
        ),
        optimiser=partial(adam, lr=version.lr),
        steps=42_150,
        warm_up=2500,
        sources={**_SOURCES, **sources, **shared},
        unstated=_UNSTATED,
        profiles={
            "quick": {
                "model": {"width": 8, "widen": 1},
                "objective": budgets["quick"],
                "batches": {"n": 10_000, "batch_size": 32},
                "optimiser": {"lr": 1e-3},
                "steps": 250,
                "warm_up": 20,
            },
            "smoke": {
                "model": {"width": 5, "widen": 1},
                "objective": budgets["smoke"],
                "batches": {"n": 200, "batch_size": 8},
                "steps": 4,
                "warm_up": 1,
            },
        },
    )


def _experiment(version: _Version) -> Experiment:
    return Experiment(
        name=version.name,
        runs={
            "unsupervised": _preset(version, "unsupervised"),
            "supervised": _preset(version, "supervised", supervised=True),
            "bottleneck": _preset(version, "bottleneck", bottleneck=0.2),
        },
        seeds=2,
        settings={
            "pool_sizes": (2, 3, 4, 16),
            "images": 1000,
            "peaks": {
                "unsupervised": (0.478, 0.491, 0.494, 0.4965),
                "supervised": (-0.12, -0.07, -0.12, -0.17),
                "unsupervised, with data": (0.461, 0.477, 0.4825, 0.4875, 0.503),
                "bottleneck, with data": (0.36, 0.38, 0.387, 0.395, 0.52),
            },
        },
        sources={
            "settings.pool_sizes": "figure 3",
            "settings.images": "experiment 5",
            "settings.peaks": "figure 4, the curves' peaks read off the picture; data last",
            "seeds": "ours; the figure shows one training",
        },
        unstated=(
            "Which data panels a and b were trained on: fashion_mnist here, as for panels c and d.",
            "Whether panel c is the model of panel a: it is here; the printed positions of their peaks differ slightly.",
            "Which bottleneck panel d has: 0.2 here, the factor of table 4.",
            "How many fashion_mnist test images panels c and d show: as many as of each pool size here.",
            "Selection: quick's chains, replay and updates were set by their time, after four trial runs of seed 0 with chains of "
            "10 steps and a replay of 1,000 states (one with the printed loss, three with the penalty). Its learning rate is the "
            "only one tried; nothing was chosen by the orders.",
            *version.unstated,
        ),
        profiles={"smoke": {"seeds": 1, "settings": {"images": 50}}},
        shrinks={
            "paper": "Two trainings each.",
            "quick": "Quick profile: networks of widths 8, 8, 16, 32 instead of 16, 32, 64, 128, chains of 8 steps instead of 100 "
            f"(supervised: {version.supervised}), a replay of 320 states instead of 10,000, 250 updates instead of 42,150, on "
            "batches of 32 from 10,000 images instead of 64 from 54,000, warm-up of 20 updates instead of 2,500, learning rate "
            f"0.001 (full size: {version.lr}).",
            "smoke": "Smoke profile: 4 updates of a tiny network, to show that everything runs; the numbers mean nothing.",
        },
    )


SMOOTHNESS = _experiment(_PAPER)
SMOOTHNESS_RELEASED = _experiment(_RELEASED)
