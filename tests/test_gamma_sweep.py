"""The gamma sweep: whose rows are trained on, what is asked, how it is drawn, and where rays lead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from oodlab import data, plotting
from oodlab.presets import ebm
from oodlab.presets.ebm.gamma_sweep import GAMMAS, sweep, table_energy
from oodlab.presets.ebm.sweep_data import inputs_for, scaled_table


@pytest.fixture(autouse=True)
def _nothing_on_the_search_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path))
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "cache"))


def test_a_table_is_trained_on_the_other_classes_scaled_by_its_training_rows() -> None:
    table = scaled_table("wine", (0,))
    assert table.y.unique().tolist() == [0, 1]
    assert torch.allclose(table.x.amin(dim=0), -torch.ones(13))
    assert torch.allclose(table.x.amax(dim=0), torch.ones(13))
    stored = data.load("wine", "train", without=0)
    assert torch.equal(table.scale(stored.x), table.x)
    assert not set(data.load("wine", "all", only=0).y.tolist()) & set(stored.y.tolist())


@pytest.mark.parametrize("in_set", ["segment", "sensorless", "fashion_mnist", "cifar10"])
def test_sets_without_files_are_played_with_embedded_ones(in_set: str) -> None:
    experiment = sweep(in_set)
    assert all(key.split()[0] == in_set for key in experiment.runs)
    run = experiment.at("smoke").runs[f"{in_set} CD 1"]
    inputs = inputs_for(run, n=10, seed=0)
    batch = run.batches()(0, torch.Generator().manual_seed(0))
    x, y = batch["x"], batch["y"]
    assert inputs.inside.shape[1:] == x.shape[1:]
    assert {len(inputs.inside)} == {len(out) for out in inputs.outs.values()}, "AUPR depends on the ratio"
    assert set(inputs.natural) == set(inputs.outs) - {"noise", "constant", "oodomain"}
    assert int(y.max()) < run.model.keywords["outputs"]
    assert any(info.stand_in_for for info in inputs.infos)
    assert "stand-in" in inputs.sentence


def test_columns_constant_in_training_are_left_out_of_every_row(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[:, 1] = 9.0
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(60) % 3)
    table = scaled_table(str(tmp_path / "own.npz"), (2,))
    assert table.x.shape[1] == 2
    assert table.scale(torch.ones(4, 3)).shape == (4, 2)


def test_held_out_rows_are_asked_about_and_no_others() -> None:
    run = sweep("sensorless").at("smoke").runs["sensorless SSM 1"]
    assert run.batches.keywords["without"] == (0,)
    inputs = inputs_for(run, n=1000, seed=0)
    scale = scaled_table("wine", (0,)).scale
    held_out = {tuple(row) for row in scale(data.load("wine", "all", only=0).x).tolist()}
    tested = {tuple(row) for row in scale(data.load("wine", "test", without=0).x).tolist()}
    assert {tuple(row) for row in inputs.outs["wine_0"].tolist()} <= held_out
    assert {tuple(row) for row in inputs.inside.tolist()} == tested


def test_sets_of_unequal_size_are_cut_to_the_smallest() -> None:
    run = sweep("fashion_mnist").at("smoke").runs["fashion_mnist CD 0"]
    inputs = inputs_for(run, n=1000, seed=0)
    assert len(inputs.inside) == 358  # of scikit-learn's digits
    assert {len(out) for out in inputs.outs.values()} == {358}


def test_images_are_asked_about_in_their_scale_and_oodomain_is_not() -> None:
    run = sweep("fashion_mnist").at("smoke").runs["fashion_mnist CD 0"]
    inputs = inputs_for(run, n=10, seed=0)
    for name in inputs.natural:
        assert inputs.outs[name].abs().max() <= 1
    assert inputs.outs["oodomain"].max() > 100
    assert torch.equal(inputs.outs["oodomain"] / 127.5 - 1, inputs.outs[inputs.natural[0]])


def test_gamma_zero_has_one_output_and_the_refused_training_is_left_out() -> None:
    for key, run in ebm.GAMMA_SWEEP.runs.items():
        gamma = float(key.split()[2])
        assert (run.model.keywords["outputs"] == 1) == (gamma == 0)
        assert run.objective.keywords["gamma"] == gamma
    left_out = set(ebm.GAMMA_SWEEP.runs) - set(ebm.GAMMA_SWEEP_RELEASED.runs)
    assert left_out == {"segment SSM 0", "sensorless SSM 0"}
    vera = ebm.GAMMA_SWEEP_CIFAR10_RELEASED.runs["cifar10 VERA 0.1"]
    assert vera.objective.keywords["gamma"] == pytest.approx(10)  # the released weight of the classes is 100


def test_the_released_gradient_penalty_is_divided_by_the_squared_batch_size() -> None:
    for profile in ("smoke", "quick", "paper"):
        run = ebm.GAMMA_SWEEP_RELEASED.at(profile).runs["segment VERA 1"]
        settings = run.objective.keywords["generative"].keywords
        assert settings["gradient_penalty"] == pytest.approx(0.1 / run.batches.keywords["batch_size"] ** 2)


def test_an_unknown_set_or_version_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'mnist' and 'paper'"):
        sweep("mnist")
    with pytest.raises(ValueError, match="got 'segment' and 'release'"):
        sweep("segment", "release")


def test_a_piecewise_linear_energy_becomes_linear_along_rays(generator: torch.Generator) -> None:
    """f(a x) / a tends to a constant, whose sign decides whether far inputs are likely: (f(2 a x) - f(a x)) / a is it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = table_energy(features=3, hidden=(20, 20), outputs=1, activation=nn.ReLU).double()
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    slopes = [(model.log_density(2 * a * x) - model.log_density(a * x)) / a for a in (1e4, 1e5)]
    assert torch.allclose(*slopes, atol=1e-6)
    assert torch.allclose(model.log_density(1e6 * x) / 1e6, slopes[0], atol=1e-5)
    assert slopes[0].abs().min() > 0


