"""The study nae/linear_case: its closed form, numbers, claims, figure and panel."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from oodlab import plotting, study, training
from oodlab.models import LinearNAE, linear_autoencoder, most_likely_linear_nae
from oodlab.studies.nae.linear_case import setting as linear
from oodlab.studies.nae.linear_case.figure import draw_ellipse, linear_likelihoods
from oodlab.studies.nae.linear_case.panel import linear_case_panel, turned
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


def test_the_points_of_the_linear_case_have_exactly_the_stated_covariance() -> None:
    for covariance in (linear.PLANE, linear.SPACE):
        batches = linear.GaussianBatches(linear.GaussianPoints(covariance), batch_size=500)
        x = batches.begin()(3, torch.Generator())["x"]
        assert (x.T @ x / len(x)).numpy() == pytest.approx(np.array(covariance), abs=1e-5)
    variances = torch.linalg.eigvalsh(torch.tensor(linear.PLANE)).tolist()
    assert variances == pytest.approx([0.25, 2.0], abs=1e-4)
    assert turned(2.0, 0.25, 30).numpy() == pytest.approx(np.array(linear.PLANE), abs=1e-4)


def test_the_excess_nll_is_zero_at_the_optimum_and_negative_nowhere(generator: torch.Generator) -> None:
    covariance = torch.tensor(linear.SPACE, dtype=torch.float64)
    probe = linear.Excess(linear.SPACE)()
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


def test_training_keeps_a_fixed_temperature_and_changes_a_free_one() -> None:
    recipes = linear.STUDY.at("smoke").recipes
    for title, given in linear.TEMPERATURES.items():
        recipe = recipes["gaussian in space", linear.exact_name(title, 2), "model"]
        model = training.train_or_load(recipe, device="cpu").model
        moved = abs(float(model.autoencoder.log_temperature.detach()) - math.log(given or 1.0))
        assert (moved > 1e-3) == (given is None)


def test_measured_numbers_of_the_closed_form_have_no_excess_and_show_the_kept_directions() -> None:
    """The measure is given each of the sixteen optima as a trained model."""
    table = linear.closed_form()
    one = linear.STUDY.at("smoke")
    covariance = torch.tensor(linear.SPACE, dtype=torch.float64)
    for title, given in linear.TEMPERATURES.items():
        for latent in linear.LATENT:
            name = linear.exact_name(title, latent)
            best = most_likely_linear_nae(covariance, latent, temperature=given)
            model = LinearNAE(linear_autoencoder(best.weight, temperature=best.temperature))
            recipe = one.recipes["gaussian in space", name, "model"]
            found = linear.Numbers()(made(one.tasks[0], model, recipe))
            assert found["above the least"] == pytest.approx(0, abs=1e-6)
            kept = [value for i, value in enumerate((3.0, 2.0, 0.1)) if found[f"keeps variance {i + 1}"]]
            if latent < 3:  # with all directions free one may need the eigenvalue 0: nothing is kept of it then
                assert kept == table.loc[name, "keeps"]


def made(task: study.Drawn, model: torch.nn.Module, recipe: training.Recipe) -> Measured:
    """Return a model as a measure is given it."""
    x = torch.zeros(3, 3)
    results = {"model": result_of(model, recipe.objective)}
    place = torch.device("cpu")
    return Measured(task, {"model": model}, results, x, x, torch.as_tensor, 0, place, {"model": recipe})


def test_chains_of_a_model_with_zero_weights_have_half_the_temperature_as_variance() -> None:
    """For 4,000 chains, five standard errors of the variance are 0.06 of the variance."""
    assert linear.variance(linear.weightless(), seed=0) == pytest.approx(0.5, abs=0.03)


def test_the_claims_of_the_linear_case_have_the_stated_signs() -> None:
    above = {linear.exact_name("T free", 3): [1e-6, 1e-6], linear.exact_name("T free", 4): [1e-6, 0.5]}
    rows = pd.concat(
        [
            numbers({"above the least": above, "mass outside": {"AE, D_z = 2": [0.75, 0.1]}}),
            numbers({"variance": {"W = 0": [0.5]}}),
        ]
    )
    assert (linear.overcomplete(rows) > 0).tolist() == [True, False]
    assert (linear.no_density(rows) > 0).tolist() == [True, False]
    assert linear.standard(rows).tolist() == pytest.approx([-0.4])


def test_the_drawn_ellipse_lies_two_standard_deviations_from_the_mean() -> None:
    covariance = turned(2.0, 0.25, 30)
    ax = plotting.figure(2, 2).subplots()
    draw_ellipse(ax, covariance)
    x = np.stack(ax.lines[0].get_data())
    assert (x * np.linalg.solve(covariance.numpy(), x)).sum(axis=0) == pytest.approx(np.full(x.shape[1], 4.0))


def test_the_figure_fills_marks_of_kept_directions_and_draws_trainings_at_their_code_size() -> None:
    curves = {"T free": ([3.0, 2.0], [[3.0, 3.5], [2.0]]), "T = 1": ([4.0, 2.5], [[4.0], [2.5, 2.6]])}
    picked = {"T = 1": ([0.1, 2.0, 5.0], [True, False, False])}
    fig = linear_likelihoods(curves, 2.0, picked, {"CD": [([0, 5], [1.0, 0.0])]})
    by_latent, gains, by_update = fig.axes
    faces = [to_hex(line.get_markerfacecolor()) for line in gains.lines[1:]]
    assert faces == [plotting.COLOURS[1].lower(), "#ffffff", "#ffffff"]
    for line, ratio in zip(gains.lines[1:], picked["T = 1"][0], strict=True):
        ((x,), (y,)) = line.get_data()
        assert (x, y) == pytest.approx((ratio, (ratio - 1 - math.log(ratio)) / 2))
    dots = [line.get_data() for line in by_latent.lines if line.get_marker() == "o"]
    assert [(round(x[0]), list(y)) for x, y in dots] == [(1, [3.0, 3.5]), (2, [2.0]), (1, [4.0]), (2, [2.5, 2.6])]
    assert by_update.lines[0].get_ydata().tolist() == [1.0, 1e-6]


def test_the_linear_panel_states_the_closed_form_for_every_value_of_its_controls() -> None:
    panel = linear_case_panel()
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
