"""The studies of nae in two dimensions: their settings as they are said, their measures, claims, drawings and panels."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from oodlab import grids, plotting, study, training
from oodlab.data import eight_gaussians, two_uniforms
from oodlab.models import LinearNAE, linear_autoencoder, most_likely_linear_nae
from oodlab.objectives import Normalised, SquaredError
from oodlab.studies.nae.eight_gaussians import setting as eight
from oodlab.studies.nae.linear_case import setting as linear
from oodlab.studies.nae.linear_case.figure import draw_ellipse, linear_likelihoods
from oodlab.studies.nae.linear_case.panel import linear_case_panel, turned
from oodlab.studies.nae.plane import FCRES2, Width, density_numbers, learned
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


# ------------------------------------------------------------------------------ what all three share


def test_a_loss_without_temperature_gets_the_most_likely_one_and_others_keep_theirs() -> None:
    """Of a Gaussian it is the variance of the points; the model itself stays as it is."""
    x = 0.7 * torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    plain = result_of(Quadratic(), SquaredError())
    model, grid = learned(plain, x, 61)
    assert float(model.log_temperature.detach().exp()) == pytest.approx(0.49, rel=0.06)  # the search has steps of 6 %
    assert float(plain.model.log_temperature.detach()) == 3.0
    entropy = math.log(2 * math.pi * math.e * 0.49)
    assert density_numbers(model, grid, x)["NLL"] == pytest.approx(entropy, abs=0.02)
    kept, _ = learned(result_of(Quadratic(), object()), x, 61)
    assert float(kept.log_temperature.detach()) == 3.0


def test_the_full_size_is_the_papers_and_the_rate_of_the_temperature_is_a_hundred_times_the_networks() -> None:
    for recipe in [*eight.STUDY.recipes.values(), *clusters.STUDY.recipes.values()]:
        assert recipe.model.size == FCRES2 == Width(256, 1024, 5)
        assert (recipe.steps, recipe.batches.batch_size) == (2000, 200)
        rates = recipe.optimiser.lr_of
        assert bool(rates) == isinstance(recipe.objective, Normalised)
        assert all(rate == pytest.approx(100 * recipe.optimiser.lr) for rate in rates.values())
    chains = {name: recipe.objective for (_, name, _), recipe in eight.STUDY.recipes.items() if "NAE" in name}
    lengths = {name: one.negatives.chain.steps for name, one in chains.items()}
    assert lengths == {eight.CIRCLE: 30, eight.SPACE: 30, "NAE-CD": 5, "NAE-PCD": 50, "NAE-PCD, 5 % restart": 50}
    assert [chains[name].latent_penalty for name in (eight.CIRCLE, eight.SPACE)] == [0.0, 0.01]
    assert [chains[name].negatives.latent_chain.steps for name in (eight.CIRCLE, eight.SPACE)] == [10, 10]
    replays = [chains[name].negatives for name in ("NAE-PCD", "NAE-PCD, 5 % restart")]
    assert [(one.capacity, one.restart) for one in replays] == [(200, 0.0), (10_000, 0.05)]


@pytest.mark.parametrize("profile", ["smoke", "quick", "long", "full"])
def test_all_methods_of_eight_gaussians_have_the_same_seeds_data_and_network(profile: str) -> None:
    setting = eight.STUDY.at(profile)
    recipes = list(setting.recipes.values())
    assert len(recipes) == 9 == len({recipe.key for recipe in recipes})
    assert len({recipe.model.size for recipe in recipes}) == 1
    assert len({recipe.batches for recipe in recipes}) == 1
    assert setting.budget.seeds == {"smoke": 1, "quick": 1}.get(profile, 3)


# -------------------------------------------------------------------------------- eight_gaussians


def test_before_training_on_manifold_negatives_have_the_smaller_error_and_chains_of_equal_length() -> None:
    """Figure 8 holds for random networks: at most a quarter of the error, for networks of 64 and 128 units."""
    x = eight_gaussians(100, torch.Generator().manual_seed(0))
    recipe = eight.STUDY.at("long").recipes["eight_gaussians", eight.CIRCLE, "model"]
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, size=Width(64, 128, 2)))
    model, ends = eight.first_negatives(recipe, x, seed=3)
    errors = {name: float(model.reconstruction_error(end).detach().mean()) for name, end in ends.items()}
    assert list(ends) == ["CD", "OMI"] and all(end.shape == (100, 2) for end in ends.values())
    assert errors["OMI"] < 0.25 * errors["CD"]
    again = training.recipe.built(recipe, {}, 3, torch.device("cpu"))
    assert torch.equal(model.encoder[0].weight, again.encoder[0].weight), "the weights that training begins with"


def test_nearer_is_the_distance_to_the_best_of_the_others() -> None:
    rows = numbers({"NLL": {"a": [3.0, 3.5], "b": [3.2, 3.1], "nae": [2.9, 3.3]}, "T": {"nae": [1.0, 1.0]}})
    found = eight.nearer(rows, nae="nae", others=("a", "b"))
    assert found.tolist() == pytest.approx([0.1, -0.2]) and found.index.names == ["seed"]
    first = numbers({"first error, CD": {eight.CIRCLE: [2.5]}, "first error, OMI": {eight.CIRCLE: [0.2]}})
    assert eight.first_gap(first).tolist() == pytest.approx([2.3])


def test_every_claim_of_the_plane_is_decided_by_what_is_measured_at_smoke() -> None:
    """And the numbers of a density that is the truth are those of the truth."""
    for one, measure in (
        (eight.STUDY.at("smoke"), eight.Numbers(41)),
        (clusters.STUDY.at("smoke"), clusters.Numbers(41, 50)),
    ):
        rows = study.measured(one, None, measure)
        words = study.verdicts(one.claims, rows).table["verdict"]
        assert not (words == "Not tested").any()
    assert set(rows.loc[rows["quantity"] == "AUROC", "value"].between(0, 1)) == {True}


# ----------------------------------------------------------------------------------- two_clusters


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


def test_the_cluster_numbers_of_a_model_whose_manifold_is_an_axis() -> None:
    """The crossing lies on the manifold, so its error is 0; a twelfth of the mass lies in each unit of the first axis."""
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


def test_two_uniforms_have_their_density() -> None:
    grid = grids.grid_points(241)[1]
    inside = clusters.two_uniforms_log_prob(grid + 1e-3).exp()
    assert float(inside.sum() * 0.05**2) == pytest.approx(1, abs=0.01)
    x = two_uniforms(1000, torch.Generator().manual_seed(0))
    assert clusters.two_uniforms_log_prob(x).tolist() == pytest.approx([-math.log(8)] * 1000)


def test_the_clusters_claims_have_their_signs() -> None:
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


def test_error_panels_share_one_scale_and_lie_where_they_are() -> None:
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
def test_the_cluster_panel_trains_one_after_the_other(fixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_stop_in_the_first_training_leaves_out_the_second() -> None:
    panel = two_clusters_panel()
    panel.controls["reconstruct"].value = 2000
    panel.run()
    while not panel.bar.value and panel.running:
        time.sleep(0.01)
    panel.stop()
    panel.wait(60)
    assert "stopped. AE, NLL" in panel.status.value
    assert 0 < panel.result.step < 2000


# ------------------------------------------------------------------------------------ linear_case


def test_the_linear_points_have_exactly_the_moments_of_the_setting() -> None:
    for covariance in (linear.PLANE, linear.SPACE):
        batches = linear.GaussianBatches(linear.GaussianPoints(covariance), batch_size=500)
        x = batches.begin()(3, torch.Generator())["x"]
        assert (x.T @ x / len(x)).numpy() == pytest.approx(np.array(covariance), abs=1e-5)
    variances = torch.linalg.eigvalsh(torch.tensor(linear.PLANE)).tolist()
    assert variances == pytest.approx([0.25, 2.0], abs=1e-4)
    assert turned(2.0, 0.25, 30).numpy() == pytest.approx(np.array(linear.PLANE), abs=1e-4)


def test_the_excess_is_nought_at_the_optimum_and_nowhere_below(generator: torch.Generator) -> None:
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


def test_a_fixed_temperature_stays_and_a_free_one_moves() -> None:
    recipes = linear.STUDY.at("smoke").recipes
    for title, given in linear.TEMPERATURES.items():
        recipe = recipes["gaussian in space", linear.exact_name(title, 2), "model"]
        model = training.train_or_load(recipe, device="cpu").model
        moved = abs(float(model.autoencoder.log_temperature.detach()) - math.log(given or 1.0))
        assert (moved > 1e-3) == (given is None)


def test_at_the_closed_form_nothing_lies_above_the_least_and_what_is_kept_is_seen() -> None:
    """The measure is given each of the sixteen optima as if it had been trained."""
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


def test_without_weights_the_variance_is_half_the_temperature() -> None:
    """4,000 chains: five standard errors of a variance are 0.06 of it."""
    assert linear.variance(linear.weightless(), seed=0) == pytest.approx(0.5, abs=0.03)


def test_the_linear_claims_have_their_signs() -> None:
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


def test_the_ellipse_is_two_deviations_from_the_mean() -> None:
    covariance = turned(2.0, 0.25, 30)
    ax = plotting.figure(2, 2).subplots()
    draw_ellipse(ax, covariance)
    x = np.stack(ax.lines[0].get_data())
    assert (x * np.linalg.solve(covariance.numpy(), x)).sum(axis=0) == pytest.approx(np.full(x.shape[1], 4.0))


def test_kept_directions_are_filled_and_trainings_stand_at_their_size() -> None:
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


def test_the_linear_panel_says_the_closed_form_at_every_turn() -> None:
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
