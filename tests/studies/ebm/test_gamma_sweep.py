"""The gamma sweep: rows trained on, outside sets, printed and released recipes, claims, rays and figures."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from oodlab import data
from oodlab.models import WideResNet
from oodlab.models.wide_resnet import LeakyReLU, WideBlock
from oodlab.studies.ebm.gamma_sweep.figure import density_along_rays, metrics_by_gamma
from oodlab.studies.ebm.gamma_sweep.inside import FACTS, OODOMAIN, TASKS
from oodlab.studies.ebm.gamma_sweep.setting import (
    GAMMAS,
    LOSSES,
    NORM,
    RISE,
    RISING,
    SCORE,
    STUDY,
    Energies,
    Rays,
    along_rays,
    by_gamma,
    change,
    more_rise,
    most_rise,
    prepared,
    printed,
)
from oodlab.studies.ebm.tables import Scaling, TableEnergy, TableRows
from oodlab.study import HELD_OUT, Made, Recipe, evaluate
from oodlab.training.stored import untrained

BY_NAME = {task.inside: task for task in TASKS}


@pytest.fixture(autouse=True)
def _nothing_on_the_search_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path))
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))


def recipe(in_set: str, loss: str, gamma: float, source: str = "printed", profile: str = "full") -> Recipe:
    return Energies(loss, gamma, STUDY.at(profile).budget, source)(BY_NAME[in_set])["energy"]


# --------------------------------------------------------------------------------------------- data


def test_a_table_is_trained_on_the_classes_not_held_out_and_scaled_by_its_training_rows() -> None:
    task = BY_NAME["sensorless"].with_stand_ins()
    rows = TableRows(task.training(), 1000, seed=0).begin()
    assert rows.y.unique().tolist() == [0, 1] and len(rows.x) < 144
    assert torch.allclose(rows.x.amin(dim=0), -torch.ones(13)) and torch.allclose(rows.x.amax(dim=0), torch.ones(13))
    inputs = task.load(seed=0)
    assert torch.equal(prepared(inputs, {})(inputs.train.x), rows.x)


def test_columns_constant_in_training_are_left_out_of_every_row() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 9.0
    scaling = Scaling.fit(x)
    assert scaling(x).shape == (60, 2) and scaling(torch.ones(4, 3)).shape == (4, 2)


def test_all_rows_of_held_out_classes_are_in_the_outside_set_and_none_in_training() -> None:
    task = BY_NAME["segment"].with_stand_ins()
    inputs = task.load(seed=0)
    held_out = {tuple(row) for row in data.load("wine", "all", only=2).x.tolist()}
    assert {tuple(row) for row in inputs.outside[HELD_OUT].x.tolist()} == held_out
    assert not held_out & {tuple(row) for row in [*inputs.train.x.tolist(), *inputs.test.x.tolist()]}


@pytest.mark.parametrize("in_set", list(BY_NAME))
def test_sets_without_files_are_replaced_by_embedded_stand_ins(in_set: str) -> None:
    (task,) = STUDY.at("smoke", dataset=in_set).played
    facts, inputs = FACTS[task.inside], task.load(n=10, seed=0)
    assert task.stand_in_for == in_set and "stand-in" in task.sentence
    assert set(inputs.outside) >= {"noise", "constant"}
    assert (OODOMAIN in inputs.outside) == bool(task.shape)
    x = prepared(inputs, {})(inputs.test.x)
    for name in inputs.prepared:
        assert inputs.outside[name].x.shape == x.shape, "a model's input already"
    for source, loss, gamma in product(STUDY.sources, LOSSES, (0.0, 1.0)):
        one = Energies(loss, gamma, STUDY.at("smoke").budget, source)(task)["energy"]
        batch = one.batches.begin()(0, torch.Generator().manual_seed(0))
        assert batch["x"].shape[1:] == x.shape[1:]
        assert untrained(one).logits(x).shape == (len(x), facts.classes if gamma else 1)
        assert int(batch["y"].max()) < facts.classes


def test_oodomain_is_the_stored_images_without_scaling() -> None:
    (task,) = STUDY.at("smoke", dataset="fashion_mnist").played
    inputs = task.load(n=40, seed=0)
    x = inputs.outside[OODOMAIN].x
    assert x.dtype == torch.float32 and float(x.max()) > 100 and x.shape == (40, *task.shape)
    stored = data.as_shape(data.load("photo_patches", "test").x, task.shape).float()
    assert {tuple(one) for one in x.flatten(1).tolist()} <= {tuple(one) for one in stored.flatten(1).tolist()}


def test_a_made_set_is_absent_where_its_source_set_is_absent(tmp_path: Path) -> None:
    images = np.zeros((10, 1, 28, 28), np.uint8)
    for name in ("fashion_mnist", "mnist"):
        for split in ("train", "test"):
            (tmp_path / name).mkdir(exist_ok=True)
            np.savez(tmp_path / name / f"{split}.npz", x=images, y=np.arange(10))
    task = BY_NAME["fashion_mnist"]
    assert set(task.here().outsides()) == {"mnist", *(one.name for one in task.outside if isinstance(one, Made))} - {
        OODOMAIN
    }
    assert "left out: kmnist, notmnist (oodlab data kmnist notmnist)" in task.sentence


def test_made_inputs_of_the_released_source_have_the_released_ranges_and_values() -> None:
    (task,) = STUDY.at("smoke", dataset="segment").played
    outside = task.load(n=200, seed=0).outside
    for name in ("uniform noise", "wide constant"):
        x = outside[name].x
        assert -5 <= float(x.min()) < -4 and 4 < float(x.max()) <= 5
    constant = outside["wide constant"].x
    assert torch.equal(constant, constant[:, :1].expand_as(constant))
    (task,) = STUDY.at("smoke", dataset="cifar10").played
    assert task.load(n=40, seed=0).outside["grey levels"].x.dtype == torch.uint8  # scaled like any image


def test_rows_compare_sets_of_equal_size_and_equal_sizes_enter_their_keys() -> None:
    """Subsets are drawn at random and not cut off, because rows come sorted by class."""
    study = STUDY.at("smoke", dataset="segment")
    study = replace(study, budgets={"smoke": replace(study.budget, gammas=(0.0,), test_items=None)})
    rows = evaluate(study)
    held_out = rows[rows["out_set"] == HELD_OUT]
    assert (held_out["n_in"] == held_out["n_out"]).all() and (held_out["n_in"] == 13).all()  # of 48 held out
    unequal = replace(study, tasks=(replace(study.tasks[0], equal_sizes=False),))
    other = evaluate(unequal)
    assert set(other["key"]).isdisjoint(rows["key"])
    assert (other.loc[other["out_set"] == HELD_OUT, "n_out"] == 48).all()


# ------------------------------------------------------------------------------ printed and released


def test_gamma_zero_builds_a_network_with_one_output_and_released_ssm_has_no_gamma_zero() -> None:
    for source in STUDY.sources:
        names = {method.name for method in STUDY.at("full", source).chosen}
        assert names == {f"{loss} γ={gamma:g}" for loss in LOSSES for gamma in GAMMAS} - (
            {"SSM γ=0"} if source == "released" else set()
        )
    assert recipe("segment", "CD", 0.0).model.outputs == 1
    assert recipe("segment", "CD", 0.01).model.outputs == 6
    assert recipe("cifar10", "VERA", 1.0).model.energy.outputs == 10


def test_the_released_codes_loss_weights_reach_the_objective() -> None:
    def weight(loss: str, source: str) -> float:
        return recipe("cifar10", loss, 10.0, source).objective.gamma

    assert [weight(loss, "printed") for loss in LOSSES] == [10, 10, 10]
    assert [weight(loss, "released") for loss in LOSSES] == [
        10,
        10 * 3 * 32,
        1000,
    ]  # SSM: a mean over channels and rows
    assert weight("VERA", "released") == 100 * 10
    assert recipe("segment", "VERA", 10.0, "released").objective.gamma == 10
    rewarded = {
        (loss, in_set)
        for loss, in_set in product(LOSSES, BY_NAME)
        if recipe(in_set, loss, 1.0, "released").objective.entropy_weight
    }
    assert rewarded == {("CD", "fashion_mnist"), ("CD", "cifar10")}


@pytest.mark.parametrize("profile", ["smoke", "quick", "full"])
def test_the_released_gradient_penalty_is_divided_by_the_squared_batch_size(profile: str) -> None:
    printed_one, released = (recipe("segment", "VERA", 1.0, source, profile) for source in STUDY.sources)
    assert printed_one.objective.generative.gradient_penalty == 0.1
    wanted = 0.1 / released.batches.batch_size**2
    assert released.objective.generative.gradient_penalty == pytest.approx(wanted)


def test_released_chains_follow_the_density_of_a_class_and_are_shorter() -> None:
    printed_one, released = (recipe("fashion_mnist", "CD", 1.0, source).objective for source in STUDY.sources)
    for objective, classes, steps in ((printed_one, 1, 100), (released, 10, 20)):
        negatives = objective.generative.negatives
        assert (negatives.classes, negatives.chain.steps) == (classes, steps)
        assert negatives.capacity % classes == 0 and objective.generative.l2 == 1
    assert recipe("sensorless", "CD", 1.0, "released").objective.generative.negatives.capacity == 9000
    assert recipe("fashion_mnist", "CD", 0.0, "released").objective.generative.negatives.chain.steps == 100


def test_learning_rates_noise_and_warm_up_differ_between_printed_and_released_recipes() -> None:
    text, code = (recipe("cifar10", "CD", 1.0, source) for source in STUDY.sources)
    assert (text.optimiser.lr, code.optimiser.lr) == (1e-3, 1e-4)
    assert text.batches.transform.augment.noise_std == pytest.approx(math.sqrt(0.1), abs=1e-4)
    assert code.batches.transform.augment.noise_std == 0.1
    text, code = (recipe("cifar10", "VERA", 1.0, source) for source in STUDY.sources)
    assert (text.optimiser.lr, text.optimiser.lr_of["generator"]["lr"], text.warm_up) == (3e-4, 6e-4, 2500)
    assert (code.optimiser.lr, code.optimiser.lr_of["generator"]["lr"], code.warm_up) == (3e-5, 6e-5, 0)
    assert text.batches.transform.augment.noise_std == 0
    assert recipe("segment", "VERA", 1.0, "released").optimiser.lr == 1e-3
    assert (text.steps, text.batches.batch_size, text.batches.stored.n) == (70_300, 32, 45_000)
    assert recipe("segment", "SSM", 1.0).steps == 10_000


# ------------------------------------------------------------------------------------- what is claimed


def made_rows(aupr: dict[tuple[float, str], float], **more: object) -> pd.DataFrame:
    rows = [
        {"method": f"CD γ={gamma:g}", "out_set": out, "seed": seed, "aupr_in": value * (1 + seed)}
        for (gamma, out), value in aupr.items()
        for seed in (0, 1)
    ]
    common = {"score": SCORE, "in_set": BY_NAME["segment"].name, "source": "printed", "profile": "quick"}
    return pd.DataFrame(rows).assign(**{**common, **more})


def test_the_change_by_labels_is_the_mean_relative_change_as_in_table_2() -> None:
    rows = made_rows(
        {(0.0, HELD_OUT): 0.2, (1.0, HELD_OUT): 0.3, (0.0, "noise"): 0.4, (1.0, "noise"): 0.2, (0.0, "constant"): 0.4}
        | {(1.0, "constant"): 0.4, (0.0, "wide constant"): 0.1, (1.0, "wide constant"): 0.9}
    )
    which = {"loss": "CD", "in_set": "segment"}
    assert change(rows, **which, natural=True).tolist() == pytest.approx([0.5, 0.5])
    assert change(rows, **which, natural=False).tolist() == pytest.approx([-0.25, -0.25]), "not the released made input"
    assert change(rows[rows["method"] == "CD γ=1"], **which, natural=True).empty
    assert change(rows.assign(in_set="wine without 2 for segment"), **which, natural=True).empty, "no stand-in"


def test_claims_have_the_sign_that_table_2_prints() -> None:
    """For rows with the paper's own numbers, every claim of table 2 holds that its tables 5 and 6 support."""
    from oodlab import metrics

    rows = []
    for one in metrics.reported("ebm"):
        if one.table in ("table5", "table6") and one.method in (*LOSSES, *(f"{loss}-S" for loss in LOSSES)):
            gamma = 1 if one.method.endswith("-S") else 0
            out_set = HELD_OUT if one.out_set.startswith(one.in_set) else one.out_set
            row = {"method": f"{one.method.removesuffix('-S')} γ={gamma}", "in_set": BY_NAME[one.in_set].name}
            rows.append({**row, "out_set": out_set, "seed": 0, "aupr_in": one.value})
    frame = pd.DataFrame(rows).assign(score=SCORE, source="printed", profile="full")
    claims = [claim for claim in STUDY.claims if claim.where.startswith("table 2")]
    assert len(claims) == 19
    for claim in claims:
        (number,) = claim.number(frame)
        assert number > 0, claim.sentence


