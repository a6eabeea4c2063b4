"""The panel of nae/holdout_digits.

Imports: its own folder, training, widgets.normalising, widgets.panel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets as w

from oodlab import training
from oodlab.studies.nae.images import NORMALISING, digits_task
from oodlab.studies.nae.shipped import HELD_OUT, quick_recipe
from oodlab.training import Recipe
from oodlab.widgets.normalising import normalise, normalising_panel
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider


def holdout_digits_panel() -> RunPanel:
    """Build the panel of nae/holdout_digits: normalise an autoencoder that has never seen one digit, and watch it.

    Networks, batches and pre-training are the quick profile's unless a control says otherwise.
    The plain autoencoder is kept, so that only the first run with it has to train it.
    """
    base = quick_recipe("NAE-OMI", digits_task(HELD_OUT, profile="quick"))
    before, negatives = base.needs["AE"].steps, base.objective.negatives
    controls = {
        "method": w.Dropdown(options=NORMALISING[::-1], description="training", style=WIDE),
        "digit": w.IntSlider(HELD_OUT, min=0, max=9, description="digit held out", **slider()),
        "pre_training": w.IntSlider(
            before, min=0, max=max(4000, before), step=10, description="updates before", **slider()
        ),
        "latent": w.IntSlider(
            negatives.latent_chain.steps, min=0, max=50, description="latent steps (OMI)", **slider()
        ),
        "visible": w.IntSlider(negatives.chain.steps, min=1, max=100, description="visible steps", **slider()),
        "rate": w.FloatLogSlider(base.optimiser.lr, base=10, min=-6, max=-2, description="learning rate", **slider()),
        "updates": w.IntSlider(300, min=10, max=5000, step=10, description="updates", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    return normalising_panel(controls, task=_train, name=_name)


def _name(values: dict[str, Any]) -> str:
    latent = f"{values['latent']} latent and " if values["method"] == "NAE-OMI" else ""
    return (
        f"{values['method']} without {values['digit']}, {values['pre_training']} updates before, {latent}{values['visible']} "
        f"visible steps, rate {values['rate']:.2g}, {values['updates']} updates, seed {values['seed']}"
    )


def recipe_of(values: dict[str, Any]) -> Recipe:
    """Return the training that the controls' values are."""
    base = quick_recipe(values["method"], digits_task(values["digit"], profile="quick").here())
    negatives = base.objective.negatives
    changes = {"chain": replace(negatives.chain, steps=values["visible"])}
    if values["method"] == "NAE-OMI":
        changes["latent_chain"] = replace(negatives.latent_chain, steps=values["latent"])
    before = values["pre_training"]
    return replace(
        base,
        objective=replace(base.objective, negatives=replace(negatives, **changes)),
        optimiser=replace(base.optimiser, lr=values["rate"]),
        steps=values["updates"],
        snapshots=0,
        needs={"AE": replace(base.needs["AE"], steps=before)} if before else {},
        begins_with="AE" if before else "",
    )


def _train(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
    return normalise(recipe_of(values), seed=values["seed"], should_stop=should_stop, publish=publish)
