"""The study ebm/smoothness: its images, recipes, measures, claims and figure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from oodlab import data, plotting
from oodlab.models import JointEnergy
from oodlab.objectives import WithLabels
from oodlab.studies.ebm.images import ImageEnergy, SignedImages
from oodlab.studies.ebm.smoothness import setting as smooth
from oodlab.studies.ebm.smoothness.figure import log_density_panels
from oodlab.study import Measured, decide

TASK = smooth.STUDY.tasks[0]


class Paleness(nn.Module):
    """f(x) = -mean x^2: low contrast is likely."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return -self.scale * x.square().mean((1, 2, 3))[:, None]


# ------------------------------------------------------------------------------------- the images


def test_average_pooling_divides_the_contrast_by_the_pool_size_and_stretching_restores_it() -> None:
    """The variance of uniform noise in [-1, 1] is 1/3, of a mean over k x k pixels 1/(3 k^2)."""
    raw, equal = smooth.smooth_images(400), smooth.smooth_images(400, contrast=False)
    for k in (2, 4, 16):  # those that divide 32
        blocks = 400 * (32 // k) ** 2
        five_errors = 5 / (2 * blocks) ** 0.5
        assert float(raw[f"k = {k}"].std()) == pytest.approx((1 / 3) ** 0.5 / k, rel=five_errors)
        assert float(equal[f"k = {k}"].std()) == pytest.approx((1 / 3) ** 0.5 / 2, rel=five_errors)
    assert torch.equal(raw["k = 3"], smooth.smooth_images(400)["k = 3"])  # the same at every call


def test_a_smoothness_order_caused_by_contrast_alone_vanishes_at_equal_contrast() -> None:
    orders = smooth.Orders(100)()(JointEnergy(Paleness()))
    assert float(orders["raw"]) > 0.95
    assert abs(float(orders["equal contrast"])) < 0.3  # of k = 16 the median lies above the mean: four blocks scatter


def test_the_smoothness_order_is_one_where_every_smoother_image_scores_higher() -> None:
    rising = {f"k = {k}": np.full(5, float(k)) for k in smooth.POOLS}
    assert smooth.order(rising) == pytest.approx(1.0)
    assert smooth.order({name: -values for name, values in rising.items()}) == pytest.approx(-1.0)
    bent = {name: np.log(values) for name, values in rising.items()}
    assert smooth.order(bent) == pytest.approx(1.0)  # ranks alone count


def test_uniform_noise_has_roughness_one(generator: torch.Generator) -> None:
    noise = 2 * torch.rand(200, 1, 32, 32, generator=generator) - 1
    assert smooth.roughness(noise) == pytest.approx(1.0, abs=0.01)
    assert smooth.roughness(torch.full((3, 1, 32, 32), 0.4)) == 0.0
    assert smooth.roughness(torch.stack([noise[:, 0].transpose(1, 2)], 1) * 0.5) == pytest.approx(0.5, abs=0.01)


# ----------------------------------------------------------------------------------- the settings


def energies(profile: str, source: str) -> dict[str, Any]:
    study = smooth.STUDY.at(profile, source=source)
    return {method.name: method.recipes(TASK)["energy"] for method in study.chosen}


@pytest.mark.parametrize(
    ("source", "lr", "noise_std", "l2", "entropy", "classes", "steps"),
    [("printed", 1e-3, 0.3162, 0.0, 0.0, 1, 100), ("released", 1e-4, 0.1, 1.0, 1e-4, 10, 20)],
)
def test_recipes_at_full_have_the_numbers_of_their_source(
    source: str, lr: float, noise_std: float, l2: float, entropy: float, classes: int, steps: int
) -> None:
    recipes = energies("full", source)
    labelled = recipes["supervised"].objective
    assert isinstance(labelled, WithLabels)
    assert (labelled.gamma, labelled.entropy_weight) == (1.0, entropy)
    for name, recipe in recipes.items():
        generative = labelled.generative if name == "supervised" else recipe.objective
        replay = generative.negatives
        assert generative.l2 == l2
        assert (replay.capacity, replay.restart, replay.low, replay.high, replay.fifo) == (
            10_000,
            0.05,
            -1.0,
            1.0,
            False,
        )
        assert replay.classes == (classes if name == "supervised" else 1)
        assert (replay.chain.step_size, replay.chain.noise_std) == (1.0, 0.01)
        assert replay.chain.steps == (steps if name == "supervised" else 100)
        assert (recipe.steps, recipe.warm_up, recipe.batches.batch_size) == (50 * (54_000 // 64), 2500, 64)
        assert (recipe.optimiser.lr, recipe.batches.stored.n) == (lr, 54_000)
        assert recipe.batches.transform == SignedImages(data.Augment(15.0, 0.5, 4, noise_std))
        bottleneck = 0.2 if name == "bottleneck" else None
        assert recipe.model == ImageEnergy(1, 10 if name == "supervised" else 1, 10, 2, 16, bottleneck)


def test_stored_images_are_scaled_and_augmented_by_the_runs_generator() -> None:
    stored = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    plain = SignedImages(data.Augment())(stored, torch.Generator())
    assert (float(plain.min()), float(plain.max())) == (-1.0, 1.0)
    turned = SignedImages(data.Augment(degrees=15.0, noise_std=0.1))
    first, second, other = (turned(stored, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


# ----------------------------------------------------------------------------------- the measures


def given(labels: bool) -> Measured:
    """Return a made-up training that is measured: an energy of paleness, a replay of noise."""
    recipe = energies("smoke", "released")["supervised" if labels else "unsupervised"]
    model = JointEnergy(Paleness())
    probes = [
        {"step": step, "values": {"raw": torch.tensor(step / 9), "equal contrast": torch.tensor(0.1)}}
        for step in (0, 9)
    ]
    history = [{"step": step, "f_data": float(step), "f_negatives": 0.0, "loss": 1.0} for step in range(20)]
    objective = recipe.begin(model, {})
    smooth.replay_of(objective).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    result = SimpleNamespace(objective=objective, probes=probes, history=history)
    test = torch.full((30, 1, 32, 32), 255, dtype=torch.uint8)
    return Measured(TASK, {"energy": model}, {"energy": result}, test, test, data.scale_signed, 0, torch.device("cpu"))


@pytest.mark.parametrize("labels", [False, True])
def test_smoothness_measures_the_known_numbers_of_a_made_up_training(labels: bool) -> None:
    found = smooth.smoothness(given(labels))
    assert (found[smooth.UNTRAINED], found[smooth.RAW], found[smooth.EQUAL]) == (0.0, 1.0, pytest.approx(0.1))
    assert found[smooth.VARIATION] > 0.9
    assert found[smooth.ROUGHNESS] == pytest.approx(1.0, abs=0.05)
    assert found["roughness of data"] == 0.0
    assert found["f_data"] == 18.5  # the mean of the last tenth
    assert "accuracy" not in found
    assert [found[smooth.quantile_name(smooth.DATA, share)] for share in smooth.SHARES] == [-1.0] * len(smooth.SHARES)
    f = -smooth.smooth_images(30)["k = 3"].square().mean((1, 2, 3))
    assert found[smooth.quantile_name("k = 3", 0.5)] == pytest.approx(float(np.median(f)))


# ------------------------------------------------------------------------------ claims and figure


def made_up(orders: dict[str, float], positions: dict[str, float], seeds: int = 3) -> pd.DataFrame:
    """Return rows of made-up orders, and of data's median of f where the smoothest images have 0."""
    rows = [
        {"method": method, "seed": seed, "quantity": quantity, "value": value + 0.01 * seed, "profile": "long"}
        for seed in range(seeds)
        for method, order in orders.items()
        for quantity, value in {
            smooth.RAW: order,
            smooth.quantile_name(smooth.DATA, 0.5): positions[method],
            smooth.quantile_name("k = 16", 0.5): 0.0,
        }.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("holds", [True, False])
def test_the_smoothness_claims_hold_for_the_papers_numbers_and_fail_for_opposite_ones(holds: bool) -> None:
    """The paper's four peaks have the orders 1, -0.63 and 1; data lie 0.015 and 0.125 above them."""
    good = (
        {"unsupervised": 0.9, "supervised": -0.63, "bottleneck": 0.9},
        {"unsupervised": 0.015, "supervised": 0, "bottleneck": 0.125},
    )
    bad = (
        {"unsupervised": 0.4, "supervised": 0.5, "bottleneck": 0.9},
        {"unsupervised": 0.2, "supervised": 0, "bottleneck": 0.1},
    )
    rows = made_up(*(good if holds else bad))
    words = [decide(claim, rows).word for claim in smooth.CLAIMS]
    assert words == ["Reproduced" if holds else "Not reproduced"] * 3


def test_the_papers_peaks_have_the_orders_that_the_notebook_says() -> None:
    orders = {
        panel: smooth.order({k: np.array([peaks[k]]) for k in list(peaks)[:4]}) for panel, peaks in smooth.PEAKS.items()
    }
    assert {panel: round(order, 2) for panel, order in orders.items()} == {
        "unsupervised": 1.0,
        "supervised": -0.63,
        "unsupervised, with data": 1.0,
        "bottleneck, with data": 1.0,
    }


def test_the_figure_has_a_diamond_where_the_paper_has_its_peak() -> None:
    quantiles = {"k = 2": np.linspace(0, 1, 21), smooth.DATA: np.full(21, 0.7)}
    peaks = {"k = 2": 0.478, smooth.DATA: 0.503}
    fig = log_density_panels({"a": quantiles}, {"a": peaks}, data=smooth.DATA)
    diamonds = [line for line in fig.axes[0].lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert [float(line.get_xdata()[0]) for line in diamonds] == [0.478, 0.503]
    assert all(line.get_markerfacecolor() == "none" for line in diamonds)
    assert plotting.to_png(fig).startswith(b"\x89PNG")
