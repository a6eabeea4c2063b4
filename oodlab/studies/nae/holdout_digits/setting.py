"""Setting of `nae/holdout_digits`: tables 1 and 3, figure 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from oodlab import metrics
from oodlab.studies.nae.claimed import DIFFERENCE, lead
from oodlab.studies.nae.images import METHODS, NORMALISING, UNSTATED, digits_task, image_method, shapes_at
from oodlab.study import Budget, Claim, Method, Study

DIGITS = (9, 1, 4)  # ours: those of the small profiles; the text has all ten


@dataclass(frozen=True, kw_only=True)
class Size(Budget):
    """What a profile spends.

    Attributes:
        scale: Profile whose networks, images and lengths are taken (nae.images).
        methods: Methods that are trained.
    """

    scale: str
    methods: tuple[str, ...] = METHODS


def _without(*digits: int) -> tuple[str, ...]:
    return tuple(f"mnist without {digit}" for digit in digits)


SIZES = {
    "full": Size(seeds=10, scale="full", shapes=shapes_at("full")),  # text: 10 runs of NAE-OMI
    "long": Size(seeds=3, scale="long", tasks=_without(*DIGITS), shapes=shapes_at("long")),
    "quick": Size(seeds=1, scale="quick", tasks=_without(*DIGITS), shapes=shapes_at("quick")),
    "smoke": Size(
        seeds=1,
        scale="smoke",
        tasks=_without(9),
        test_items=60,
        fit_items=100,
        methods=("AE", "VAE", "DAGMM", *NORMALISING),
        shapes=shapes_at("smoke"),
    ),
}


def methods(size: Size, source: str) -> Sequence[Method]:
    """Return the methods of a profile."""
    return [image_method(name, size.scale, source) for name in size.methods]


def normalising(size: Size, source: str) -> Sequence[Method]:
    """Return those of a profile that have negatives to be measured."""
    return [method for method in methods(size, source) if method.name in NORMALISING]


def printed(row: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Name the paper's number for a row: table 1 has every score after its training."""
    if not row["last"]:
        return None
    digit = row["in_set"].removeprefix("mnist without ")
    sets = {"in_set": f"mnist_without_{digit}", "out_set": f"mnist_only_{digit}"}
    return {"table": "table1", "method": row["score"], **sets}


def printed_alone(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the paper's numbers of methods that are not trained here, for the digits of some rows."""
    found = []
    for in_set in dict.fromkeys(rows.loc[rows["printed"].notna(), "in_set"]):
        digit = in_set.removeprefix("mnist without ")
        table = metrics.find_reported("nae", table="table1", out_set=f"mnist_only_{digit}")
        found += [
            {"method": one.method, "score": one.method, "in_set": in_set, "step": 0, "printed": one.value}
            for one in table
            if one.method not in set(rows["score"])
        ]
    return pd.DataFrame(found)


CLAIMS = (
    Claim(
        "NAE-OMI notices a held-out digit better than the plain autoencoder.",
        partial(lead, over=("AE",)),
        "table 1",
        DIFFERENCE,
    ),
    Claim(
        "Chains that start on the manifold do more than those that start at data or where earlier ones ended.",
        partial(lead, over=("NAE-CD", "NAE-PCD")),
        "table 1",
        DIFFERENCE,
    ),
    Claim("NAE-OMI is the highest of all methods for every digit.", lead, "text", DIFFERENCE),
)

STUDY = Study(
    name="nae/holdout_digits",
    tasks=tuple(digits_task(digit) for digit in range(10)),
    methods=methods,
    budgets=SIZES,
    claims=CLAIMS,
    printed=printed,
    sources=("printed", "released"),
    unstated=(
        *UNSTATED,
        "Runs of methods other than NAE-OMI: the text prints them without spread; here all have the same seeds.",
        "Glow, PixelCNN++ and GANomaly as published are not trained here; the table has the paper's numbers of them.",
    ),
)
