"""The panel of ebm/smoothness.

Imports: data, detectors, presets, widgets.panel, widgets.scores.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import ipywidgets as w
import torch
from torch import nn

from oodlab import data, presets
from oodlab.detectors import Detector, LogDensity
from oodlab.presets import Preset
from oodlab.widgets.panel import WIDE, RunPanel, slider
from oodlab.widgets.scores import ScoreWatch, score_panel

SCORE = "f = log p up to a constant (nats)"
SHOWN = 200  # images per set


def smoothness() -> RunPanel:
    """Build the panel of ebm/smoothness: train a small energy of images, watch what it says of smooth noise.

    The rest of the setting is the quick profile's. Nothing is saved.
    """
    chain = presets.ebm.SMOOTHNESS.at("quick").runs["unsupervised"].objective.keywords["chain"]
    controls = {
        "in_set": w.Dropdown(options=["fashion_mnist", "mnist"], description="data set", style=WIDE),
        "gamma": w.FloatSlider(0.0, min=0.0, max=10.0, step=0.5, description="supervision γ", **slider()),
        "bottleneck": w.Dropdown(
            options=[("none", None), ("0.2 of the channels", 0.2), ("0.4 of the channels", 0.4)],
            description="bottleneck",
            style=WIDE,
        ),
        "width": w.IntSlider(8, min=5, max=16, description="width of the network", **slider()),
        "chain": w.IntSlider(chain.steps, min=1, max=60, description="chain length", **slider()),
        "step_size": w.FloatLogSlider(chain.step_size, base=10, min=-3, max=1, description="step size", **slider()),
        "noise_std": w.FloatLogSlider(
            chain.noise_std, base=10, min=-4, max=-0.5, description="noise (std per step)", **slider()
        ),
        "l2": w.FloatSlider(0.0, min=0.0, max=2.0, step=0.1, description="weight of f² in the loss", **slider()),
        "updates": w.IntSlider(100, min=20, max=1000, step=20, description="updates", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    return score_panel(controls, scores=(SCORE,), prepare=_prepare, name=_name)


def _prepare(values: dict[str, Any]) -> tuple[Preset, ScoreWatch]:
    experiment = presets.ebm.SMOOTHNESS.at("quick")
    supervised = values["gamma"] > 0
    preset = experiment.runs["supervised" if supervised else "unsupervised"]
    generative = preset.objective.keywords["generative"] if supervised else preset.objective
    chain = dataclasses.replace(
        generative.keywords["chain"],
        steps=values["chain"],
        step_size=values["step_size"],
        noise_std=values["noise_std"],
    )
    changed = {"chain": chain, "l2": values["l2"]}
    generative = functools.partial(generative.func, **{**generative.keywords, **changed})
    shape = preset.batches.keywords["shape"]
    choice = data.choose(values["in_set"], "photo_patches")
    test = data.load(choice, "test", n=SHOWN, download=False)
    preset = preset.changed(
        model={"width": values["width"], "bottleneck": values["bottleneck"]},
        objective={"generative": generative, "gamma": values["gamma"]} if supervised else changed,
        batches={"name": choice.name},
        steps=values["updates"],
    )
    images = {choice.name: data.scale_unit(data.as_shape(test.x, shape))}
    for k in experiment.settings["pool_sizes"]:
        images[f"pool {k}"] = data.smoothness_images(SHOWN, shape, k, torch.Generator().manual_seed(k))
    inputs = {name: 2 * x - 1 for name, x in images.items()}
    return preset, ScoreWatch(choice.name, inputs, _detectors, {name: x.numpy() for name, x in images.items()})


def _detectors(model: nn.Module) -> dict[str, Detector]:
    return {SCORE: LogDensity(model)}


def _name(values: dict[str, Any]) -> str:
    bottleneck = f"bottleneck {values['bottleneck']:g}" if values["bottleneck"] else "no bottleneck"
    return (
        f"{values['in_set']}, γ = {values['gamma']:g}, {bottleneck}, width {values['width']}, {values['chain']} steps of "
        f"{values['step_size']:.3g} with noise {values['noise_std']:.3g}, f² weight {values['l2']:g}, "
        f"{values['updates']} updates, seed {values['seed']}"
    )
