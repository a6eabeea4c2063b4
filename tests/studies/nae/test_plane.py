"""Parts shared by the studies of the plane: densities, numbers and recipes."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from oodlab.objectives import Normalised, SquaredError
from oodlab.studies.nae.eight_gaussians import setting as eight
from oodlab.studies.nae.plane import FCRES2, Width, density_numbers, learned
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


def test_a_loss_without_a_temperature_gets_the_most_likely_one_and_other_losses_keep_theirs() -> None:
    """The most likely temperature of a Gaussian is the variance of the points; the model itself is unchanged."""
    x = 0.7 * torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    plain = result_of(Quadratic(), SquaredError())
    model, grid = learned(plain, x, 61)
    assert float(model.log_temperature.detach().exp()) == pytest.approx(0.49, rel=0.06)  # the search has steps of 6 %
    assert float(plain.model.log_temperature.detach()) == 3.0
    entropy = math.log(2 * math.pi * math.e * 0.49)
    assert density_numbers(model, grid, x)["NLL"] == pytest.approx(entropy, abs=0.02)
    kept, _ = learned(result_of(Quadratic(), object()), x, 61)
    assert float(kept.log_temperature.detach()) == 3.0


def test_recipes_at_full_have_the_papers_size_and_100_times_the_networks_rate_for_the_temperature() -> None:
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
