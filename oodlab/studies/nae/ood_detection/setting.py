"""Setting of `nae/ood_detection`: tables 2 and 4."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from oodlab import metrics
from oodlab.studies.nae.claimed import DIFFERENCE, last_aurocs, lead
from oodlab.studies.nae.images import METHODS, UNSTATED, digits_task, image_method, shapes_at
from oodlab.studies.nae.outside import CHIMERAS, GREY_LEVELS, HALVES, NOISE, PRINTED_AS
from oodlab.study import Budget, Claim, Method, Study, Task

TABLES = {"mnist": "table4", "cifar10": "table2"}
OF_TABLE_2 = ("AE", "DAE", "VAE", "WAE", "IGEBM", "NAE-OMI")  # what is trained on cifar10; on mnist all are
PAPER_ONLY = ("GLOW", "PXCNN", "PXCNN++")  # printed, not trained here
README = {  # released: what its README says of the published weights, trained on cifar10
    "constant_gray": 0.9632,
    "fashion_mnist": 0.8193,
    "svhn": 0.9196,
    "celeba": 0.8873,
    "noise": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Size(Budget):
    """What a profile spends.

    Attributes:
        scale: Profile whose networks, images and lengths are taken (nae.images).
        methods: Methods that are trained on mnist; on cifar10 those of table 2 among them.
    """

    scale: str
    methods: tuple[str, ...] = METHODS


SIZES = {
    "full": Size(seeds=3, scale="full", shapes=shapes_at("full")),  # seeds: ours
    "long": Size(seeds=3, scale="long", test_items=2000, shapes=shapes_at("long")),
    "quick": Size(seeds=1, scale="quick", test_items=1000, shapes=shapes_at("quick")),
    "smoke": Size(
        seeds=1,
        scale="smoke",
        test_items=60,
        fit_items=100,
        methods=("AE", "VAE", "NAE-OMI"),
        shapes=shapes_at("smoke"),
    ),
}


def methods(size: Size, source: str) -> Sequence[Method]:
    """Return the methods of a profile, those that table 2 lacks for mnist alone."""
    every = [image_method(name, size.scale, source) for name in size.methods]
    return [one if one.name in OF_TABLE_2 else replace(one, tasks=("mnist",)) for one in every]


# ------------------------------------------------------------------------------ what the paper says of it


def printed(row: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Name the paper's number for a row: tables 2 and 4 have every score after its training."""
    if not row["last"]:
        return None
    method = row["score"].removesuffix("-OMI")  # the paper's NAE
    out_set = PRINTED_AS.get(row["out_set"], row["out_set"])
    return {"table": TABLES[row["in_set"]], "method": method, "out_set": out_set}


def paper_only(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of methods that the paper prints numbers of and that are not trained here; their AUROC is NaN."""
    pairs = rows.loc[rows["stand_in_for"] == "", ["in_set", "out_set"]].drop_duplicates()
    found = []
    for in_set, out_set in pairs.itertuples(index=False):
        named = {"table": TABLES[in_set], "in_set": in_set, "out_set": PRINTED_AS.get(out_set, out_set)}
        found += [
            {"in_set": in_set, "out_set": out_set, "method": one, "score": one, "printed": number.value}
            for one in PAPER_ONLY
            for number in metrics.find_reported("nae", method=one, **named)
        ]
    columns = ["in_set", "out_set", "method", "score", "printed"]
    return pd.DataFrame(found, columns=columns).assign(seed=0, step=0, auroc=math.nan)


def above(rows: pd.DataFrame, *, score: str, in_set: str, out_sets: Sequence[str], sign: int = 1) -> pd.Series:
    """Return how far a score's AUROC lies above 0.5, with sign -1 below, by seed and outside set."""
    table = last_aurocs(rows, in_set=in_set, out_sets=out_sets)
    return sign * (table[score] - 0.5) if score in table else pd.Series(dtype=float)


DISTANCE = "Distance of the AUROC to 0.5, by seed and outside set"
OF_MNIST = ("constant_gray", "half_digits", "chimera_digits", "omniglot")  # table 4 without noise, where all have 1
OF_CIFAR = ("constant_gray", "fashion_mnist", "svhn", "celeba")  # table 2 without noise, where all have 1
CLAIMS = (
    Claim(
        "Trained on mnist, NAE tells outside sets apart better than the plain autoencoder.",
        partial(lead, in_set="mnist", out_sets=OF_MNIST, over=("AE",)),
        "table 4, without noise, where both have 1",
        DIFFERENCE,
    ),
    Claim(
        "Trained on mnist, NAE is the best of all methods on halves, chimeras and omniglot.",
        partial(lead, in_set="mnist", out_sets=OF_MNIST[1:]),
        "table 4, where none has the same number",
        DIFFERENCE,
    ),
    Claim(
        "Trained on cifar10, NAE tells outside sets apart better than the plain autoencoder.",
        partial(lead, in_set="cifar10", out_sets=OF_CIFAR, over=("AE",)),
        "table 2, without noise",
        DIFFERENCE,
    ),
    Claim(
        "Trained on cifar10, NAE is the best of all methods.",
        partial(lead, in_set="cifar10", out_sets=OF_CIFAR),
        "table 2, without noise",
        DIFFERENCE,
    ),
    Claim(
        "Trained on cifar10, the plain autoencoder prefers grey images and numbers to its own test images.",
        partial(above, score="AE", in_set="cifar10", out_sets=("constant_gray", "svhn"), sign=-1),
        "table 2",
        DISTANCE,
    ),
    Claim(
        "Trained on cifar10, NAE prefers its own test images to every outside set.",
        partial(above, score="NAE-OMI", in_set="cifar10", out_sets=OF_CIFAR),
        "table 2",
        DISTANCE,
    ),
)

STUDY = Study(
    name="nae/ood_detection",
    tasks=(
        replace(digits_task(), outside=(GREY_LEVELS, HALVES, CHIMERAS, "omniglot", "fashion_mnist", NOISE)),
        Task(
            "cifar10",
            (GREY_LEVELS, "fashion_mnist", "svhn", "celeba", NOISE),
            shape=shapes_at("full")["cifar10"],
            train="train-val",  # text: 5,000 images for validation
            stand_in="photo_patches",
            stand_in_outside=("digits",),
        ),
    ),
    methods=methods,
    budgets=SIZES,
    claims=CLAIMS,
    printed=printed,
    sources=("printed", "released"),
    unstated=(
        *UNSTATED,
        "Seeds: the text prints one number and no spread.",
        "IGEBM has the autoencoders' encoder: the text does not say which network its rows are of.",
        "GLOW and PixelCNN++ stand in the figure with the paper's numbers only; ImageNet32 as inside set is left out.",
        "fashion_mnist outside of mnist is ours: table 4 lacks it.",
    ),
)
