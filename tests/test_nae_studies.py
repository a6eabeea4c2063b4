"""The parts of nae/linear_case and nae/two_clusters: what their trainings keep, their drawings and their panels."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from oodlab import grids, plotting, presets, training, widgets
from oodlab.models import LinearNAE, linear_autoencoder, most_likely_linear_nae
from oodlab.presets.nae.linear_case import Excess, points_of
from oodlab.widgets.linear_case import turned

# ----------------------------------------------------------------------------------- linear_case


def test_the_linear_points_have_exactly_the_moments_of_the_setting() -> None:
    for covariance in (presets.nae.PLANE, presets.nae.SPACE):
        batches = points_of(covariance=covariance, n=500, batch_size=500, seed=0)
        x = batches(3, torch.Generator())["x"]
        assert (x.T @ x / len(x)).numpy() == pytest.approx(np.array(covariance), abs=1e-5)
    variances = torch.linalg.eigvalsh(torch.tensor(presets.nae.PLANE)).tolist()
    assert variances == pytest.approx([0.25, 2.0], abs=1e-4)
    assert turned(2.0, 0.25, 30).numpy() == pytest.approx(np.array(presets.nae.PLANE), abs=1e-4)


def test_the_excess_is_nought_at_the_optimum_and_nowhere_below(generator: torch.Generator) -> None:
    covariance = torch.tensor(presets.nae.SPACE, dtype=torch.float64)
    probe = Excess(presets.nae.SPACE)
    for latent in (1, 2):
        best = most_likely_linear_nae(covariance, latent)
        optimum = linear_autoencoder(best.weight, temperature=best.temperature)
        assert float(probe(optimum)["excess"]) == pytest.approx(0, abs=1e-6)
    for _ in range(20):
        model = linear_autoencoder(torch.randn(2, 3, generator=generator))
        excess = float(probe(LinearNAE(model))["excess"])
        assert excess > 0
        assert excess == float(probe(model)["excess"])
        assert model.encoder.weight.dtype == torch.float32  # the probe looks at a copy


def test_a_fixed_temperature_stays_and_a_free_one_moves() -> None:
    runs = presets.nae.LINEAR_CASE.at("smoke").runs
    for title, given in presets.nae.TEMPERATURES.items():
        model = training.train_or_load(runs[f"{title}, D_z = 2"], device="cpu").model
        moved = abs(float(model.autoencoder.log_temperature.detach()) - math.log(given or 1.0))
        assert (moved > 1e-3) == (given is None)


def test_the_ellipse_is_two_deviations_from_the_mean() -> None:
    covariance = turned(2.0, 0.25, 30)
    ax = plotting.figure(2, 2).subplots()
    plotting.draw_ellipse(ax, covariance)
    x = np.stack(ax.lines[0].get_data())
    assert (x * np.linalg.solve(covariance.numpy(), x)).sum(axis=0) == pytest.approx(np.full(x.shape[1], 4.0))


def test_kept_directions_are_filled_and_trainings_stand_at_their_size() -> None:
    curves = {"T free": ([3.0, 2.0], [[3.0, 3.5], [2.0]]), "T = 1": ([4.0, 2.5], [[4.0], [2.5, 2.6]])}
    picked = {"T = 1": ([0.1, 2.0, 5.0], [True, False, False])}
    fig = plotting.linear_likelihoods(curves, 2.0, picked, {"CD": [([0, 5], [1.0, 0.0])]})
    by_latent, gains, by_update = fig.axes
    faces = [to_hex(line.get_markerfacecolor()) for line in gains.lines[1:]]
    assert faces == [plotting.COLOURS[1].lower(), "#ffffff", "#ffffff"]
    for line, ratio in zip(gains.lines[1:], picked["T = 1"][0], strict=True):
        ((x,), (y,)) = line.get_data()
        assert (x, y) == pytest.approx((ratio, (ratio - 1 - math.log(ratio)) / 2))
    dots = [line.get_data() for line in by_latent.lines if line.get_marker() == "o"]
    assert [(round(x[0]), list(y)) for x, y in dots] == [(1, [3.0, 3.5]), (2, [2.0]), (1, [4.0]), (2, [2.5, 2.6])]
    assert by_update.lines[0].get_ydata().tolist() == [1.0, 1e-6]


def test_the_linear_panel_says_the_closed_form_at_every_turn() -> None:
    panel = widgets.linear_case()
    seen = {bytes(panel.image.value)}
    panel.views["latent"].value = 1
    panel.views["free"].value = False
    panel.views["angle"].value = 0
    for temperature in (0.1, 4.0):  # T D / 2 = T: below and above both variances
        panel.views["temperature"].value = temperature
        best = most_likely_linear_nae(turned(2.0, 0.25, 0), 1, temperature=panel.views["temperature"].value)
        kept, left = (2.0, 0.25) if temperature < 1 else (0.25, 2.0)
        said = f"Kept variance {kept:g}; {left:g} is modelled as T D / 2 = {best.temperature:.3g}. "
        assert said in panel.status.value
        lost = best.nll - most_likely_linear_nae(turned(2.0, 0.25, 0), 2).nll
        assert f"the model loses {lost:.3f}" in panel.status.value
        seen.add(bytes(panel.image.value))
    assert not panel.views["temperature"].disabled
    panel.views["free"].value = True
    assert panel.views["temperature"].disabled
    assert "the model loses 0.000" in panel.status.value  # D_z = D - 1 is exact
    seen.add(bytes(panel.image.value))
    assert len(seen) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in seen)


# ---------------------------------------------------------------------------------- two_clusters


def test_the_normalized_autoencoder_keeps_the_decoder_it_starts_from() -> None:
    runs = presets.nae.TWO_CLUSTERS.at("smoke").runs
    plain, normalized = (training.train_or_load(run, device="cpu").model for run in runs.values())
    before, after = plain.state_dict(), normalized.state_dict()
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(kept for name, kept in same.items() if name.startswith("decoder."))
    assert not any(kept for name, kept in same.items() if name.endswith("weight") and name.startswith("encoder."))
    assert not same["log_temperature"]
    largest = max(float((before[name] - after[name]).abs().max()) for name in before)
    assert largest < 8 * 2e-3  # eight updates of at most the learning rate from the weights it starts from


def test_error_panels_share_one_scale_and_lie_where_they_are() -> None:
    grid = grids.normalise(lambda x: -x.square().sum(dim=1), points=21)
    error = grids.grid_points(21)[1].square().mean(dim=1).reshape(21, 21)
    line = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])
    models = [plotting.Reconstructions("a", grid, error, line), plotting.Reconstructions("b", grid, 0 * error, line)]
    fig = plotting.manifold_panels(models, torch.zeros(3, 2))
    images = [ax.images[0] for ax in fig.axes if ax.images]
    assert [image.get_clim() for image in images] == 2 * [(0, 0.2)] + 2 * [(1e-3, 1e1)]
    assert len({tuple(image.get_extent()) for image in images}) == 1
    assert all(float(np.min(image.get_array())) > 0 for image in images[2:])  # an error of 0 has a colour too
    curves = [line.get_xydata().tolist() for ax in fig.axes if ax.images for line in ax.lines[:1]]
    assert curves == 4 * [line.tolist()]


@pytest.mark.parametrize("fixed", [True, False])
def test_the_cluster_panel_trains_one_after_the_other(fixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = []
    fit = training.fit

    def watched(model: torch.nn.Module, *arguments: object, **given: object) -> training.Result:
        decoders.append([parameter.clone() for parameter in model.decoder.parameters()])
        result = fit(model, *arguments, **given)
        decoders.append([parameter.clone() for parameter in model.decoder.parameters()])
        return result

    monkeypatch.setattr(training, "fit", watched)
    panel = widgets.two_clusters()
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


def test_stop_in_the_first_training_leaves_out_the_second() -> None:
    panel = widgets.two_clusters()
    panel.controls["reconstruct"].value = 2000
    panel.run()
    while not panel.bar.value and panel.running:
        time.sleep(0.01)
    panel.stop()
    panel.wait(60)
    assert "stopped. AE, NLL" in panel.status.value
    assert 0 < panel.result.step < 2000
