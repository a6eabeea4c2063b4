"""The panel of nae/samples.

Imports: data, plotting, its own folder, training, widgets.kept, widgets.panel, widgets.stepping, widgets.walk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ipywidgets as w
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from oodlab import data, plotting, training
from oodlab.samplers import Uniform
from oodlab.studies.nae.images import digits_task, unit_pixels
from oodlab.studies.nae.shipped import quick_recipe
from oodlab.study import Task
from oodlab.training import Recipe
from oodlab.widgets.kept import kept
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider
from oodlab.widgets.stepping import Stepper
from oodlab.widgets.walk import Walk

WALKERS = 16  # chains moved by hand
NONE = "none"  # and not None, which a menu shows as an empty line
REFERENCES = 500  # test digits whose energies are drawn beside


def samples_panel() -> RunPanel:
    """Build the panel of nae/samples: take a trained normalized autoencoder, and walk on its energy.

    Run loads the training of profile quick, or does it where there is none yet.
    """
    held_out = [NONE, *range(10)]
    controls = {
        "method": w.Dropdown(options=["NAE-OMI", "AE"], description="training", style=WIDE),
        "without": w.Dropdown(options=held_out, description="digit held out", style=WIDE),
        "seed": w.IntSlider(0, min=0, max=9, description="seed of the training", **slider()),
    }
    views = {
        "shown": w.IntSlider(10, min=4, max=WALKERS, description="chains shown", **slider()),
        "each": w.Checkbox(False, description="a line for every chain", style=WIDE),
    }
    panel = RunPanel(controls, views, task=_train, draw=_draw, name=_name, width=700)
    task = _task(NONE)
    chains = quick_recipe("NAE-OMI", task).objective.negatives
    starts = {
        "test digits": functools.partial(_digits, task),
        "noise": lambda generator: Uniform(0.0, 1.0)(torch.empty(WALKERS, *task.shape), generator),
    }

    def show(walk: Walk, text: str, at_once: bool) -> None:
        moved = plotting.ChainSnapshot(
            {"start": walk.start[:, 0].numpy(), "now": walk.points[:, 0].numpy()},
            torch.stack(walk.energies).numpy(),
            "step",
            tuple(walk.turns),
            panel.snapshot.reference,
        )
        panel.show_state(moved, text, at_once=at_once)

    stepped = {"latent": chains.latent_chain, "visible": chains.chain}
    panel.add(Stepper(panel, chains=stepped, start_bounds=chains.start_bounds, starts=starts, show=show))
    return panel


def _task(without: int | str) -> Task:
    return digits_task(*(() if without == NONE else (without,)), profile="quick").here()


def _digits(task: Task, generator: torch.Generator) -> Tensor:
    x = task.test().load().x
    drawn = x[torch.randperm(len(x), generator=generator)[:WALKERS]]
    return unit_pixels(data.as_shape(drawn, task.shape))


def _name(values: dict[str, Any]) -> str:
    without = "on all digits" if values["without"] == NONE else f"without {values['without']}"
    return f"{values['method']} {without}, seed {values['seed']}"


def _train(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
    recipe, errors = quick_recipe(values["method"], _task(values["without"])), []

    def on_step(stage: Recipe, done: int, total: int, numbers: dict[str, float], made: dict[str, Tensor]) -> None:
        errors.append(numbers["error_data"] if "error_data" in numbers else numbers["error"])
        images = {
            title: made[name][:, 0].float().cpu().numpy()
            for title, name in (("starts", "negatives_start"), ("negatives", "negatives"))
            if name in made
        }
        what = "normalising" if images else "plain autoencoder"
        text = f"trained once, then kept: {what}, error of data {errors[-1]:.4f}"
        along = "reading of the training's error"
        publish(plotting.ChainSnapshot(images, np.array(errors)[:, None], along), done, total, text)

    found = kept(recipe, seed=values["seed"], should_stop=should_stop, on_step=on_step)
    result, total = found.result, sum(stage.steps for stage in (recipe, *recipe.needs.values()))
    said = f"The training {found.note}. " if found.note else ""
    if not result.finished:
        said = f"{found.recipe.name} has {result.step:,} of its {found.recipe.steps:,} updates; Run goes on. "
    publish(_first_look(result), found.done, total, f"{said}Now move chains below.")
    return result


@torch.no_grad()
def _first_look(result: training.Result) -> plotting.ChainSnapshot:
    """Show test digits, their reconstructions, and the energies that chains are compared with."""
    task = _task(NONE)
    x = unit_pixels(data.as_shape(task.test().load().x[:REFERENCES], task.shape))
    model = result.model
    seen = x.to(model.log_temperature.device)
    energies, back = model.energy(seen).cpu().numpy(), model.decode(model.encode(seen)).cpu()
    images = {"test digits": x[:WALKERS, 0].numpy(), "reconstructed": back[:WALKERS, 0].numpy()}
    return plotting.ChainSnapshot(images, np.empty((0, WALKERS)), "step", reference=energies)


def _draw(snapshot: plotting.ChainSnapshot, views: dict[str, Any]) -> Figure:
    return plotting.live_chains(snapshot, **views)
