"""Laws of the metrics, with scikit-learn as the reference, and the papers' printed numbers."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from oodlab import metrics
from oodlab.metrics import aupr, auroc, fpr_at_tpr, reported, threshold_at_tpr, tnr_at_tpr

ROUNDING = 1e-12  # sums of a few hundred float64 fractions


def two_sets(ties: bool = False, n_in: int = 300, n_out: int = 170, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    inside, outside = random.normal(0.8, 1, n_in), random.normal(0, 1.3, n_out)
    return (inside.round(), outside.round()) if ties else (inside, outside)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_aupr_equal_scikit_learns(ties: bool) -> None:
    inside, outside = two_sets(ties)
    is_in, scores = np.r_[np.ones(300), np.zeros(170)], np.r_[inside, outside]

    assert auroc(inside, outside) == pytest.approx(roc_auc_score(is_in, scores), abs=ROUNDING)
    assert aupr(inside, outside, positive="in") == pytest.approx(average_precision_score(is_in, scores), abs=ROUNDING)
    assert aupr(inside, outside, positive="out") == pytest.approx(
        average_precision_score(1 - is_in, -scores), abs=ROUNDING
    )


@pytest.mark.parametrize(("wanted", "other"), [(7, 7), (7, 20), (20, 7)])
def test_a_perfectly_inverted_detector_has_the_smallest_possible_aupr(wanted: int, other: int) -> None:
    """The other class ranks first, so the k-th hit has precision k / (k + N); large balanced sets tend to 1 - ln 2."""
    floor = sum(k / (k + other) for k in range(1, wanted + 1)) / wanted
    assert aupr(np.arange(wanted), 100 + np.arange(other), positive="in") == pytest.approx(floor, abs=ROUNDING)
    assert aupr(np.arange(other), 100 + np.arange(wanted), positive="out") == pytest.approx(floor, abs=ROUNDING)


def test_the_floor_of_aupr_tends_to_the_papers_30_69_percent() -> None:
    n = 10_000
    value = aupr(np.arange(n), n + np.arange(n), positive="in")
    assert value == pytest.approx(1 - math.log(2), abs=1 / n)  # next term of the sum: 1 / (4 n)
    assert round(100 * value, 2) == 30.69


def test_perfect_separation_is_perfect_in_every_metric() -> None:
    row = metrics.ood_row(10 + np.arange(40.0), np.arange(5.0))
    assert (row["auroc"], row["aupr_in"], row["aupr_out"], row["tnr_at_95tpr"]) == (1, 1, 1, 1)
    assert (row["fpr95_positive_in"], row["fpr95_positive_out"], row["n_in"], row["n_out"]) == (0, 0, 40, 5)


def test_a_constant_score_has_an_auroc_of_one_half_and_the_base_rate_as_aupr() -> None:
    inside, outside = np.zeros(30), np.zeros(10)
    assert auroc(inside, outside) == 0.5
    assert aupr(inside, outside, positive="in") == 0.75
    assert aupr(inside, outside, positive="out") == 0.25
    assert tnr_at_tpr(inside, outside) == 0


@pytest.mark.parametrize("ties", [False, True])
def test_exchanging_the_classes_gives_one_minus_auroc(ties: bool) -> None:
    inside, outside = two_sets(ties)
    assert auroc(outside, inside) == pytest.approx(1 - auroc(inside, outside), abs=ROUNDING)
    assert aupr(-outside, -inside, positive="out") == pytest.approx(aupr(inside, outside, positive="in"), abs=ROUNDING)
    assert aupr(inside, outside, positive="in") != pytest.approx(aupr(inside, outside, positive="out"), abs=0.05)


def test_increasing_transforms_and_the_order_of_inputs_change_no_metric() -> None:
    inside, outside = two_sets(ties=True)
    shuffled = np.random.default_rng(1).permutation(inside)
    row = metrics.ood_row(inside, outside)
    assert metrics.ood_row(np.exp(shuffled / 3), np.exp(outside / 3)) == pytest.approx(row, abs=ROUNDING)


def test_doubling_the_ood_samples_changes_aupr_and_nothing_else() -> None:
    inside, outside = two_sets(ties=True)
    twice = np.r_[outside, outside]
    assert auroc(inside, twice) == pytest.approx(auroc(inside, outside), abs=ROUNDING)
    assert tnr_at_tpr(inside, twice) == pytest.approx(tnr_at_tpr(inside, outside), abs=ROUNDING)
    assert aupr(inside, twice, positive="in") < aupr(inside, outside, positive="in") - 0.05


@pytest.mark.parametrize("ties", [False, True])
def test_tnr_is_one_minus_the_fpr_of_in_distribution(ties: bool) -> None:
    inside, outside = two_sets(ties)
    assert tnr_at_tpr(inside, outside) == pytest.approx(1 - fpr_at_tpr(inside, outside, positive="in"), abs=ROUNDING)
    assert fpr_at_tpr(inside, outside, positive="out") == fpr_at_tpr(-outside, -inside, positive="in")


@pytest.mark.parametrize("n", [1, 7, 19, 20, 21, 40, 1000])
@pytest.mark.parametrize("tpr", [0.05, 0.5, 0.95, 1.0])
def test_threshold_at_tpr_is_the_highest_threshold_that_accepts_enough_inputs(n: int, tpr: float) -> None:
    inside = np.random.default_rng(n).normal(size=n)
    enough = [t for t in inside if (inside >= t).mean() >= tpr - ROUNDING]
    assert threshold_at_tpr(inside, tpr) == max(enough)


def test_auroc_lies_within_the_bounds_set_by_tnr_at_95_tpr() -> None:
    for seed in range(200):
        inside, outside = two_sets(ties=seed % 2 == 0, n_in=20 * (1 + seed % 5), n_out=1 + seed, seed=seed)
        metrics.ood_row(inside, outside)  # raises when they contradict each other


def test_ood_row_refuses_an_auroc_that_contradicts_its_tnr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "auroc", lambda inside, outside: 0.2)
    with pytest.raises(ArithmeticError, match="cannot come from one set of scores"):
        metrics.ood_row(10 + np.arange(40.0), np.arange(5.0))


def test_the_bounds_of_auroc_contradict_a_printed_row_of_the_mass_paper() -> None:
    row = {"table": "table2", "method": "Energy", "in_set": "cifar10", "out_set": "inaturalist"}
    (area,) = reported("mass", metric="auroc", **row)
    (tnr,) = reported("mass", metric="tnr_at_95tpr", **row)
    assert (area.value, tnr.value) == (0.647, 0.872)
    half_digit = 0.0005
    assert not metrics.is_consistent(area.value, tnr.value, tolerance=half_digit)
    assert metrics.is_consistent(0.968, 0.994, tolerance=half_digit)  # the row of the paper's own method


def test_the_papers_spread_is_the_sample_standard_deviation_over_seeds() -> None:
    """Two perfect and three inverted runs give 58.41 +- 37.96 as printed, which is ddof = 1."""
    runs = [100, 100, 30.69, 30.69, 30.69]
    row = {"in_set": "cifar10", "out_set": "oodomain", "method": "CD"}
    (printed,) = reported("ebm", table="table6", metric="aupr", **row)
    assert (printed.value, printed.std) == (0.5841, 0.3796)
    assert round(np.mean(runs), 2) == 58.41
    assert round(np.std(runs, ddof=1), 2) == 37.96


@pytest.mark.parametrize("dims", [1, 784, 3072])
def test_the_uniform_density_costs_eight_bits_per_dimension(dims: int) -> None:
    assert metrics.bits_per_dim(np.zeros(3), dims) == pytest.approx([8, 8, 8], abs=ROUNDING)
    halves = metrics.bits_per_dim(dims * math.log(2), dims)  # twice the density in every dimension: one bit less
    assert halves == pytest.approx(7, abs=ROUNDING)


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Two unit Gaussians one apart have AUROC = Phi(1 / sqrt 2)."""
    truth = NormalDist().cdf(1 / math.sqrt(2))
    random = np.random.default_rng(0)
    runs = 200
    covered = 0
    for seed in range(runs):
        low, high = metrics.bootstrap_interval(
            auroc, random.normal(1, 1, 80), random.normal(0, 1, 80), level=0.9, resamples=150, seed=seed
        )
        covered += low <= truth <= high
    four_standard_errors = 4 * math.sqrt(0.9 * 0.1 / runs)
    assert abs(covered / runs - 0.9) < four_standard_errors


