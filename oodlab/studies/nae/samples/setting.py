"""Setting of `nae/samples`: figures 7, 9 and 10, table 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from oodlab import metrics
from oodlab.studies.nae.images import (
    GREY,
    UNIT,
    UNSTATED,
    digits_task,
    image_method,
    latent_chain,
    scale_of,
    shapes_at,
    visible_chain,
)
from oodlab.studies.nae.samples.chains import FreshChains
from oodlab.studies.nae.samples.compared import TEST, SampleNumbers
from oodlab.study import Budget, Claim, Method, Study

HELD_OUT = 9  # figure 9
LONGER = {"printed": 8, "released": 20}  # text: latent chains 8 times training's; released: 200 steps for 10 on mnist


@dataclass(frozen=True, kw_only=True)
class Size(Budget):
    """What a profile spends.

    Attributes:
        scale: Profile whose networks, images and lengths are taken (nae.images).
        samples: Samples of each kind.
        followed: Samples whose way, energies and nearest training images are looked at.
        spaces: Spaces of Fréchet distances.
        longer: How many times longer than training's the long latent chains are; None is what the source says.
    """

    scale: str
    samples: int
    followed: int = 500  # ours
    spaces: tuple[str, ...] = ("pixels",)
    longer: int | None = None


SIZES = {
    "full": Size(
        seeds=1,  # ours: the figures show one model
        scale="full",
        samples=50_000,  # table 5, of CelebA-64
        spaces=("pixels", "inception"),
        shapes=shapes_at("full"),
    ),
    "long": Size(seeds=3, scale="long", samples=5000, shapes=shapes_at("long")),
    "quick": Size(seeds=1, scale="quick", test_items=1000, samples=1000, followed=200, shapes=shapes_at("quick")),
    "smoke": Size(
        seeds=1,
        scale="smoke",
        samples=20,
        followed=20,
        longer=2,
        test_items=60,
        fit_items=100,
        shapes=shapes_at("smoke"),
    ),
}


def methods(size: Size, source: str) -> Sequence[Method]:
    """Return the plain autoencoder and the normalised one."""
    return [image_method(name, size.scale, source) for name in ("AE", "NAE-OMI")]


def numbers_at(setting: Study) -> SampleNumbers:
    """Return what is measured of samples at a profile and source: chains as in training, and longer latent ones."""
    size, source = setting.budget, setting.source
    scale = scale_of(size.scale, source, GREY)
    chains = FreshChains(latent_chain(scale, GREY), visible_chain(scale, GREY, source), UNIT)
    return SampleNumbers(chains, size.longer or LONGER[source], size.samples, size.followed, size.spaces)


# ------------------------------------------------------------------------------ what the paper says of it


def printed(row: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Name the paper's number for a row: table 1 has the AUROC of digit 9, held out, after the training."""
    if not row["last"] or f"without {HELD_OUT}" not in row["in_set"]:
        return None
    sets = {"in_set": f"mnist_without_{HELD_OUT}", "out_set": f"mnist_only_{HELD_OUT}"}
    return {"table": "table1", "method": row["score"], **sets}


