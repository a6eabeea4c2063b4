"""Numbers that say how well scores separate in- from out-of-distribution inputs.

Convention: a score is high for in-distribution inputs, so no function takes a
sign.  In-distribution is the positive class of every TPR and TNR; AUPR and FPR
name their positive class, because their value depends on it.

Imports: checks.
"""

from __future__ import annotations

import csv
import difflib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from oodlab import checks

Positive = Literal["in", "out"]


def _scores(name: str, values: ArrayLike) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()  # a tensor, on whatever device
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} expects a (N,) array of numbers, got {type(values).__name__}: {error}; pass what score_samples returns."
        ) from error
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} expects a non-empty (N,) array, got shape {array.shape}: one score per input; pass what score_samples returns."
        )
    lost = int((~np.isfinite(array)).sum())
    if lost:
        raise FloatingPointError(
            f"{name}: {lost} of {array.size} scores are not finite; sorting would place them silently: "
            "find the inputs that cause them, or say which finite score they shall get."
        )
    return array


def _pair(scores_in: ArrayLike, scores_out: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    return _scores("scores_in", scores_in), _scores("scores_out", scores_out)


def _positive_first(scores_in: ArrayLike, scores_out: ArrayLike, positive: Positive) -> tuple[np.ndarray, np.ndarray]:
    inside, outside = _pair(scores_in, scores_out)
    if positive not in ("in", "out"):
        raise ValueError(f"positive expects 'in' or 'out', got {positive!r}: the value depends on it.")
    return (inside, outside) if positive == "in" else (-outside, -inside)


def auroc(scores_in: ArrayLike, scores_out: ArrayLike) -> float:
    """Return P(score_in > score_out) + P(tie) / 2, a fraction.

    Exchanging the classes gives 1 - AUROC; class sizes do not matter.
    """
    inside, outside = _pair(scores_in, scores_out)
    outside = np.sort(outside)
    below = np.searchsorted(outside, inside, side="left")
    below_or_tied = np.searchsorted(outside, inside, side="right")
    return float((below + below_or_tied).mean() / (2 * len(outside)))


def auroc_standard_error(scores_in: ArrayLike, scores_out: ArrayLike) -> float:
    """Return the standard error of the AUROC over the draw of test inputs, by the variances of their placements.

    Of a training's randomness it says nothing. NaN with a single input in a class.

    Source: DeLong, DeLong & Clarke-Pearson (1988).
    """
    inside, outside = _pair(scores_in, scores_out)
    if min(len(inside), len(outside)) < 2:
        return math.nan
    variance = 0.0
    for values, others in ((inside, np.sort(outside)), (outside, np.sort(inside))):
        places = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
        variance += (places / (2 * len(others))).var(ddof=1) / len(values)
    return float(math.sqrt(variance))


def aupr(scores_in: ArrayLike, scores_out: ArrayLike, *, positive: Positive) -> float:
    """Return the average precision with the named class as the positive one, a fraction.

    Step-wise (not trapezoidal) area; tied scores form one step, so a constant
    score gives the base rate.  A perfectly inverted detector on large balanced
    classes gives 1 - ln 2 = 0.307, not 0.
    """
    wanted, other = _positive_first(scores_in, scores_out, positive)
    values = np.concatenate([wanted, other])
    order = np.argsort(-values, kind="stable")
    hits = np.concatenate([np.ones(len(wanted)), np.zeros(len(other))])[order]
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # last of each run of ties
    true_positives = np.cumsum(hits)[ends]
    precision = true_positives / (ends + 1)
    return float(np.sum(np.diff(true_positives, prepend=0.0) * precision) / len(wanted))


def threshold_at_tpr(scores_in: ArrayLike, tpr: float = 0.95) -> float:
    """Return the highest threshold t for which at least tpr of the in-distribution scores are >= t."""
    checks.number("threshold_at_tpr", "tpr", tpr, above=0, most=1, why="it is a fraction, 0.95 for 95 %")
    inside = np.sort(_scores("scores_in", scores_in))
    return float(inside[len(inside) - max(1, math.ceil(tpr * len(inside) - 1e-9))])


def tnr_at_tpr(scores_in: ArrayLike, scores_out: ArrayLike, *, tpr: float = 0.95) -> float:
    """Return the share of OOD inputs rejected when tpr of the in-distribution ones are accepted."""
    inside, outside = _pair(scores_in, scores_out)
    return float((outside < threshold_at_tpr(inside, tpr)).mean())


def fpr_at_tpr(scores_in: ArrayLike, scores_out: ArrayLike, *, positive: Positive, tpr: float = 0.95) -> float:
    """Return the false positive rate at a true positive rate, for the named positive class.

    With positive="in" this is 1 - TNR; some libraries mean positive="out".
    """
    wanted, other = _positive_first(scores_in, scores_out, positive)
    return float((other >= threshold_at_tpr(wanted, tpr)).mean())


def bits_per_dim(log_prob: ArrayLike, dims: int) -> np.ndarray:
    """Convert log-densities of 8-bit images scaled to [0, 1]^D to bits per dimension.

    Args:
        log_prob: Log-density of w = (255 x + u) / 256 in nats, any shape.
        dims: Number D of dimensions of one image.

    Returns:
        (D log 256 - log_prob) / (D log 2); the uniform density gives exactly 8.
        This is the one place where D log 256 is subtracted.
    """
    checks.whole("bits_per_dim", "dims", dims, least=1)
    values = np.asarray(log_prob, dtype=np.float64)
    lost = int((~np.isfinite(values)).sum())
    if lost:
        raise FloatingPointError(
            f"bits_per_dim expects finite log-densities, got {lost} of {values.size} that are not: find their inputs."
        )
    return (dims * math.log(256) - values) / (dims * math.log(2))


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's rank correlation of two scores of the same inputs; tied scores share their mean rank.

    NaN where one of them is constant.
    """
    first, second = _pair(a, b)
    if len(first) != len(second):
        raise ValueError(
            f"rank_correlation expects scores of the same inputs, got {len(first)} and {len(second)}: score one set twice."
        )
    ranks = []
    for values in (first, second):
        _, place, times = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(times) - (times - 1) / 2)[place])
    if min(np.ptp(rank) for rank in ranks) == 0:
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return the Fréchet distance of two sets of features, as Gaussians of their mean and covariance.

    |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), in squared units of a feature. It is 0 for equal
    sets; of finite samples of one distribution it is above 0, the more the fewer they are. With the features of an
    Inception-v3 network it is the FID.

    Args:
        a, b: Features, (N, D) and (M, D), N and M at least 2.

    Source: Dowson & Landau (1982); Heusel et al. (2017), arXiv:1706.08500.
    """
    sets = [np.asarray(features, dtype=np.float64) for features in (a, b)]
    if any(x.ndim != 2 or len(x) < 2 for x in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(
            f"frechet_distance expects features (N, D) and (M, D) of two inputs at least, got {sets[0].shape} and "
            f"{sets[1].shape}: a covariance needs two, and both sets the same features."
        )
    if lost := sum(int((~np.isfinite(x)).sum()) for x in sets):
        raise FloatingPointError(f"frechet_distance: {lost} features are not finite; find the inputs that cause them.")
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in sets)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T  # rounding may leave eigenvalues just below 0
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    apart = np.square(sets[0].mean(axis=0) - sets[1].mean(axis=0)).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * shared)