def test_bootstrap_is_the_same_for_the_same_seed() -> None:
    inside, outside = two_sets()
    first, second, other = (metrics.bootstrap_interval(auroc, inside, outside, seed=s, resamples=50) for s in (0, 0, 1))
    assert first == second != other


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_or_infinite_scores_raise_an_error_with_their_number(bad: float) -> None:
    good, spoilt = [1.0, 2.0, 3.0], [1.0, bad, bad]
    for metric in (auroc, tnr_at_tpr, metrics.ood_row):
        with pytest.raises(FloatingPointError, match="scores_in: 2 of 3"):
            metric(spoilt, good)
        with pytest.raises(FloatingPointError, match="scores_out: 2 of 3"):
            metric(good, spoilt)
    with pytest.raises(FloatingPointError, match="scores_out: 2 of 3"):
        aupr(good, spoilt, positive="in")


def test_metrics_refuse_empty_scores_wrong_shapes_and_unknown_positive_classes() -> None:
    with pytest.raises(ValueError, match="non-empty"):
        auroc([], [1.0])
    with pytest.raises(ValueError, match="shape \\(1, 1\\)"):
        auroc([[1.0]], [1.0])
    with pytest.raises(ValueError, match="'in' or 'out', got 'ood'"):
        aupr([1.0], [0.0], positive="ood")
    with pytest.raises(TypeError, match="positive"):
        aupr([1.0], [0.0])
    with pytest.raises(ValueError, match="tpr"):
        tnr_at_tpr([1.0], [0.0], tpr=95)
    with pytest.raises(ValueError, match="dims"):
        metrics.bits_per_dim(0.0, 0)