def test_printed_numbers_exist_for_gamma_zero_and_one_and_for_no_other_gamma() -> None:
    row = {"method": "SSM γ=1", "in_set": BY_NAME["sensorless"].name, "out_set": HELD_OUT, "source": "printed"}
    named = {"table": "table5", "method": "SSM-S", "in_set": "sensorless", "out_set": "sensorless_10_11"}
    assert printed(row) == named
    assert printed({**row, "method": "SSM γ=0", "out_set": "noise"})["table"] == "table6"
    assert printed({**row, "method": "SSM γ=0.1"}) is None
    assert printed({**row, "out_set": "wide constant"}) is None


# -------------------------------------------------------------------------------------------------- rays


class Linear(nn.Module):
    """log p = w x."""

    def __init__(self, w: list[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def log_density(self, x: Tensor) -> Tensor:
        return x @ self.w


def test_rays_are_measured_exactly_where_the_density_is_linear() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    given = SimpleNamespace(models={"energy": Linear([1.0, -1.0])}, test=x, prepare=torch.as_tensor)
    found = Rays(3, (10.0, 100.0))(given)
    assert found[f"{RISE}10"] == pytest.approx(-9)  # rises 9, -9, -9
    assert found[f"{RISE}100"] == pytest.approx(-99)
    assert (found[RISING], found[NORM]) == (pytest.approx(1 / 3), pytest.approx(7 / 3))
    assert Rays(2, (10.0,))(given)[RISING] == 0.5, "the first and the last of them"


def test_a_piecewise_linear_energy_becomes_linear_along_rays(generator: torch.Generator) -> None:
    """The sign of the limit of f(a x) / a, here (f(2 a x) - f(a x)) / a, decides whether far inputs are likely."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TableEnergy(3, (20, 20), 1, nn.ReLU)().double()
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    slopes = [(model.log_density(2 * a * x) - model.log_density(a * x)) / a for a in (1e4, 1e5)]
    assert torch.allclose(*slopes, atol=1e-6)
    assert torch.allclose(model.log_density(1e6 * x) / 1e6, slopes[0], atol=1e-5)
    assert slopes[0].abs().min() > 0


def made_numbers() -> pd.DataFrame:
    shares = {"CD γ=0.01": 0.25, "CD γ=100": 0.75}
    numbers = [
        {"method": method, "seed": seed, "quantity": quantity, "value": value}
        for method, share in shares.items()
        for seed in (0, 1)
        for quantity, value in {RISING: share, NORM: 2.0, f"{RISE}10": 5.0, f"{RISE}1000": 7.0}.items()
    ]
    return pd.DataFrame(numbers).assign(in_set="segment without 5", source="printed", profile="quick")


def test_claims_on_rays_compare_shares_of_rays() -> None:
    both = pd.concat([made_rows({(0.0, HELD_OUT): 0.2}), made_numbers()])
    assert most_rise(both, loss="CD").tolist() == [0.25, 0.25]
    assert more_rise(both, loss="CD").tolist() == [0.5, 0.5]
    assert most_rise(both, loss="SSM").empty and most_rise(made_rows({(0.0, HELD_OUT): 0.2}), loss="CD").empty


# ----------------------------------------------------------------------------------------------- figures


def drawn_rows() -> pd.DataFrame:
    rows = [
        {"method": f"{loss} γ={gamma:g}", "out_set": out, "seed": seed, "aupr_in": 0.5, "aupr_out": 0.6, "auroc": area}
        for loss in ("CD", "VERA")
        for gamma in GAMMAS
        for out in (HELD_OUT, "noise", "wide constant")
        for seed, area in enumerate((0.2, 0.4))
    ]
    rows = by_gamma(pd.DataFrame(rows).assign(in_set="segment without 5", source="printed"))
    return rows.assign(printed=np.where(rows["gamma"].isin([0, 1]) & rows["natural"], 0.9, np.nan))


def test_gamma_zero_is_drawn_apart_with_a_dot_per_seed_and_a_line_for_the_mean() -> None:
    fig = metrics_by_gamma(drawn_rows())
    assert len(fig.axes) == 2 * 2 * 3
    zero, axis = fig.axes[4:6]  # AUROC of the first loss
    assert axis.get_xscale() == "log" and zero.get_xlim()[0] < 0
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert {y for line in dots for y in line.get_ydata()} == {0.2, 0.4}
    assert min(min(line.get_xdata()) for line in dots) == GAMMAS[1]
    assert [set(line.get_xdata()) for line in zero.lines if line.get_marker() == "o"] == [{0.0}] * 2
    means = {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
    assert {name: line.get_linestyle() for name, line in means.items()} == {HELD_OUT: "-", "noise": "--"}
    assert means["noise"].get_xdata().tolist() == list(GAMMAS[1:])
    assert np.allclose(means["noise"].get_ydata(), 0.3)


def test_the_papers_numbers_are_hollow_diamonds_in_the_two_columns_of_aupr_only() -> None:
    fig = metrics_by_gamma(drawn_rows())
    for i, ax in enumerate(fig.axes[:6]):
        diamonds = [line for line in ax.lines if line.get_marker() == "D"]
        points = [(x, y) for line in diamonds for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        assert points == ([] if i >= 4 else [(i % 2, 0.9)])
        assert all(line.get_markerfacecolor() == "none" for line in diamonds)
    assert fig.legends[0].get_texts()[-1].get_text() == "paper"


def test_ray_figures_have_a_panel_per_loss_and_gamma() -> None:
    curves = along_rays(made_numbers())
    assert curves["norm"].tolist() == [20, 2000] * 4
    fig = density_along_rays(pd.concat([curves, curves.assign(loss="SSM", gamma=0.0)]))
    cd, ssm = fig.axes
    assert [tuple(line.get_ydata()) for line in cd.lines[:4]] == [(5.0, 7.0)] * 4
    assert cd.lines[0].get_color() is not cd.lines[2].get_color()
    assert ssm.lines[0].get_linestyle() == "--" and cd.get_shared_y_axes().joined(cd, ssm)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["0", "0.01", "100"]


# ---------------------------------------------------------------------------------- on one processor core


def test_a_strided_shortcut_is_the_strided_convolution(generator: torch.Generator) -> None:
    """The shortcut takes every other pixel and then a 1x1 convolution, which equals a 1x1 convolution of stride 2."""
    block = WideBlock(4, 8, 2, LeakyReLU)
    x = torch.randn(3, 4, 7, 8, generator=generator)
    strided = nn.functional.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    assert torch.allclose(block(x) - block.branch(x), strided, atol=1e-6)


def test_narrow_networks_train_on_one_thread() -> None:
    assert WideResNet(channels=1, outputs=1, width=4).one_thread and not WideResNet(channels=1, outputs=1).one_thread
