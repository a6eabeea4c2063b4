"""The panel of nae/two_clusters.

Imports: data, grids, models, plotting, its own folder, training, widgets.live, widgets.panel.
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

from oodlab import data, grids, training
from oodlab.models import Autoencoder
from oodlab.studies.nae.two_clusters.figure import Reconstructions, live_manifold
from oodlab.studies.nae.two_clusters.setting import NAE, STUDY, manifold
from oodlab.widgets.live import fresh_model, train_live
from oodlab.widgets.panel import REDRAW_SECONDS, WIDE, Publish, RunPanel, slider

LINES = 81  # of the grid
NONE = torch.zeros(0, 2)


@dataclass(frozen=True)
class ClusterSnapshot:
    """An autoencoder of the plane in the middle of a training.

    Attributes:
        title: Name of the training, AE or NAE.
        axis, log_density, error: Grid and the values on it, the first unnormalised nats.
        manifold: Decoded codes between the least and the largest code of data, (m, 2).
        negatives, starts: End and start of the chains of the last update, (B, 2); none in the first training.
    """

    title: str
    axis: Tensor
    log_density: Tensor
    error: Tensor
    manifold: Tensor
    negatives: Tensor
    starts: Tensor


def two_clusters_panel() -> RunPanel:
    """Build the panel of nae/two_clusters: train a small autoencoder, then turn it into a normalized one.

    Networks, batch size and learning rates are the quick profile's. Nothing is saved.
    """
    controls = {
        "reconstruct": w.IntSlider(400, min=50, max=2000, step=50, description="updates as plain AE", **slider()),
        "updates": w.IntSlider(300, min=50, max=2000, step=50, description="updates as NAE", **slider()),
        "fixed": w.Checkbox(True, description="decoder fixed in the second", style=WIDE),
        "chain": w.IntSlider(30, min=1, max=100, description="chain length", **slider()),
        "temperature": w.FloatLogSlider(0.1, base=10, min=-2, max=0.5, description="first temperature", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    views = {
        "show": w.Dropdown(options=["density", "error"], description="show", style=WIDE),
        "power": w.FloatLogSlider(1.0, base=2, min=-3, max=3, description="show p^(1/T), T =", **slider()),
        "negatives": w.Checkbox(True, description="negatives and their paths", style=WIDE),
    }
    return RunPanel(controls, views, task=_train, draw=_draw, name=_name)


def _name(values: dict[str, Any]) -> str:
    decoder = "fixed" if values["fixed"] else "trained"
    return (
        f"{values['reconstruct']} updates as AE, {values['updates']} as NAE with the decoder {decoder}, {values['chain']} steps, "
        f"T from {values['temperature']:.3g}, seed {values['seed']}"
    )


def _train(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
    study = STUDY.at("quick")
    normalized = study.recipes[study.tasks[0].name, NAE, "NAE"]
    plain = normalized.needs["AE"]
    first = replace(plain.model, temperature=values["temperature"])
    plain = replace(plain, model=first, steps=values["reconstruct"])
    negatives = normalized.objective.negatives
    negatives = replace(negatives, chain=replace(negatives.chain, steps=values["chain"]))
    objective = replace(normalized.objective, negatives=negatives)
    normalized = replace(normalized, objective=objective, steps=values["updates"])
    model = fresh_model(plain, seed=values["seed"])
    test_x = data.two_uniforms(2000, torch.Generator().manual_seed(1_000_003))
    total, drawn_at = plain.steps + normalized.steps, 0.0

    def on_step(step: int, steps: int, numbers: dict[str, float], parts: dict[str, Tensor], *, before: int) -> None:
        nonlocal drawn_at
        if time.monotonic() - drawn_at < REDRAW_SECONDS and step < steps:
            return
        drawn_at = time.monotonic()
        negatives = (parts["negatives"].cpu(), parts["negatives_start"].cpu()) if before else (NONE, NONE)
        snapshot = _look(model, test_x, "NAE" if before else "AE", negatives)
        error = numbers["error_data"] if before else numbers["error"]
        said = f", of negatives {numbers['error_negatives']:.3f}, T {numbers['temperature']:.3f}" if before else ""
        publish(snapshot, before + step, total, f"{snapshot.title}; error of data {error:.3f}{said}")

    for recipe, before in ((plain, 0), (normalized, plain.steps)):
        model.decoder.requires_grad_(not (before and values["fixed"]))
        told = functools.partial(on_step, before=before)
        result = train_live(model, recipe, seed=values["seed"], should_stop=should_stop, on_step=told)
        if not result.finished:
            break
    return result


@torch.no_grad()
def _look(model: Autoencoder, test_x: Tensor, title: str, negatives: tuple[Tensor, Tensor]) -> ClusterSnapshot:
    """Measure a model on the grid and on fresh data."""
    place = model.log_temperature.device
    axis, points = grids.grid_points(LINES)
    error = model.reconstruction_error(points.to(place)).cpu().reshape(LINES, LINES)
    log_density = -error / model.temperature.cpu()
    curve = manifold(model, test_x.to(place), 300).cpu()
    nll = grids.negative_log_likelihood(model.log_density, test_x.to(place), grids.normalise_values(axis, log_density))
    return ClusterSnapshot(f"{title}, NLL {nll:.2f} nats", axis, log_density, error, curve, *negatives)


def _draw(snapshot: ClusterSnapshot, views: dict[str, Any]) -> Figure:
    grid = grids.normalise_values(snapshot.axis, snapshot.log_density / views["power"])
    model = Reconstructions(snapshot.title, grid, snapshot.error, snapshot.manifold)
    chains = {"points": snapshot.negatives, "starts": snapshot.starts} if views["negatives"] else {}
    return live_manifold(model, show=views["show"], **chains)
