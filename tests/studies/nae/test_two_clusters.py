"""The study nae/two_clusters: its numbers, claims, figure and panel."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
import torch

from oodlab import grids, study, training
from oodlab.data import two_uniforms
from oodlab.studies.nae.two_clusters import setting as clusters
from oodlab.studies.nae.two_clusters.figure import Reconstructions, manifold_panels
from oodlab.studies.nae.two_clusters.panel import two_clusters_panel
from oodlab.study import Measured
from oodlab.training import Result


def numbers(values: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Return measured rows of values by quantity and method, a value per seed."""
    lines = [
        {"method": method, "quantity": quantity, "seed": seed, "value": value, "profile": "quick"}
        for quantity, by_method in values.items()
        for method, each in by_method.items()
        for seed, value in enumerate(each)
    ]
    return pd.DataFrame(lines)


def result_of(model: torch.nn.Module, objective: object) -> Result:
    return Result(model, objective, history=[], probes=[], step=0, seconds=0.0, rollbacks=0, finished=True)


class Quadratic(torch.nn.Module):
    """Model whose reconstruction error is x^2 / 2 per dimension, so that T is its variance."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = torch.nn.Parameter(torch.tensor(3.0))

    def reconstruction_error(self, x: torch.Tensor) -> torch.Tensor:
        return x.square().sum(dim=1) / 2

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        return -self.reconstruction_error(x) / self.log_temperature.exp()


class Line(torch.nn.Module):
    """Autoencoder whose manifold is the first axis: codes are first coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = torch.nn.Parameter(torch.tensor(0.0))

    temperature = property(lambda self: self.log_temperature.exp())

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, 0 * z], dim=1)

    def reconstruction_error(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.decode(self.encode(x))).square().mean(dim=1)

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        return -self.reconstruction_error(x) / self.temperature


def test_numbers_of_a_model_whose_manifold_is_an_axis_have_their_closed_forms() -> None:
    """The crossing lies on the manifold, so its error is 0; each unit of the first axis has a twelfth of the mass."""
    x = two_uniforms(4000, torch.Generator().manual_seed(0))
    given = Measured(
        clusters.STUDY.tasks[0],
        {"AE": Line()},
        {"AE": result_of(Line(), object())},
        train=x,
        test=x,
        prepare=torch.as_tensor,
        seed=0,
        device=torch.device("cpu"),
    )
    found = clusters.Numbers(161, 100)(given)
    assert found["error of the crossing"] == pytest.approx(0, abs=1e-12)
    assert found["error of data"] == pytest.approx(1 / 6, abs=0.01)  # E[x2^2] / 2 of U(-1, 1)
    assert found["mass in the gap"] == pytest.approx(2 / 12, abs=0.01)
    assert found["AUROC"] == pytest.approx(0.5, abs=0.03)
    rows = numbers({name: {clusters.AE: [value]} for name, value in found.items()})
    assert clusters.like_data(rows).tolist() == pytest.approx([1 / 6], abs=0.01)


def test_two_uniforms_have_their_exact_density() -> None:
    grid = grids.grid_points(241)[1]
    inside = clusters.two_uniforms_log_prob(grid + 1e-3).exp()
    assert float(inside.sum() * 0.05**2) == pytest.approx(1, abs=0.01)
    x = two_uniforms(1000, torch.Generator().manual_seed(0))
    assert clusters.two_uniforms_log_prob(x).tolist() == pytest.approx([-math.log(8)] * 1000)


def test_the_claims_of_two_clusters_have_the_stated_signs() -> None:
    crossing, data = {clusters.AE: [0.1], clusters.NAE: [0.6]}, {clusters.AE: [0.2], clusters.NAE: [0.25]}
    rows = numbers({"error of the crossing": crossing, "error of data": data})
    assert clusters.like_data(rows).tolist() == pytest.approx([0.1])
    assert clusters.unlearned(rows).tolist() == pytest.approx([0.5])
    assert clusters.unlike_data(rows).tolist() == pytest.approx([0.35])


def test_the_normalized_autoencoder_keeps_the_decoder_it_starts_from() -> None:
    one = clusters.STUDY.at("smoke")
    results = study.Trained("cpu", "auto", "auto").results(one.tasks[0], one.chosen[1], seed=0)
    plain, normalized = results["AE"].model, results["NAE"].model
    before, after = plain.state_dict(), normalized.state_dict()
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(kept for name, kept in same.items() if name.startswith("decoder."))
    assert not any(kept for name, kept in same.items() if name.endswith("weight") and name.startswith("encoder."))
    assert not same["log_temperature"]
    largest = max(float((before[name] - after[name]).abs().max()) for name in before)
    rate = one.recipes["two_uniforms", clusters.NAE, "NAE"].optimiser.lr
    assert largest < 8 * 1.01 * rate  # eight updates of about a learning rate at most from the weights it starts from


def test_error_panels_share_one_colour_scale_and_the_coordinates_of_the_plane() -> None:
    grid = grids.normalise(lambda x: -x.square().sum(dim=1), points=21)
    error = grids.grid_points(21)[1].square().mean(dim=1).reshape(21, 21)
    line = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])
    models = [Reconstructions("a", grid, error, line), Reconstructions("b", grid, 0 * error, line)]
    fig = manifold_panels(models, torch.zeros(3, 2))
    images = [ax.images[0] for ax in fig.axes if ax.images]
    assert [image.get_clim() for image in images] == 2 * [(0, 0.2)] + 2 * [(1e-3, 1e1)]
    assert len({tuple(image.get_extent()) for image in images}) == 1
    assert all(float(np.min(image.get_array())) > 0 for image in images[2:])  # an error of 0 has a colour too
    curves = [line.get_xydata().tolist() for ax in fig.axes if ax.images for line in ax.lines[:1]]
    assert curves == 4 * [line.tolist()]


@pytest.mark.parametrize("fixed", [True, False])
def test_the_two_clusters_panel_trains_its_models_one_after_the_other(
    fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = []
    fit = training.fit

    def watched(model: torch.nn.Module, *arguments: object, **given: object) -> training.Result:
        decoders.append([parameter.clone() for parameter in model.decoder.parameters()])
        result = fit(model, *arguments, **given)
        decoders.append([parameter.clone() for parameter in model.decoder.parameters()])
        return result

    monkeypatch.setattr(training, "fit", watched)
    panel = two_clusters_panel()
    for name, value in {"reconstruct": 50, "updates": 50, "chain": 1, "fixed": fixed}.items():
        panel.controls[name].value = value
    panel.run()
    panel.wait(120)
    assert "done. NAE, NLL" in panel.status.value
    moved = [any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in (decoders[:2], decoders[2:])]
    assert moved == [True, not fixed]
    assert panel.bar.value == panel.bar.max == 100
    density = bytes(panel.image.value)
    panel.views["show"].value = "error"
    assert bytes(panel.image.value) != density


def test_stop_during_the_first_training_skips_the_second_training() -> None:
    panel = two_clusters_panel()
    panel.controls["reconstruct"].value = 2000
    panel.run()
    while not panel.bar.value and panel.running:
        time.sleep(0.01)
    panel.stop()
    panel.wait(60)
    assert "stopped. AE, NLL" in panel.status.value
    assert 0 < panel.result.step < 2000
