"""Setting of `nae/outlier_reconstruction`: figure 1, with the numbers of table 4 that belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from oodlab.studies.nae.images import UNSTATED, digits_task, image_method, shapes_at
from oodlab.studies.nae.outside import BLANK, CHIMERAS, GREY_LEVELS, HALVES, PRINTED_AS
from oodlab.study import Budget, Claim, Method, Study, at_end

OF_FIGURE_1 = ("blank", "half_digits", "omniglot")  # and a shirt, which the text says nothing of
OF_TABLE_4 = ("half_digits", "chimera_digits", "omniglot", "constant_gray")  # noise is no picture to reconstruct


@dataclass(frozen=True, kw_only=True)
class Size(Budget):
    """What a profile spends.

    Attributes:
        scale: Profile whose networks, images and lengths are taken (nae.images).
    """

    scale: str


SIZES = {
    "full": Size(seeds=1, scale="full", shapes=shapes_at("full")),  # text: the figure shows one training
    "long": Size(seeds=3, scale="long", shapes=shapes_at("long")),
    "quick": Size(seeds=1, scale="quick", test_items=2000, shapes=shapes_at("quick")),
    "smoke": Size(seeds=1, scale="smoke", test_items=100, fit_items=100, shapes=shapes_at("smoke")),
}


def methods(size: Size, source: str) -> Sequence[Method]:
    """Return the plain autoencoder and the normalised one."""
    return [image_method(name, size.scale, source) for name in ("AE", "NAE-OMI")]


# ------------------------------------------------------------------------------ what the paper says of it


def printed(row: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Name the paper's number for a row: table 4 has both methods' AUROC after their training."""
    if not row["last"]:
        return None
    out_set = PRINTED_AS.get(row["out_set"], row["out_set"])
    return {"table": "table4", "method": row["score"].removesuffix("-OMI"), "out_set": out_set}


def outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what becomes of outliers: after the training, a line per seed, inside and outside set and score.

    Columns: auroc; missed, the share of outliers with an error up to the limit that 95 % of known test images keep;
    known_error and outlier_error, medians per pixel; n_out; printed, the paper's AUROC where the rows have it.
    """
    own = at_end(rows).set_index(["seed", "in_set", "out_set", "score"])
    found = {
        "n_out": own["n_out"],
        "missed": 1 - own["tnr_at_95tpr"],
        "auroc": own["auroc"],
        "printed": own.get("printed"),
        "known_error": -own["in_q50"],
        "outlier_error": -own["out_q50"],
    }
    return pd.DataFrame({name: column for name, column in found.items() if column is not None})


def _both(rows: pd.DataFrame, column: str, out_sets: Sequence[str] = ()) -> tuple[pd.Series, pd.Series]:
    """Return a column of the plain and of the normalised autoencoder, by seed, inside and outside set, () for all."""
    table = outcomes(rows)[column].unstack("score")
    if out_sets:
        table = table[table.index.get_level_values("out_set").isin(out_sets)]
    return table["AE"], table["NAE-OMI"]


def fewer_missed(rows: pd.DataFrame, *, out_sets: Sequence[str]) -> pd.Series:
    """Return by how much the share of missed outliers falls; where the plain autoencoder misses none there is none."""
    plain, normalised = _both(rows, "missed", out_sets)
    return (plain - normalised)[plain > 0]


def gain(rows: pd.DataFrame) -> pd.Series:
    """Return by how much the AUROC rises on the sets of table 4."""
    plain, normalised = _both(rows, "auroc", OF_TABLE_4)
    return normalised - plain


def spoilt(rows: pd.DataFrame) -> pd.Series:
    """Return the logarithm of how many times more the median error of outliers grows than that of known images."""
    known, outliers = (_both(rows, name) for name in ("known_error", "outlier_error"))
    return np.log(outliers[1] / outliers[0]) - np.log(known[1] / known[0])


CLAIMS = (
    Claim(
        "NAE does not give back the black image, halves of digits and letters that the autoencoder does.",
        partial(fewer_missed, out_sets=OF_FIGURE_1),
        "figure 1",
        "Share missed by AE less that by NAE-OMI, by seed and outside set",
    ),
    Claim(
        "NAE has the higher AUROC on halves, chimeras, omniglot and grey levels.",
        gain,
        "table 4",
        "AUROC of NAE-OMI less that of AE, by seed and outside set",
    ),
    Claim(
        "Normalising spoils reconstructions of outliers more than those of known digits.",
        spoilt,
        "figure 1",
        "Natural logarithm of the ratio of the two growths of the median error, by seed and outside set",
    ),
)

STUDY = Study(
    name="nae/outlier_reconstruction",
    tasks=(replace(digits_task(), outside=(BLANK, HALVES, CHIMERAS, GREY_LEVELS, "omniglot", "fashion_mnist")),),
    methods=methods,
    budgets=SIZES,
    claims=CLAIMS,
    printed=printed,
    sources=("printed", "released"),
    unstated=(
        *UNSTATED,
        "The figure has no threshold: ours accepts 95 % of the known test images.",
        "Which images the figure shows is chosen by its authors; here they are the first ones, of fashion_mnist shirts.",
    ),
)
