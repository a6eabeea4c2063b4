"""The panel of ebm/gamma_sweep.

Imports: detectors, presets, widgets.panel, widgets.scores.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import ipywidgets as w
from torch import nn

from oodlab import presets
from oodlab.detectors import Detector, LogDensity
from oodlab.presets import Preset
from oodlab.widgets.panel import WIDE, RunPanel, slider
from oodlab.widgets.scores import ScoreWatch, score_panel

SCORE = "log p up to a constant (nats)"
SHOWN = 200  # test inputs per set
GAMMAS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
COMBINATIONS = {
    f"{in_set}, {method}": (in_set, method)
    for in_set, methods in presets.ebm.gamma_sweep.TABLES_AND_FASHION.items()
    for method in methods
}


def gamma_sweep() -> RunPanel:
    """Build the panel of ebm/gamma_sweep: train one energy at one gamma, watch its log-density on every set.

    The rest of the setting is the quick profile's. Nothing is saved.
    """
    controls = {
        "task": w.Dropdown(options=list(COMBINATIONS), description="data set, training", style=WIDE),
        "gamma": w.SelectionSlider(
            options=[(f"{gamma:g}", gamma) for gamma in GAMMAS], value=1.0, description="supervision γ", **slider()
        ),
        "chain": w.IntSlider(10, min=1, max=100, description="chain length (CD)", **slider()),
        "step_size": w.FloatLogSlider(1.0, base=10, min=-3, max=1, description="step size (CD)", **slider()),
        "noise_std": w.FloatLogSlider(
            0.01, base=10, min=-4, max=-0.5, description="noise (std per step, CD)", **slider()
        ),
        "width": w.IntSlider(100, min=50, max=300, step=25, description="width (images: a 25th)", **slider()),
        "updates": w.IntSlider(300, min=20, max=2000, step=20, description="updates", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    return score_panel(controls, scores=(SCORE,), prepare=_prepare, name=_name)


def _prepare(values: dict[str, Any]) -> tuple[Preset, ScoreWatch]:
    in_set, method = COMBINATIONS[values["task"]]
    runs = presets.ebm.gamma_sweep.sweep(in_set).at("quick").runs
    preset = runs[f"{in_set} {method} {1 if values['gamma'] else 0}"]
    generative = preset.objective.keywords["generative"]
    if method == "CD":
        chain = dataclasses.replace(
            generative.keywords["chain"],
            steps=values["chain"],
            step_size=values["step_size"],
            noise_std=values["noise_std"],
        )
        generative = functools.partial(generative.func, **{**generative.keywords, "chain": chain})
    units = (values["width"],) * 5
    preset = preset.changed(
        model={"width": values["width"] // 25} if in_set == "fashion_mnist" else {"hidden": units},
        objective={"gamma": values["gamma"], "generative": generative},
        steps=values["updates"],
    )
    asked = presets.ebm.sweep_data.inputs_for(preset, n=SHOWN, seed=0)
    inside = preset.batches.keywords["name"]
    inputs = {inside: asked.inside, **asked.outs}
    pictures = {
        name: (x / 255 if name == "oodomain" else (x + 1) / 2).clamp(0, 1).numpy()
        for name, x in inputs.items()
        if x.ndim == 4
    }
    return preset, ScoreWatch(inside, inputs, _detectors, pictures)


def _detectors(model: nn.Module) -> dict[str, Detector]:
    return {SCORE: LogDensity(model)}


def _name(values: dict[str, Any]) -> str:
    chain = (
        f", {values['chain']} steps of {values['step_size']:.3g} with noise {values['noise_std']:.3g}"
        if "CD" in values["task"]
        else ""
    )
    return f"{values['task']}, γ = {values['gamma']:g}{chain}, width {values['width']}, {values['updates']} updates, seed {values['seed']}"
