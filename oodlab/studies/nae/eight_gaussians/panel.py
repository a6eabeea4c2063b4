"""The panel of nae/eight_gaussians.

Imports: data, grids, objectives, plotting, samplers, its own folder, training, widgets.live, widgets.panel, widgets.stepping,
widgets.walk.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor

from oodlab import data, grids, plotting, training
from oodlab.objectives import ManifoldChains
from oodlab.samplers import Box, Sphere, Uniform
from oodlab.studies.nae.eight_gaussians.setting import SPACE, STUDY
from oodlab.studies.nae.plane import CHAIN, INSIDE, LATENT_CHAIN, LATENT_PENALTY
from oodlab.widgets.live import fresh_model, train_live
from oodlab.widgets.panel import REDRAW_SECONDS, WIDE, Publish, RunPanel, slider
from oodlab.widgets.stepping import Stepper
from oodlab.widgets.walk import Walk

WALKERS = 100  # chains moved by hand
NOISE = Uniform(INSIDE.low, INSIDE.high)


@dataclass(frozen=True)
class PlaneSnapshot:
    """A learned density of the plane in the middle of a training.

    Attributes:
        axis, log_density: Grid and the values on it, unnormalised nats.
        negatives, starts: End and start of the chains of the last update, (B, 2).
    """

    axis: Tensor
    log_density: Tensor
    negatives: Tensor
    starts: Tensor


def eight_gaussians_panel() -> RunPanel:
    """Build the panel of nae/eight_gaussians: train a small normalized autoencoder and watch it.

    Network, batch size and learning rates are the quick profile's; the controls decide
    the rest, and start with the paper's chain for OMI. Nothing is saved. On what was learned,
    chains are moved by hand.
    """
    controls = {
        "sampler": w.Dropdown(
            options=["OMI", "CD", "PCD", "PCD, 5 % restart"], description="negatives from", style=WIDE
        ),
        "latent": w.Dropdown(
            options=[("circle", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 4)],
            value=3,
            description="latent size",
            style=WIDE,
        ),
        "updates": w.IntSlider(300, min=50, max=2000, step=50, description="updates", **slider()),
        "chain": w.IntSlider(30, min=1, max=100, description="chain length", **slider()),
        "step_size": w.FloatLogSlider(0.005, base=10, min=-4, max=-1, description="step size", **slider()),
        "noise_std": w.FloatLogSlider(0.1, base=10, min=-3, max=0, description="noise (std per step)", **slider()),
        "temperature": w.FloatLogSlider(0.1, base=10, min=-2, max=0.5, description="first temperature", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    views = {
        "power": w.FloatLogSlider(1.0, base=2, min=-3, max=3, description="show p^(1/T), T =", **slider()),
        "top": w.FloatSlider(0.15, min=0.02, max=0.5, step=0.01, description="top of the scale", **slider()),
        "negatives": w.Checkbox(True, description="negatives and their paths", style=WIDE),
    }
    panel = RunPanel(controls, views, task=_train_plane, draw=_draw_plane, name=_name_plane)
    starts = {
        "data": functools.partial(data.eight_gaussians, WALKERS),
        "noise": lambda generator: NOISE(torch.empty(WALKERS, 2), generator),
    }

    def show(walk: Walk, text: str, at_once: bool) -> None:
        moved = replace(panel.snapshot, negatives=walk.points, starts=walk.start)
        panel.show_state(moved, text, at_once=at_once)

    stepped, bounds = {"latent": LATENT_CHAIN, "visible": CHAIN}, Box(INSIDE.low, INSIDE.high)
    panel.add(Stepper(panel, chains=stepped, start_bounds=bounds, starts=starts, show=show))
    return panel


def _name_plane(values: dict[str, Any]) -> str:
    latent = values["latent"] or "circle"
    return (
        f"{values['sampler']}, latent {latent}, {values['chain']} steps of {values['step_size']:.3g} "
        f"with noise {values['noise_std']:.3g}, T from {values['temperature']:.3g}, "
        f"{values['updates']} updates, seed {values['seed']}"
    )


def _recipe(values: dict[str, Any]) -> training.Recipe:
    """Return quick's training with this sampler, changed as the controls say."""
    study = STUDY.at("quick")
    name = SPACE if values["sampler"] == "OMI" else f"NAE-{values['sampler']}"
    recipe = study.recipes[study.tasks[0].name, name, "model"]
    sphere = values["latent"] == 0
    negatives = recipe.objective.negatives
    chain = {"steps": values["chain"], "step_size": values["step_size"], "noise_std": values["noise_std"]}
    negatives = replace(negatives, chain=replace(negatives.chain, **chain))
    if isinstance(negatives, ManifoldChains):
        walk = replace(negatives.latent_chain, bounds=Sphere() if sphere else None)
        negatives = replace(negatives, latent_chain=walk)
    model = {"latent": 2 if sphere else values["latent"], "sphere": sphere, "temperature": values["temperature"]}
    return replace(
        recipe,
        model=replace(recipe.model, **model),
        objective=replace(recipe.objective, negatives=negatives, latent_penalty=0.0 if sphere else LATENT_PENALTY),
        steps=values["updates"],
    )


def _train_plane(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
    recipe = _recipe(values)
    model = fresh_model(recipe, seed=values["seed"])
    axis, points = grids.grid_points(81)
    test_x = data.eight_gaussians(2000, torch.Generator().manual_seed(1_000_003))
    true_nll = -float(data.eight_gaussians_log_prob(test_x).mean())
    drawn_at = 0.0

    def on_step(step: int, total: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
        nonlocal drawn_at
        if time.monotonic() - drawn_at < REDRAW_SECONDS and step < total:
            return
        drawn_at = time.monotonic()
        with torch.no_grad():
            values_on_grid = model.log_density(points.to(parts["negatives"])).cpu().reshape(81, 81)
        grid = grids.normalise_values(axis, values_on_grid)
        nll = grids.negative_log_likelihood(model.log_density, test_x.to(parts["negatives"]), grid)
        publish(
            PlaneSnapshot(axis, values_on_grid, parts["negatives"].cpu(), parts["negatives_start"].cpu()),
            step,
            total,
            f"NLL {nll:.2f} nats (truth {true_nll:.2f}), error of data {numbers['error_data']:.3f}, "
            f"of negatives {numbers['error_negatives']:.3f}, T {numbers['temperature']:.3f}",
        )

    return train_live(model, recipe, seed=values["seed"], should_stop=should_stop, on_step=on_step)


def _draw_plane(snapshot: PlaneSnapshot, views: dict[str, Any]) -> Figure:
    grid = grids.normalise_values(snapshot.axis, snapshot.log_density / views["power"])
    return plotting.live_density(
        grid,
        top=views["top"],
        points=snapshot.negatives if views["negatives"] else None,
        starts=snapshot.starts if views["negatives"] else None,
    )
