"""The panel of nae/holdout_digits.

Imports: data, presets, training, widgets.normalising, widgets.panel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ipywidgets as w

from oodlab import data, presets, training
from oodlab.presets import Preset
from oodlab.widgets.normalising import normalise, normalising_panel
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider

QUICK = presets.nae.BUDGETS["quick"]


def holdout_digits() -> RunPanel:
    """Build the panel of nae/holdout_digits: normalise an autoencoder that has never seen one digit, and watch it.

    Networks, batches and pre-training are the quick profile's unless a control says otherwise.
    The plain autoencoder is kept, so that only the first run with it has to train it.
    """
    controls = {
        "method": w.Dropdown(options=["NAE-OMI", "NAE-CD", "NAE-PCD"], description="training", style=WIDE),
        "digit": w.IntSlider(9, min=0, max=9, description="digit held out", **slider()),
        "pre_training": w.IntSlider(
            QUICK.updates("AE"),
            min=0,
            max=max(4000, QUICK.updates("AE")),
            step=10,
            description="updates before",
            **slider(),
        ),
        "latent": w.IntSlider(QUICK.latent_steps, min=0, max=50, description="latent steps (OMI)", **slider()),
        "visible": w.IntSlider(QUICK.visible_steps, min=1, max=100, description="visible steps", **slider()),
        "rate": w.FloatLogSlider(
            QUICK.normalising_lr, base=10, min=-6, max=-2, description="learning rate", **slider()
        ),
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


def _preset(values: dict[str, Any]) -> Preset:
    in_set = data.choose("mnist", "digits")
    preset = presets.nae.image_training(values["method"], values["digit"], in_set=in_set.name).at("quick")
    chains = {"chain": "visible", "latent_chain": "latent"}
    given = preset.objective.keywords
    objective = {
        name: dataclasses.replace(given[name], steps=values[steps]) for name, steps in chains.items() if name in given
    }
    start = preset.start.changed(steps=values["pre_training"]) if values["pre_training"] else None
    changes = {"objective": objective, "optimiser": {"lr": values["rate"]}, "steps": values["updates"]}
    return dataclasses.replace(preset.changed(**changes), start=start)


def _train(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
    return normalise(_preset(values), seed=values["seed"], should_stop=should_stop, publish=publish)