def sweep_rows() -> list[dict]:
    return [
        {"method": method, "gamma": gamma, "out_set": out, "seed": seed, "aupr_in": 0.5, "aupr_out": 0.6, "auroc": area}
        for method in ("CD", "VERA")
        for gamma in GAMMAS
        for out in ("held_out", "noise")
        for seed, area in enumerate((0.2, 0.4))
    ]


def test_gamma_zero_is_drawn_apart_with_a_dot_per_seed_and_a_line_for_the_mean() -> None:
    fig = plotting.metrics_by_gamma(sweep_rows(), ["held_out"])
    assert len(fig.axes) == 2 * 2 * 3
    zero, axis = fig.axes[4:6]  # AUROC of the first method
    assert axis.get_xscale() == "log"
    assert zero.get_xlim()[0] < 0
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert {tuple(line.get_ydata()) for line in dots} == {(0.2, 0.4)}
    assert min(min(line.get_xdata()) for line in dots) == GAMMAS[1]
    assert [tuple(line.get_xdata()) for line in zero.lines if line.get_marker() == "o"] == [(0, 0)] * 2
    means = {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
    assert {name: line.get_linestyle() for name, line in means.items()} == {"held_out": "-", "noise": "--"}
    assert means["noise"].get_xdata().tolist() == list(GAMMAS[1:])
    assert np.allclose(means["noise"].get_ydata(), 0.3)


def test_rays_are_drawn_per_method_and_gamma() -> None:
    curves = {"CD": {0.0: [[0.0, 1.0]], 10.0: [[0.0, -5.0], [0.0, -6.0]]}, "SSM": {0.01: [[0.0, 2.0]]}}
    fig = plotting.density_along_rays(curves, [1.0, 1000.0])
    cd, ssm = fig.axes
    assert [tuple(line.get_ydata()) for line in cd.lines[:3]] == [(0.0, 1.0), (0.0, -5.0), (0.0, -6.0)]
    assert cd.lines[1].get_color() is not None
    assert cd.get_shared_y_axes().joined(cd, ssm)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["0", "0.01", "10"]


def test_a_smaller_set_is_drawn_anew_and_not_cut_off() -> None:
    """Rows come sorted by class: the first so many of a larger draw would all be of one."""
    run = sweep("cifar10").at("smoke").runs["cifar10 CD 1"]  # photo_patches, two photos one after the other
    inputs = inputs_for(run, n=1000, seed=0)
    assert len(inputs.inside) == len(data.load("digits", "test"))
    whole = data.task("cifar10", ["svhn"], shape=(3, 8, 8), n=len(inputs.inside), seed=0)
    assert torch.equal(inputs.inside, data.scale_signed(whole.test.x))
    assert len(whole.test.y.unique()) == 2


@pytest.mark.parametrize(
    ("in_set", "lowest", "highest"), [("segment", -5.0, 5.0), ("cifar10", -1.0, 1.0)], ids=["table", "images"]
)
def test_released_synthetic_sets_are_the_released_ones(in_set: str, lowest: float, highest: float) -> None:
    run = sweep(in_set, "released").at("smoke").runs[f"{in_set} CD 1"]
    inputs = inputs_for(run, n=40, seed=0, version="released")
    assert set(inputs.outs) - set(inputs.natural) - {"oodomain"} == {"noise", "noise_uniform", "constant"}
    for name in ("noise_uniform", "constant"):
        x = inputs.outs[name]
        assert lowest <= float(x.min()) < 0.6 * lowest and 0.6 * highest < float(x.max()) <= highest
    constant = inputs.outs["constant"].flatten(1)
    assert torch.equal(constant, constant[:, :1].expand_as(constant))


def test_the_released_codes_own_weights_reach_the_objective() -> None:
    paper, released = (sweep("cifar10", version).runs for version in ("paper", "released"))
    weights = {key: run.objective.keywords["gamma"] for key, run in released.items()}
    assert weights["cifar10 CD 10"] == 10
    assert weights["cifar10 VERA 10"] == 1000
    assert weights["cifar10 SSM 10"] == 10 * 3 * 32  # its generative loss is averaged over channels and rows
    assert {run.objective.keywords["gamma"] for run in paper.values()} == set(GAMMAS)
    rewarded = {key.split()[1] for key, run in released.items() if run.objective.keywords["entropy_weight"]}
    assert rewarded == {"CD"}
