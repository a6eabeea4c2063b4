"""Setting of `mass/epoch_curves`: figures 1 and 2, table 1, and the epochs between.

"text" is the paper's; "followed" the code of the flows that it says it follows (Kirichenko
et al., 2020, arXiv:2006.08545); "released" the authors' own code, which the paper does not
name.  The two differ in norm, blocks, rate, batch, epochs and the weight of the penalty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from torch import nn

from oodlab.models.flows import LogitNormal
from oodlab.objectives import PenalisedLikelihood
from oodlab.studies.mass.flows import (
    BATCH_MASS,
    BITS,
    GROUPED_MASS,
    LOG_P,
    MASS,
    ImageFlow,
    bin_centres,
    flow_scores,
    noisy_pixels,
    released_scores,
)
from oodlab.study import Budget, Claim, Method, Models, Recipe, Study, Task, no_training
from oodlab.training import Adam
from oodlab.training.sources import StoredBatches

ALPHA = 2.0  # text: the best weight of the penalty
WEIGHT_DECAY = 5e-5  # released: of the norms of weight-normed weights
CLIP = 100.0  # released: of each group's gradient
SHOWN = (0.3, 0.5)  # text: figures 1 and 2 are of epochs 60 and 100 of 200

GREY, COLOUR = 1, 3
SCALES = {GREY: 2, COLOUR: 3}  # text
BLOCKS = {"printed": {GREY: 4, COLOUR: 6}, "released": {GREY: 6, COLOUR: 8}}  # text; released
RATES = {"printed": {GREY: 5e-5, COLOUR: 1e-4}, "released": {GREY: 1e-3, COLOUR: 1e-3}}  # followed; released: default
EPOCHS = {"printed": 200, "released": 100}  # text; released: default
BATCH = {"printed": 32, "released": 64}  # followed, the text has none; released: default
IMAGES = {GREY: 60_000, COLOUR: 50_000}  # all training images


@dataclass(frozen=True, kw_only=True)
class Size(Budget):
    """What a profile spends; None is what the source says.

    Attributes:
        images: Training images of an epoch.
        epochs: Passes through them.
        width: Channels of a conditioner before the first squeeze; followed: 64, which gives the text's 10 M and 60 M weights.
        blocks: Residual blocks of a conditioner.
        batch_size: Images per update.
        lr: Learning rate.
        looks: Epochs after which the weights are scored, evenly spaced; ours.
    """

    images: int | None = None
    epochs: int | None = None
    width: int = 64
    blocks: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    looks: int = 10


QUICK = Size(
    seeds=1,
    tasks=("fashion_mnist",),
    test_items=256,
    images=960,
    epochs=6,
    width=16,
    blocks=1,
    batch_size=32,
    lr=2e-3,
    looks=6,
)
SIZES = {
    "full": Size(seeds=3, test_items=10_000),
    "long": replace(QUICK, seeds=3, test_items=500, images=2560, epochs=5, looks=5),  # 75 minutes on two cores
    "quick": QUICK,
    "smoke": replace(QUICK, test_items=20, images=32, epochs=2, width=4, blocks=0, batch_size=16, looks=2),
}


@dataclass(frozen=True)
class Flows:
    """One flow of a kind, trained on a task; called, it gives the training.

    Attributes:
        name: Name in progress lines.
        size: What a profile spends.
        source: "printed" or "released".
        activation, norm: Classes in the conditioners.
        objective: Likelihood, with a penalty or without.
    """

    name: str
    size: Size
    source: str
    activation: Callable[[], nn.Module]
    norm: Callable[[int], nn.Module]
    objective: PenalisedLikelihood

    def __call__(self, task: Task) -> Mapping[str, Recipe]:
        """Return the training, as role "flow"."""
        size, channels = self.size, task.shape[0]
        images = size.images or IMAGES[channels]
        batch_size = size.batch_size or BATCH[self.source]
        lr = size.lr or RATES[self.source][channels]
        released = {"weight_decay": WEIGHT_DECAY, "decayed": ".original0", "clip": CLIP, "clip_groups": True}
        return {
            "flow": Recipe(
                name=f"mass/epoch_curves/{task.inside}: {self.name}",
                model=ImageFlow(
                    task.shape,
                    scales=SCALES[channels],
                    blocks=BLOCKS[self.source][channels] if size.blocks is None else size.blocks,
                    width=size.width,
                    activation=self.activation,
                    norm=self.norm,
                ),
                objective=self.objective,
                batches=StoredBatches(
                    task.training(n=images), batch_size, seed=0, transform=noisy_pixels, shape=task.shape
                ),
                optimiser=Adam(lr=lr, **(released if self.source == "released" else {})),
                steps=(size.epochs or EPOCHS[self.source]) * (images // batch_size),
                snapshots=size.looks,
            )
        }


def methods(size: Size, source: str) -> Sequence[Method]:
    """Return the flows that are compared, and the flow without couplings that learns nothing."""
    vanilla = PenalisedLikelihood(0.0)
    per_sample, batch = PenalisedLikelihood(ALPHA), PenalisedLikelihood(ALPHA, "batch")
    as_released = PenalisedLikelihood(ALPHA, "released")
    plain, batch_norm = (nn.ReLU, nn.Identity), (nn.ReLU, nn.BatchNorm2d)
    smooth = (nn.SiLU, nn.Identity)
    printed = {
        "ReLU, vanilla": (*plain, vanilla),
        "ReLU, per sample": (*plain, per_sample),
        "ReLU, batch": (*plain, batch),
        "batch norm, vanilla": (*batch_norm, vanilla),
        "batch norm, per sample": (*batch_norm, per_sample),
        "SiLU, vanilla": (*smooth, vanilla),
        "SiLU, per sample": (*smooth, per_sample),
    }
    released = {
        "batch norm, vanilla": (*batch_norm, vanilla),
        "batch norm, penalised": (*batch_norm, as_released),
        "batch norm, penalised with α = 0.1": (*batch_norm, replace(as_released, alpha=0.1)),
    }
    scores = {"printed": flow_scores, "released": released_scores}[source]
    flows = [
        Method(name, Flows(name, size, source, *parts), bin_centres, scores)
        for name, parts in {"printed": printed, "released": released}[source].items()
    ]
    return [*flows, Method(CONTROL, no_training, bin_centres, coupling_free)]


CONTROL = "no couplings"


def coupling_free(models: Models) -> Mapping[str, Any]:
    """Return the scores of a flow without couplings: a standard normal on logits, for images of any size."""
    return flow_scores({"flow": LogitNormal()})


# ------------------------------------------------------------------------------ what the paper says of it


SCORED = {"printed": MASS, "released": BATCH_MASS}  # the score that a source's AUROC is of


def printed(row: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Name the paper's number for a row: table 1 has the mass of a vanilla and of a penalised flow."""
    if (
        not row["last"]
        or row["score"] != SCORED[row["source"]]
        or row["method"] == CONTROL
        or "α = 0.1" in row["method"]
    ):
        return None
    vanilla = row["method"].endswith("vanilla")
    return {"table": "table1", "method": "Vanilla RealNVP" if vanilla else "Approximate mass (penalised RealNVP)"}


