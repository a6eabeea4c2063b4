"""The panel of mass/epoch_curves.

Imports: data, detectors, presets, widgets.panel, widgets.scores.
"""

from __future__ import annotations

from typing import Any

import ipywidgets as w
from torch import nn

from oodlab import data, presets
from oodlab.detectors import ApproximateMass, Detector, LogDensity
from oodlab.presets import Preset
from oodlab.widgets.panel import WIDE, RunPanel, slider
from oodlab.widgets.scores import ScoreWatch, score_panel

SCORES = ("−approximate mass (nats per pixel unit)", "log p (nats)")
SHOWN = 100  # test images per set: their gradients are taken anew for every live figure


def epoch_curves() -> RunPanel:
    """Build the panel of mass/epoch_curves: train a small flow with or without the penalty, watch both scores.

    The rest of the setting is the quick profile's. Nothing is saved.
    """
    controls = {
        "in_set": w.Dropdown(options=["fashion_mnist", "cifar10"], description="data set", style=WIDE),
        "alpha": w.FloatSlider(2.0, min=0.0, max=10.0, step=0.25, description="penalty weight α", **slider()),
        "reduction": w.Dropdown(
            options=[("mean over samples", "per_sample"), ("one norm per batch", "batch")],
            description="penalty",
            style=WIDE,
        ),
        "width": w.IntSlider(8, min=4, max=32, step=4, description="width of the conditioners", **slider()),
        "updates": w.IntSlider(100, min=20, max=1000, step=20, description="updates", **slider()),
        "lr": w.FloatLogSlider(2e-3, base=10, min=-4, max=-2, step=0.1, description="learning rate", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    return score_panel(controls, scores=SCORES, prepare=_prepare, name=_name)


def _prepare(values: dict[str, Any]) -> tuple[Preset, ScoreWatch]:
    cifar10 = values["in_set"] == "cifar10"
    experiment = presets.mass.EPOCH_CURVES_CIFAR10 if cifar10 else presets.mass.EPOCH_CURVES
    preset = experiment.at("quick").runs["penalised per sample"]
    probe = preset.probe.keywords
    task = data.task(probe["in_set"], probe["out_sets"], shape=probe["shape"], n=SHOWN, seed=probe["seed"])
    sets = {task.in_set: task.test, **task.outs}
    preset = preset.changed(
        model={"width": values["width"]},
        objective={"alpha": values["alpha"], "reduction": values["reduction"]},
        batches={"name": task.in_set},
        optimiser={"lr": values["lr"]},
        steps=values["updates"],
    )
    inputs = {name: data.bin_center(split.x) for name, split in sets.items()}
    images = {name: x.numpy() for name, x in inputs.items()}
    return preset, ScoreWatch(task.in_set, inputs, _detectors, images)


def _detectors(model: nn.Module) -> dict[str, Detector]:
    return dict(zip(SCORES, (ApproximateMass(model), LogDensity(model)), strict=True))


def _name(values: dict[str, Any]) -> str:
    penalty = f"α = {values['alpha']:g} ({values['reduction'].replace('_', ' ')})" if values["alpha"] else "vanilla"
    return (
        f"{values['in_set']}, {penalty}, width {values['width']}, {values['updates']} updates at "
        f"{values['lr']:.2g}, seed {values['seed']}"
    )
