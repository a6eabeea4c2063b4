"""The panel of ebm/smoothness.

Imports: data, detectors, objectives, samplers, its own folder, training, widgets.panel, widgets.scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ipywidgets as w
from torch import nn

from oodlab import data
from oodlab.detectors import Detector, LogDensity
from oodlab.objectives import Contrastive, WithLabels
from oodlab.samplers import LangevinChain
from oodlab.studies.ebm.smoothness.setting import STUDY, Training, smooth_images
from oodlab.training import Recipe
from oodlab.widgets.panel import WIDE, RunPanel, slider
from oodlab.widgets.scores import ScoreWatch, score_panel

SCORE = "f = log p up to a constant (nats)"
SHOWN = 200  # images per set


def smoothness_panel() -> RunPanel:
    """Build the panel of ebm/smoothness: train a small energy of images, watch what it says of smooth noise.

    The rest of the setting is the quick profile's. Nothing is saved.
    """
    size = STUDY.at("quick").budget
    controls = {
        "in_set": w.Dropdown(options=["fashion_mnist", "mnist"], description="data set", style=WIDE),
        "gamma": w.FloatSlider(0.0, min=0.0, max=10.0, step=0.5, description="supervision γ", **slider()),
        "bottleneck": w.Dropdown(
            options=[("none", None), ("0.2 of the channels", 0.2), ("0.4 of the channels", 0.4)],
            index=0,  # None as a value counts as nothing chosen
            description="bottleneck",
            style=WIDE,
        ),
        "width": w.IntSlider(8, min=5, max=16, description="width of the network", **slider()),
        "chain": w.IntSlider(size.chain, min=1, max=60, description="chain length", **slider()),
        "step_size": w.FloatLogSlider(1.0, base=10, min=-3, max=1, description="step size", **slider()),
        "noise_std": w.FloatLogSlider(0.01, base=10, min=-4, max=-0.5, description="noise (std per step)", **slider()),
        "l2": w.FloatSlider(1.0, min=0.0, max=2.0, step=0.1, description="weight of f² in the loss", **slider()),
        "updates": w.IntSlider(100, min=20, max=1000, step=20, description="updates", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    return score_panel(controls, scores=(SCORE,), prepare=_prepare, name=_name)


def _prepare(values: dict[str, Any]) -> tuple[Recipe, ScoreWatch]:
    study = STUDY.at("quick")
    task = replace(study.tasks[0], inside=values["in_set"]).here()
    size = replace(study.budget, width=values["width"], updates=values["updates"])
    training = Training(_name(values), size, "released", labels=values["gamma"] > 0, bottleneck=values["bottleneck"])
    recipe = training(task)["energy"]
    recipe = replace(recipe, objective=_changed(recipe.objective, values), probe=None, probes=0)
    test = task.load(n=SHOWN).test
    inputs = {task.name: data.scale_signed(test.x), **smooth_images(SHOWN)}
    images = {name: ((x + 1) / 2).numpy() for name, x in inputs.items()}
    return recipe, ScoreWatch(task.name, inputs, _detectors, images)


def _changed(objective: Contrastive | WithLabels, values: dict[str, Any]) -> Contrastive | WithLabels:
    """Return the objective with the chain and the weights that the controls say."""
    if isinstance(objective, WithLabels):
        return replace(objective, generative=_changed(objective.generative, values), gamma=values["gamma"])
    chain = LangevinChain(values["chain"], step_size=values["step_size"], noise_std=values["noise_std"])
    return replace(objective, negatives=replace(objective.negatives, chain=chain), l2=values["l2"])


def _detectors(model: nn.Module) -> dict[str, Detector]:
    return {SCORE: LogDensity(model)}


def _name(values: dict[str, Any]) -> str:
    bottleneck = f"bottleneck {values['bottleneck']:g}" if values["bottleneck"] else "no bottleneck"
    return (
        f"{values['in_set']}, γ = {values['gamma']:g}, {bottleneck}, width {values['width']}, {values['chain']} steps of "
        f"{values['step_size']:.3g} with noise {values['noise_std']:.3g}, f² weight {values['l2']:g}, "
        f"{values['updates']} updates, seed {values['seed']}"
    )
