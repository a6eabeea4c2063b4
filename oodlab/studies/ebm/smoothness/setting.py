"""Setting of `ebm/smoothness`: figures 3 and 4, experiment 5.

"text", "figure 3" and the like are the paper's; "released" the authors' published code
(selflein/EBM-OOD-Detection), which differs from the text in what is a table by source here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oodlab import data, metrics
from oodlab.data import Augment
from oodlab.detectors import Detector, LogDensity
from oodlab.objectives import Contrastive, ReplayChains, WithLabels
from oodlab.samplers import LangevinChain
from oodlab.studies.ebm.images import ImageEnergy, SignedImages, signed
from oodlab.study import Budget, Claim, Made, Measured, Method, Models, Recipe, Study, Task
from oodlab.training import Adam
from oodlab.training.sources import StoredBatches

SHAPE = (1, 32, 32)  # text; fashion_mnist is grey
CLASSES = 10  # of fashion_mnist
POOLS = (2, 3, 4, 16)  # figure 3: sides of the averaged blocks
GAMMA = 1.0  # text: weight of classification
BOTTLENECK = 0.2  # table 4; figure 4 does not say which

LR = {"printed": 1e-3, "released": 1e-4}  # text; released
NOISE = {"printed": round(sqrt(0.1), 4), "released": 0.1}  # text: variance 0.1; released: standard deviation 0.1
L2 = {"printed": 0.0, "released": 1.0}  # weight of f²: not in the printed loss; released
ENTROPY = {"printed": 0.0, "released": 1e-4}  # reward of undecided predictions: not in the printed loss; released
CHAIN_CLASSES = {
    "printed": 1,
    "released": CLASSES,
}  # text: chains follow log p(x); released: with labels one class's logit
LABELLED_STEPS = {"printed": 100, "released": 20}  # longest chains with labels: text; released


@dataclass(frozen=True, kw_only=True)
class Size(Budget):
    """What a profile spends.

    Attributes:
        updates, warm_up: Updates in all, and those of linearly rising rate; released: 50 epochs of 843 batches, and 2,500.
        images: Training images; text: 54,000 of 60,000.
        batch_size: Images per update; released.
        widen, width: Size of the network; released: WRN-10-2, and 16 channels of the first convolution.
        chain: Steps of a chain, with labels no more than the source has; text: 100.
        capacity: States of the replay; released.
        lr: Learning rate; None is what the source says.
    """

    updates: int = 42_150
    warm_up: int = 2500
    images: int = 54_000
    batch_size: int = 64
    widen: int = 2
    width: int = 16
    chain: int = 100
    capacity: int = 10_000
    lr: float | None = None


QUICK = Size(
    seeds=2,
    test_items=1000,  # experiment 5: images of each pool size; as many of fashion_mnist is ours
    fit_items=100,  # nothing is fitted
    updates=250,
    warm_up=20,
    images=10_000,
    batch_size=32,
    widen=1,
    width=8,
    chain=8,
    capacity=320,
    lr=1e-3,
)
SIZES = {
    "full": Size(seeds=3, test_items=1000, fit_items=100),
    "long": replace(QUICK, seeds=3, updates=1600, images=54_000, chain=16, capacity=1000),
    "quick": QUICK,
    "smoke": replace(
        QUICK,
        seeds=1,
        test_items=50,
        updates=4,
        warm_up=1,
        images=200,
        batch_size=8,
        width=5,
        chain=2,
        capacity=40,
        lr=None,
    ),
}

# ------------------------------------------------------------------------------------ the images


@dataclass(frozen=True)
class Smooth:
    """Images of one smoothness: called as Made.draw, it draws them in [-1, 1], as data are scaled."""

    pool: int

    def __call__(self, n: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        """Return n images of uniform noise, averaged over blocks of pool x pool pixels."""
        return 2 * data.smoothness_images(n, shape, self.pool, generator) - 1


def smooth_images(n: int, *, contrast: bool = True) -> dict[str, Tensor]:
    """Return n images of each pool size in [-1, 1], by name, the same at every call.

    Args:
        n: Number.
        contrast: Whether they keep the contrast that averaging leaves; False stretches all about grey to that of the
            smallest pool size, so that only smoothness differs.
    """
    found = {}
    for pool in POOLS:
        x = Smooth(pool)(n, SHAPE, torch.Generator().manual_seed(pool))
        found[f"k = {pool}"] = x if contrast else x * pool / POOLS[0]
    return found


def order(scores: Mapping[str, np.ndarray]) -> float:
    """Return Spearman's rank correlation of pool size and score over the images of all pool sizes, in POOLS' order."""
    sizes = np.repeat(POOLS, [len(values) for values in scores.values()])
    return metrics.rank_correlation(sizes, np.concatenate(list(scores.values())))


@dataclass(frozen=True)
class Orders:
    """What measures the orders of so many images of each pool size, before training and after; called, it draws them."""

    images: int

    def __call__(self) -> Callable[[nn.Module], dict[str, Tensor]]:
        """Return model -> orders by name."""
        return partial(_orders, raw=smooth_images(self.images), equal=smooth_images(self.images, contrast=False))


def _orders(model: nn.Module, *, raw: Mapping[str, Tensor], equal: Mapping[str, Tensor]) -> dict[str, Tensor]:
    f = LogDensity(model).score_samples
    found = {"raw": raw, "equal contrast": equal}
    return {name: torch.tensor(order({k: f(x) for k, x in sets.items()})) for name, sets in found.items()}


# ------------------------------------------------------------------------------------ the methods


@dataclass(frozen=True)
class Training:
    """The training of one energy; called with a task, it is of its images.

    Attributes:
        name: Name in progress lines.
        size: What a profile spends.
        source: "printed" or "released".
        labels: Whether classification is learned, too.
        bottleneck: Channels kept behind each stage of the network, as a share; None keeps all.
    """

    name: str
    size: Size
    source: str
    labels: bool = False
    bottleneck: float | None = None

    def __call__(self, task: Task) -> Mapping[str, Recipe]:
        """Return the training, as role "energy"."""
        size, source = self.size, self.source
        steps = min(size.chain, LABELLED_STEPS[source]) if self.labels else size.chain
        generative = Contrastive(
            ReplayChains(
                LangevinChain(steps, step_size=1.0, noise_std=0.01),  # text
                shape=SHAPE,
                capacity=size.capacity,
                restart=0.05,  # released
                low=-1.0,  # released
                high=1.0,  # released
                fifo=False,  # released
                classes=CHAIN_CLASSES[source] if self.labels else 1,
            ),
            l2=L2[source],
        )
        augment = Augment(degrees=15.0, flip=0.5, shift=4, noise_std=NOISE[source])  # released, but for the noise
        recipe = Recipe(
            name=f"ebm/smoothness/{task.inside}: {self.name}",
            model=ImageEnergy(
                SHAPE[0],
                CLASSES if self.labels else 1,
                widen=size.widen,
                width=size.width,
                bottleneck=self.bottleneck,
            ),
            objective=WithLabels(generative, GAMMA, ENTROPY[source]) if self.labels else generative,
            batches=StoredBatches(
                task.training(n=size.images, seed=1),
                size.batch_size,
                seed=1,
                transform=SignedImages(augment),
                shape=SHAPE,
            ),
            optimiser=Adam(lr=size.lr or LR[source]),
            steps=size.updates,
            warm_up=size.warm_up,
            probe=Orders(size.test_items),
            probes=1,
        )
        return {"energy": recipe}


F = "f"  # title of the score: log p up to a constant, nats


def log_density(models: Models) -> Mapping[str, Detector]:
    """Return the score f."""
    return {F: LogDensity(models["energy"])}


def methods(size: Size, source: str) -> Sequence[Method]:
    """Return the three energies that are compared."""
    trainings = (
        Training("unsupervised", size, source),
        Training("supervised", size, source, labels=True),
        Training("bottleneck", size, source, bottleneck=BOTTLENECK),
    )
    return [Method(training.name, training, signed, log_density) for training in trainings]


# --------------------------------------------------------------------------- what is measured of them

DATA = "data"  # name of the inside set among those whose f is measured
RAW, EQUAL, UNTRAINED, VARIATION = "order", "order, equal contrast", "order, untrained", "order, total variation"
SHARES = tuple(round(0.05 * i, 2) for i in range(21))  # ours: of the images that lie below a quantile
ROUGHNESS = "roughness of negatives"


def roughness(x: Tensor) -> float:
    """Return the mean difference of horizontal neighbours of images in [-1, 1], in units of that of uniform noise, 2/3."""
    return 1.5 * float(x.diff(dim=3).abs().mean())


def replay_of(objective: nn.Module) -> Tensor:
    """Return the chains' states that an objective keeps, (capacity, C, H, W)."""
    return getattr(objective, "generative", objective).negatives.replay.states