def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], float],
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a metric under resampling of both classes.

    Covers the choice of test inputs only; the spread over training seeds is a
    different, usually larger one.
    """
    checks.function("bootstrap_interval", "metric", metric, instead="metrics.auroc, say")
    checks.number("bootstrap_interval", "level", level, above=0, below=1, why="it is a fraction, 0.95 for 95 %")
    checks.whole("bootstrap_interval", "resamples", resamples, least=1)
    checks.whole("bootstrap_interval", "seed", seed, least=0)
    inside, outside = _pair(scores_in, scores_out)
    random = np.random.default_rng(seed)
    values = [
        metric(random.choice(inside, len(inside)), random.choice(outside, len(outside))) for _ in range(resamples)
    ]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auroc_bounds(tnr: float, tpr: float = 0.95) -> tuple[float, float]:
    """Return the smallest and largest AUROC that a TNR at this TPR allows."""
    checks.number("auroc_bounds", "tnr", tnr, least=0, most=1, why="it is a fraction")
    checks.number("auroc_bounds", "tpr", tpr, above=0, most=1, why="it is a fraction")
    return tpr * tnr, tpr + (1 - tpr) * tnr


def is_consistent(auroc: float, tnr: float, *, tpr: float = 0.95, tolerance: float = 1e-9) -> bool:
    """Say whether an AUROC and a TNR at this TPR can belong to one set of scores.

    For printed numbers give the rounding as tolerance; for a small sample give
    the TPR that its threshold really reaches, which is 0.95 or a little more.
    """
    low, high = auroc_bounds(tnr, tpr)
    return low - tolerance <= auroc <= high + tolerance


def ood_row(scores_in: ArrayLike, scores_out: ArrayLike) -> dict[str, float]:
    """Return every metric of one pair of sets as a table row, checked against auroc_bounds.

    Raises:
        ArithmeticError: AUROC and TNR contradict each other, so one of them is computed wrongly.
    """
    inside, outside = _pair(scores_in, scores_out)
    reached = float((inside >= threshold_at_tpr(inside)).mean())
    row = {
        "auroc": auroc(inside, outside),
        "aupr_in": aupr(inside, outside, positive="in"),
        "aupr_out": aupr(inside, outside, positive="out"),
        "tnr_at_95tpr": tnr_at_tpr(inside, outside),
        "fpr95_positive_in": fpr_at_tpr(inside, outside, positive="in"),
        "fpr95_positive_out": fpr_at_tpr(inside, outside, positive="out"),
        "n_in": len(inside),
        "n_out": len(outside),
    }
    if not is_consistent(row["auroc"], row["tnr_at_95tpr"], tpr=reached):
        raise ArithmeticError(f"ood_row: AUROC and TNR of {row} cannot come from one set of scores.")
    return row


def ood_table(scores: Mapping[str, ArrayLike], *, in_set: str) -> dict[str, dict[str, float]]:
    """Return one ood_row per OOD set.

    Args:
        scores: Scores per data set, in_set among them.
        in_set: Name of the in-distribution set.
    """
    if in_set not in scores:
        raise ValueError(f"ood_table expects scores of {in_set!r}, got {sorted(scores)}: name one of these as in_set.")
    if len(scores) < 2:
        raise ValueError(f"ood_table expects an OOD set beside {in_set!r}, got none: score at least one more set.")
    return {name: ood_row(scores[in_set], values) for name, values in scores.items() if name != in_set}


@dataclass(frozen=True)
class Reported:
    """One number that a paper prints: fractions, minutes, nats or bits as the metric says.

    bound is "<" or ">" where the paper prints only a bound, and empty otherwise.
    """

    paper: str
    table: str
    method: str
    setting: str
    in_set: str
    out_set: str
    metric: str
    value: float
    std: float | None
    bound: str = ""


@functools.cache
def all_reported() -> tuple[Reported, ...]:
    """Return every number that the five papers print, in the order of reported.csv."""
    text = resources.files("oodlab").joinpath("reported.csv").read_text(encoding="utf-8")
    return tuple(
        Reported(
            **{
                **row,
                "value": float(row["value"].lstrip("<>")),
                "std": float(row["std"]) if row["std"] else None,
                "bound": row["value"][0] if row["value"][0] in "<>" else "",
            }
        )
        for row in csv.DictReader(text.splitlines())
    )


def find_reported(paper: str, **wanted: str) -> tuple[Reported, ...]:
    """Return the numbers a paper prints that match every named field exactly; () where there is none."""
    return tuple(
        row for row in all_reported() if row.paper == paper and all(getattr(row, f) == v for f, v in wanted.items())
    )


def reported(paper: str, **wanted: str) -> tuple[Reported, ...]:
    """Return the numbers a paper prints that match every named field exactly.

    Args:
        paper: Paper key: ebm, mass, nae, cmg or hier.
        **wanted: Any of table, method, setting, in_set, out_set, metric.

    Raises:
        ValueError: A field or a value that the table does not know, with the nearest that it does.
    """
    rows = all_reported()
    for field, value in {"paper": paper, **wanted}.items():
        if field not in Reported.__annotations__ or field in ("value", "std", "bound"):
            raise ValueError(
                f"reported expects table, method, setting, in_set, out_set or metric, got {field!r}: rows have no such field."
            )
        known = sorted({getattr(row, field) for row in rows})
        rows = tuple(row for row in rows if getattr(row, field) == value)
        if not rows:
            near = difflib.get_close_matches(str(value), known, n=3) or known[:8]
            raise ValueError(
                f"reported expects a {field} that rows of {paper} have, got {value!r}: the nearest are {', '.join(near)}."
            )
    return rows
