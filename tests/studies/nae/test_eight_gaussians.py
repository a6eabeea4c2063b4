"""The study nae/eight_gaussians: its recipes, numbers and claims."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch

from oodlab import study, training
from oodlab.data import eight_gaussians
from oodlab.studies.nae.eight_gaussians import setting as eight
from oodlab.studies.nae.plane import Width
from oodlab.studies.nae.two_clusters import setting as clusters
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


def test_untrained_on_manifold_negatives_have_smaller_errors_at_equal_chain_length() -> None:
    """Figure 8 holds for random networks of 64 and 128 units: the error is at most a quarter."""
    x = eight_gaussians(100, torch.Generator().manual_seed(0))
    recipe = eight.STUDY.at("long").recipes["eight_gaussians", eight.CIRCLE, "model"]
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, size=Width(64, 128, 2)))
    model, ends = eight.first_negatives(recipe, x, seed=3)
    errors = {name: float(model.reconstruction_error(end).detach().mean()) for name, end in ends.items()}
    assert list(ends) == ["CD", "OMI"] and all(end.shape == (100, 2) for end in ends.values())
    assert errors["OMI"] < 0.25 * errors["CD"]
    again = training.recipe.built(recipe, {}, 3, torch.device("cpu"))
    assert torch.equal(model.encoder[0].weight, again.encoder[0].weight), "the weights that training begins with"


def test_nearer_is_the_lead_of_the_nae_over_the_best_other_method() -> None:
    rows = numbers({"NLL": {"a": [3.0, 3.5], "b": [3.2, 3.1], "nae": [2.9, 3.3]}, "T": {"nae": [1.0, 1.0]}})
    found = eight.nearer(rows, nae="nae", others=("a", "b"))
    assert found.tolist() == pytest.approx([0.1, -0.2]) and found.index.names == ["seed"]
    first = numbers({"first error, CD": {eight.CIRCLE: [2.5]}, "first error, OMI": {eight.CIRCLE: [0.2]}})
    assert eight.first_gap(first).tolist() == pytest.approx([2.3])


def test_every_claim_of_the_plane_is_decided_by_numbers_measured_at_smoke() -> None:
    """The numbers of a model that has the true density are those of the true density."""
    for one, measure in (
        (eight.STUDY.at("smoke"), eight.Numbers(41)),
        (clusters.STUDY.at("smoke"), clusters.Numbers(41, 50)),
    ):
        rows = study.measured(one, None, measure)
        words = study.verdicts(one.claims, rows).table["verdict"]
        assert not (words == "Not tested").any()
    assert set(rows.loc[rows["quantity"] == "AUROC", "value"].between(0, 1)) == {True}