def smoothness(given: Measured) -> dict[str, float]:
    """Return orders, quantiles of f by set, roughness of the negatives, and the last tenth of the training's course."""
    training, raw = given.results["energy"], smooth_images(len(given.test))
    inside = given.prepare(given.test)
    blocks = {
        name: x.diff(dim=2).abs().mean((1, 2, 3)) + x.diff(dim=3).abs().mean((1, 2, 3)) for name, x in raw.items()
    }
    before, after = training.probes[0]["values"], training.probes[-1]["values"]
    found = {
        RAW: float(after["raw"]),
        EQUAL: float(after["equal contrast"]),
        UNTRAINED: float(before["raw"]),
        VARIATION: order({name: -values.numpy() for name, values in blocks.items()}),
        ROUGHNESS: roughness(replay_of(training.objective)),
        "roughness of data": roughness(inside),
    }
    score = LogDensity(given.models["energy"]).score_samples
    for name, x in {**raw, DATA: inside}.items():
        found |= {
            quantile_name(name, share): value
            for share, value in zip(SHARES, np.quantile(score(x), SHARES), strict=True)
        }
    course = training.history[-max(1, len(training.history) // 10) :]
    for name in ("f_data", "f_negatives", "accuracy"):
        if name in course[-1]:
            found[name] = float(np.mean([row[name] for row in course]))
    return found


def quantile_name(set_name: str, share: float) -> str:
    """Name the value of f that this share of a set's images lies below."""
    return f"f of {set_name} at {share:.2f}"


def numbers_of(rows: pd.DataFrame, method: str, quantity: str) -> pd.Series:
    """Return what was measured of a method, by seed."""
    return rows[(rows["method"] == method) & (rows["quantity"] == quantity)].set_index("seed")["value"]


def quantiles(rows: pd.DataFrame, method: str, seed: int, sets: Sequence[str]) -> dict[str, np.ndarray]:
    """Return a method's quantiles of f by set, those of SHARES, of one seed."""
    return {
        name: np.array([numbers_of(rows, method, quantile_name(name, share))[seed] for share in SHARES])
        for name in sets
    }


def medians(rows: pd.DataFrame, method: str, sets: Sequence[str]) -> dict[str, float]:
    """Return a method's median of f by set, the mean over seeds."""
    return {name: numbers_of(rows, method, quantile_name(name, 0.5)).mean() for name in sets}


# ------------------------------------------------------------------------------ what the paper says of it

PEAKS = {  # figure 4, panels a to d: positions of the curves' peaks, read off the picture; units of f
    "unsupervised": {"k = 2": 0.478, "k = 3": 0.491, "k = 4": 0.494, "k = 16": 0.4965},
    "supervised": {"k = 2": -0.12, "k = 3": -0.07, "k = 4": -0.12, "k = 16": -0.17},
    "unsupervised, with data": {"k = 2": 0.461, "k = 3": 0.477, "k = 4": 0.4825, "k = 16": 0.4875, DATA: 0.503},
    "bottleneck, with data": {"k = 2": 0.36, "k = 3": 0.38, "k = 4": 0.387, "k = 16": 0.395, DATA: 0.52},
}


def above_half(rows: pd.DataFrame) -> pd.Series:
    """Return the unsupervised energy's order less 0.5, by seed."""
    return numbers_of(rows, "unsupervised", RAW) - 0.5


def less_with_labels(rows: pd.DataFrame) -> pd.Series:
    """Return by how much labels lower the order, by seed."""
    return numbers_of(rows, "unsupervised", RAW) - numbers_of(rows, "supervised", RAW)


def apart(rows: pd.DataFrame, method: str) -> pd.Series:
    """Return by how much the median of f of data lies above that of the smoothest images, by seed."""
    inside, smoothest = (numbers_of(rows, method, quantile_name(name, 0.5)) for name in (DATA, f"k = {POOLS[-1]}"))
    return inside - smoothest


def further_apart(rows: pd.DataFrame) -> pd.Series:
    """Return by how much a bottleneck sets data further above the smoothest images, by seed."""
    return apart(rows, "bottleneck") - apart(rows, "unsupervised")


CLAIMS = (
    Claim(
        "An unsupervised energy finds smoother images likelier: its order is above 0.5.",
        above_half,
        "experiment 5, figure 4a",
        "Order less 0.5",
    ),
    Claim(
        "Labels weaken the order.",
        less_with_labels,
        "experiment 5, figure 4b",
        "Order of the unsupervised energy less that of the supervised one",
    ),
    Claim(
        "A bottleneck sets data further above the smoothest images.",
        further_apart,
        "figures 4c and 4d",
        "Distance of the medians of f with the bottleneck less that without",
    ),
)

STUDY = Study(
    name="ebm/smoothness",
    tasks=(
        Task(
            "fashion_mnist",
            (Made(f"k = {POOLS[-1]}", Smooth(POOLS[-1]), prepared=True),),
            shape=SHAPE,
            stand_in_outside=(),
        ),
    ),
    methods=methods,
    budgets=SIZES,
    claims=CLAIMS,
    sources=("printed", "released"),
    unstated=(
        "Which data panels a and b of figure 4 were trained on: fashion_mnist here, as for panels c and d.",
        "Whether panel c is the model of panel a: it is here; the printed positions of their peaks differ slightly.",
        f"Which bottleneck panel d has: {BOTTLENECK} here, the factor of table 4.",
        "How many test images of fashion_mnist panels c and d show: as many as of each pool size here.",
        "Which 6,000 training images are left out for validation: a fixed draw here, which is not looked at.",
        "Seeds: two or three here; the figure shows one training.",
        "Selection: length of chains, replay and updates of the small profiles were set by their time, their learning rate is the "
        "only one tried; nothing was chosen by the orders.",
    ),
)
