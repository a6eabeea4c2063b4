"""The panel of ebm/gamma_sweep.

Imports: detectors, objectives, samplers, its own folder, training, widgets.panel, widgets.scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ipywidgets as w
from torch import nn

from oodlab.detectors import Detector, LogDensity
from oodlab.objectives.settings import Contrastive, WithLabels
from oodlab.samplers import LangevinChain
from oodlab.studies.ebm.gamma_sweep.inside import MADE, OODOMAIN
from oodlab.studies.ebm.gamma_sweep.setting import HIDDEN, LOSSES, SETS, STUDY, Energies, prepared
from oodlab.studies.ebm.tables import TableEnergy, WithGenerator
from oodlab.training import Recipe
from oodlab.widgets.panel import WIDE, RunPanel, slider
from oodlab.widgets.scores import ScoreWatch, score_panel

SCORE = "log p up to a constant (nats)"
SHOWN = 200  # test inputs per set
GAMMAS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
COMBINATIONS = tuple(f"{in_set}, {loss}" for in_set in SETS for loss in LOSSES)


def gamma_sweep_panel() -> RunPanel:
    """Build the panel of ebm/gamma_sweep: train one energy at one gamma, watch its log-density on every set.

    The rest of the setting is the quick profile's. Nothing is saved.
    """
    controls = {
        "task": w.Dropdown(options=COMBINATIONS, description="data set, training", style=WIDE),
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


def _prepare(values: dict[str, Any]) -> tuple[Recipe, ScoreWatch]:
    in_set, loss = values["task"].split(", ")
    study = STUDY.at("quick", dataset=in_set)
    task = study.tasks[0].here()
    size = replace(study.budget, width=values["width"] // 25)
    recipe = Energies(loss, values["gamma"], size, "printed")(task)["energy"]
    recipe = replace(
        recipe,
        model=_with_width(recipe.model, values["width"]),
        objective=_with_chain(recipe.objective, values),
        steps=values["updates"],
    )
    inputs = task.load(n=SHOWN, seed=study.draw_seed)
    stored = {name: split.x for name, split in inputs.outside.items() if name not in MADE["released"]}
    scale = prepared(inputs, {})
    shown = {name: x.float() if name in inputs.prepared else scale(x) for name, x in stored.items()}
    shown = {task.name: scale(inputs.test.x), **shown}
    pictures = {
        name: (x / 255 if name == OODOMAIN else (x + 1) / 2).clamp(0, 1).numpy()
        for name, x in shown.items()
        if x.ndim == 4
    }
    return recipe, ScoreWatch(task.name, shown, _detectors, pictures)


def _with_width(model: Any, units: int) -> Any:
    """Return a table's energy with so many units in each hidden layer; images' have their channels already."""
    if isinstance(model, WithGenerator):
        return replace(model, energy=_with_width(model.energy, units))
    return replace(model, hidden=(units,) * len(HIDDEN)) if isinstance(model, TableEnergy) else model


def _with_chain(objective: WithLabels, values: dict[str, Any]) -> WithLabels:
    """Return contrastive divergence with the chain that the controls say; another objective as it is."""
    generative = objective.generative
    if not isinstance(generative, Contrastive):
        return objective
    chain = LangevinChain(values["chain"], step_size=values["step_size"], noise_std=values["noise_std"])
    negatives = replace(generative.negatives, chain=chain)
    return replace(objective, generative=replace(generative, negatives=negatives))


def _detectors(model: nn.Module) -> dict[str, Detector]:
    return {SCORE: LogDensity(model)}


def _name(values: dict[str, Any]) -> str:
    chain = (
        f", {values['chain']} steps of {values['step_size']:.3g} with noise {values['noise_std']:.3g}"
        if "CD" in values["task"]
        else ""
    )
    return f"{values['task']}, γ = {values['gamma']:g}{chain}, width {values['width']}, {values['updates']} updates, seed {values['seed']}"