def last_auroc(rows: pd.DataFrame, method: str, in_set: str, out_set: str) -> pd.Series:
    """Return the AUROC of mass after the last epoch, as the source scores it, by seed."""
    own = rows[(rows["method"] == method) & (rows["score"] == rows["source"].map(SCORED))]
    own = own[(own["in_set"] == in_set) & (own["out_set"] == out_set)]
    return own[own["step"] == own["step"].max()].set_index("seed")["auroc"]


def gain(rows: pd.DataFrame, *, kind: str, in_set: str, out_set: str) -> pd.Series:
    """Return by how much the penalty (printed: per sample) raises the last AUROC of mass, by seed."""
    way = {"printed": "per sample", "released": "penalised"}[rows["source"].iloc[0]]
    penalised, vanilla = (last_auroc(rows, f"{kind}, {how}", in_set, out_set) for how in (way, "vanilla"))
    return penalised - vanilla


def turned(rows: pd.DataFrame, *, kind: str, in_set: str, out_set: str) -> pd.Series:
    """Return by how much a vanilla flow's last AUROC of mass lies below 0.5, by seed."""
    return 0.5 - last_auroc(rows, f"{kind}, vanilla", in_set, out_set)


WITH_LESS_WITHOUT = "AUROC with the penalty less that without"
FASHION_PAIR = {"in_set": "fashion_mnist", "out_set": "mnist"}
CIFAR_PAIR = {"in_set": "cifar10", "out_set": "svhn"}
CLAIMS = (
    Claim(
        "The penalty raises the AUROC of mass, fashion_mnist → mnist, ReLU.",
        partial(gain, kind="ReLU", **FASHION_PAIR),
        "table 1",
        WITH_LESS_WITHOUT,
    ),
    Claim(
        "The penalty raises the AUROC of mass, fashion_mnist → mnist, batch norm.",
        partial(gain, kind="batch norm", **FASHION_PAIR),
        "table 1",
        WITH_LESS_WITHOUT,
    ),
    Claim(
        "Without penalty the order of mass ends turned over, cifar10 → svhn, ReLU.",
        partial(turned, kind="ReLU", **CIFAR_PAIR),
        "figure 1, table 1",
        "0.5 less the AUROC",
    ),
    Claim(
        "The penalty raises the AUROC of mass, cifar10 → svhn, ReLU.",
        partial(gain, kind="ReLU", **CIFAR_PAIR),
        "table 1",
        WITH_LESS_WITHOUT,
    ),
)

STUDY = Study(
    name="mass/epoch_curves",
    tasks=(
        Task("fashion_mnist", ("mnist", "kmnist"), shape=(1, 28, 28)),
        Task("cifar10", ("svhn",), shape=(3, 32, 32)),
    ),
    methods=methods,
    budgets=SIZES,
    claims=CLAIMS,
    printed=printed,
    sources=("printed", "released"),
    unstated=(
        "Whether the penalty is a mean over images or one norm per batch: both are trained (printed).",
        "Norm of the flows: without and with batch norm, as two flows; weights are weight-normed as in the flows followed.",
        "Batch size, rate, clipping: those of the flows followed, without clipping (printed).",
        "Dequantisation and the logit layer with c = 0.9: as in the flows followed; no augmentation.",
        "Units: gradient by pixels in [0, 1], likelihood in nats per image.",
        "Seeds: three at long and full.",
        "SiLU is ours: the input gradient of a ReLU flow jumps at kinks that the penalty does not see.",
    ),
)

__all__ = [
    "BITS",
    "CLAIMS",
    "CONTROL",
    "GROUPED_MASS",
    "LOG_P",
    "MASS",
    "SCORED",
    "SHOWN",
    "SIZES",
    "STUDY",
    "Flows",
    "Size",
]
