"""Trainings that are watched and not kept: the one place where a panel hands a recipe to the loop.

Imports: training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from oodlab import training
from oodlab.training.loop import OnStep
from oodlab.training.recipe import Recipe


def fresh_model(recipe: Recipe, *, seed: int) -> nn.Module:
    """Build a recipe's model with weights of this seed; the notebook's own random numbers go on as they were."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return recipe.build({})


def train_live(
    model: nn.Module, recipe: Recipe, *, seed: int, should_stop: Callable[[], bool], on_step: OnStep
) -> training.Result:
    """Train a model in place as its recipe says, without probes, checkpoint or progress line.

    Args:
        model: Network built by the recipe, with whatever weights.
        recipe: A recipe that needs no other training; what a panel's controls change is changed in it.
        seed: Seed of the run.
        should_stop, on_step: The arguments of training.fit.
    """
    return training.fit(
        model,
        recipe.begin(model, {}),
        recipe.feed({}),
        optimiser=recipe.optimiser,
        steps=recipe.steps,
        warm_up=recipe.warm_up,
        schedule=recipe.schedule,
        seed=seed,
        should_stop=should_stop,
        on_step=on_step,
        show_progress=False,
    )