def test_ood_table_has_one_row_per_ood_set() -> None:
    inside, outside = two_sets()
    table = metrics.ood_table({"digits": inside, "noise": outside, "same": inside}, in_set="digits")
    assert list(table) == ["noise", "same"]
    assert table["noise"] == metrics.ood_row(inside, outside)
    assert table["same"]["auroc"] == 0.5
    with pytest.raises(ValueError, match="'letters'"):
        metrics.ood_table({"digits": inside}, in_set="letters")


def test_reported_has_every_printed_number_and_rates_as_fractions() -> None:
    rows = [row for paper in ("ebm", "mass", "nae", "cmg", "hier") for row in reported(paper)]
    assert len(rows) == 1516
    rates = [row for row in rows if row.metric in ("auroc", "aupr", "tnr_at_95tpr")]
    assert len(rates) > 1300
    assert all(0 <= row.value <= 1 and (row.std is None or 0 <= row.std < 0.5) for row in rates)
    assert {(row.bound, row.value) for row in rows if row.bound} == {(">", 0.8), ("<", 0.05)}


def test_a_lookup_of_an_unprinted_number_is_refused_with_the_nearest_printed_one() -> None:
    with pytest.raises(ValueError, match="the nearest are nae"):
        reported("nea")
    with pytest.raises(ValueError, match="inaturalist"):
        reported("mass", out_set="inaturalists")
    with pytest.raises(ValueError, match="in_set, out_set or metric, got 'dataset'"):
        reported("mass", dataset="cifar10")