def table_of(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return measured numbers as a table: a line per seed, inside set, method and kind of images, a column per number."""
    split = numbers["quantity"].str.split(": ", n=1, expand=True)
    return (
        numbers.assign(images=split[0], number=split[1])
        .pivot_table(index=["seed", "in_set", "method", "images"], columns="number", values="value", sort=False)
        .reindex(columns=list(dict.fromkeys(split[1])))
    )


def table_5() -> pd.DataFrame:
    """Return table 5: FID of 50,000 samples of CelebA-64 by method."""
    return pd.DataFrame(
        [{"method": row.method, "paper: FID, CelebA-64": row.value} for row in metrics.reported("nae", table="table5")]
    )


def _of(numbers: pd.DataFrame, images: str, number: str, method: str = "NAE-OMI") -> pd.Series:
    """Return one number of one kind of images, by seed and inside set."""
    own = numbers[(numbers["method"] == method) & (numbers["quantity"] == f"{images}: {number}")]
    return own.set_index(["seed", "in_set"])["value"]


def at_energies_of_data(numbers: pd.DataFrame) -> pd.Series:
    """Return how far within 80 % of the test digits' energies the samples' median energy lies, in nats."""
    middle = _of(numbers, "sample, long", "energy, median")
    low, high = (_of(numbers, TEST, f"energy, {share}") for share in ("10 %", "90 %"))
    return np.minimum(middle - low, high - middle)


def end_lower(numbers: pd.DataFrame) -> pd.Series:
    """Return by how much more than 60 % of the long latent chains end lower than the short ones of the same code."""
    return _of(numbers, "long chains", "end lower") - 0.6


def no_copies(numbers: pd.DataFrame) -> pd.Series:
    """Return how far below 10 % the share of samples is that are nearer to a training image than 95 % of test digits."""
    return 0.1 - _of(numbers, "sample, long", "near copies")


def as_spread(numbers: pd.DataFrame) -> pd.Series:
    """Return by how much more than 90 % of the spread of test digits' codes the samples' codes have."""
    sample, test = (_of(numbers, images, "spread of codes") for images in ("sample, long", TEST))
    return sample / test - 0.9


def as_many_classes(numbers: pd.DataFrame) -> pd.Series:
    """Return half a class more than the classes of the nearest training images, less those of test digits."""
    sample, test = (_of(numbers, images, "classes") for images in ("sample, long", TEST))
    return sample - test + 0.5


def nearer_than_plain(numbers: pd.DataFrame) -> pd.Series:
    """Return the Fréchet distance of the plain autoencoder's samples by the same chains, less that of NAE's."""
    plain, normalised = (
        _of(numbers, "sample, long", "Fréchet distance, pixels", method) for method in ("AE", "NAE-OMI")
    )
    return plain - normalised


CLAIMS = (
    Claim(
        "Samples end at the energies of test digits: their median lies within the middle 80 %.",
        at_energies_of_data,
        "figures 7, 9",
        "Distance to the nearer end of these 80 % in nats, by seed and training",
    ),
    Claim(
        "Longer latent chains reach lower energies, in more than 60 % of pairs with the same code.",
        end_lower,
        "text; released notes",
        "Share above 0.6, by seed and training",
    ),
    Claim(
        "Samples are no copies: less than 10 % are nearer to a training image than 95 % of test digits are.",
        no_copies,
        "ours",
        "0.1 less the share, by seed and training",
    ),
    Claim(
        "Codes of samples spread as widely as those of test digits, at least 90 % as far.",
        as_spread,
        "figure 7",
        "Ratio less 0.9, by seed and training",
    ),
    Claim(
        "The training images nearest to samples are of no fewer classes than those nearest to test digits.",
        as_many_classes,
        "figure 7",
        "Difference of classes plus one half, by seed and training",
    ),
    Claim(
        "Samples of NAE are nearer to data than those of the plain autoencoder by the same chains.",
        nearer_than_plain,
        "table 5, there by FID on CelebA-64",
        "Difference of Fréchet distances in 7 x 7 pixels, by seed and training",
    ),
)

STUDY = Study(
    name="nae/samples",
    tasks=(digits_task(), digits_task(HELD_OUT)),
    methods=methods,
    budgets=SIZES,
    claims=CLAIMS,
    printed=printed,
    sources=("printed", "released"),
    unstated=(
        *UNSTATED,
        "Of the FID in table 5: the images that samples are compared with, the network's weights, how images are resized. Ours, at "
        "full, compares samples of mnist with its training images by torchvision's weights, so no number of the paper's belongs "
        "beside it.",
        "How long the chains are whose samples figures 7 and 10 show: here without replay, short (as in training) and long.",
        "When in the training figure 9 looks, and at which chains: here evenly, at fresh chains with the same random numbers.",
    ),
)
