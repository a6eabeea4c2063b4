"""The panel of mass/epoch_curves.

Imports: data, detectors, its own folder, widgets.panel, widgets.scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ipywidgets as w
from torch import nn

from oodlab import data
from oodlab.detectors import ApproximateMass, Detector, LogDensity
from oodlab.objectives import PenalisedLikelihood
from oodlab.studies.mass.epoch_curves.setting import STUDY, Flows
from oodlab.training import Recipe
from oodlab.widgets.panel import WIDE, RunPanel, slider
from oodlab.widgets.scores import ScoreWatch, score_panel

SCORES = ("−approximate mass (nats per pixel unit)", "log p (nats)")
SHOWN = 100  # test images per set: their gradients are taken anew for every live figure
CONDITIONERS = {
    "ReLU": (nn.ReLU, nn.Identity),
    "ReLU, batch norm": (nn.ReLU, nn.BatchNorm2d),
    "SiLU": (nn.SiLU, nn.Identity),
}
PENALTIES = [
    ("mean over images", "per_sample"),
    ("one norm per batch", "batch"),
    ("as released: mean over images / B", "released"),
]


def epoch_curves_panel() -> RunPanel:
    """Build the panel of mass/epoch_curves: train a small flow with or without the penalty, watch both scores.

    The rest of the setting is the quick profile's. Nothing is saved.
    """
    controls = {
        "in_set": w.Dropdown(options=["fashion_mnist", "cifar10"], description="data set", style=WIDE),
        "conditioners": w.Dropdown(options=list(CONDITIONERS), description="conditioners", style=WIDE),
        "alpha": w.FloatSlider(2.0, min=0.0, max=10.0, step=0.25, description="penalty weight α", **slider()),
        "reduction": w.Dropdown(options=PENALTIES, description="penalty", style=WIDE),
        "width": w.IntSlider(8, min=4, max=32, step=4, description="width of the conditioners", **slider()),
        "updates": w.IntSlider(100, min=20, max=1000, step=20, description="updates", **slider()),
        "lr": w.FloatLogSlider(2e-3, base=10, min=-4, max=-2, step=0.1, description="learning rate", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    return score_panel(controls, scores=SCORES, prepare=_prepare, name=_name)


def _prepare(values: dict[str, Any]) -> tuple[Recipe, ScoreWatch]:
    study = STUDY.at("quick", dataset=values["in_set"])
    task = study.tasks[0].here()
    size = replace(study.budget, width=values["width"], lr=values["lr"])
    penalty = PenalisedLikelihood(values["alpha"], values["reduction"])
    flows = Flows(_name(values), size, "printed", *CONDITIONERS[values["conditioners"]], penalty)
    recipe = replace(flows(task)["flow"], steps=values["updates"], snapshots=0)
    inputs = task.load(n=SHOWN, seed=study.draw_seed)
    sets = {task.name: inputs.test, **inputs.outside}
    shown = {name: data.bin_center(split.x) for name, split in sets.items()}
    images = {name: x.numpy() for name, x in shown.items()}
    return recipe, ScoreWatch(task.name, shown, _detectors, images)


def _detectors(model: nn.Module) -> dict[str, Detector]:
    return dict(zip(SCORES, (ApproximateMass(model), LogDensity(model)), strict=True))


def _name(values: dict[str, Any]) -> str:
    penalty = f"α = {values['alpha']:g} ({values['reduction'].replace('_', ' ')})" if values["alpha"] else "vanilla"
    return (
        f"{values['in_set']}, {values['conditioners']}, {penalty}, width {values['width']}, {values['updates']} updates at "
        f"{values['lr']:.2g}, seed {values['seed']}"
    )
