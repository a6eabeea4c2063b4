"""The panel of nae/ablations.

Imports: plotting, its own folder, training, widgets.kept, widgets.normalising, widgets.panel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets as w

from oodlab import plotting, training
from oodlab.studies.nae.ablations.setting import ROWS, Variation
from oodlab.studies.nae.images import digits_task
from oodlab.studies.nae.shipped import HELD_OUT, quick_recipe
from oodlab.training import Recipe
from oodlab.widgets.kept import kept
from oodlab.widgets.normalising import normalise, normalising_panel, telling
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider


def ablations_panel() -> RunPanel:
    """Build the panel of nae/ablations: change one thing of NAE-OMI, and watch it beside the base.

    All else is the base's at the quick profile. Base and plain autoencoders are kept, so that only the
    first run that needs one has to train it.
    """
    base = _base()
    before, latent_steps = base.needs["AE"].steps, base.objective.negatives.latent_chain.steps
    own = base.model.halves.latent
    controls = {
        "latent": w.SelectionSlider(
            options=sorted({*ROWS["table8"], own}), value=own, description="numbers in a code", **slider()
        ),
        "sphere": w.Checkbox(True, description="codes on the sphere", style=WIDE),
        "latent_steps": w.IntSlider(
            latent_steps, min=0, max=max(50, 5 * latent_steps), description="latent steps", **slider()
        ),
        "replay": w.Checkbox(True, description="replay of latent states", style=WIDE),
        "pre_training": w.IntSlider(before, min=0, max=2 * before, description="updates before", **slider()),
        "updates": w.IntSlider(base.steps, min=1, max=max(2000, base.steps), description="updates", **slider()),
        "beside": w.Checkbox(True, description="the base beside it, in grey", style=WIDE),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    return normalising_panel(controls, task=_train, name=_name)


def _name(values: dict[str, Any]) -> str:
    return (
        f"{values['latent']} numbers in a code {'on the sphere' if values['sphere'] else 'in R^D'}, {values['latent_steps']} "
        f"latent steps {'with' if values['replay'] else 'without'} replay, {values['pre_training']} updates before, "
        f"{values['updates']} updates, seed {values['seed']}"
    )


def _base() -> Recipe:
    return quick_recipe("NAE-OMI", digits_task(HELD_OUT, profile="quick").here())


def recipe_of(values: dict[str, Any]) -> Recipe:
    """Return the training that the controls' values are."""
    base = _base()
    variation = Variation(
        pre_training=values["pre_training"] / base.needs["AE"].steps,
        latent_steps=values["latent_steps"] / base.objective.negatives.latent_chain.steps,
        replay=values["replay"],
        sphere=values["sphere"],
        latent=values["latent"],
    )
    return replace(variation(base), steps=values["updates"], snapshots=0)


def _train(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
    beside = None
    if values["beside"]:
        base = _base()
        total = base.needs["AE"].steps + base.steps
        told = telling(publish, total, plain="the base's plain autoencoder", normalised="the base")
        found = kept(base, seed=values["seed"], should_stop=should_stop, on_step=told)
        if not found.result.finished:
            return found.result
        beside = plotting.NormalisingCourse.of(found.result.history, found.result.probes)
    return normalise(recipe_of(values), seed=values["seed"], should_stop=should_stop, publish=publish, beside=beside)
