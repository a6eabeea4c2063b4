"""The panel of nae/holdout_digits.

Imports: data, metrics, plotting, presets, samplers, training, widgets.panel.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor

from oodlab import data, metrics, plotting, presets, training
from oodlab.presets import Preset
from oodlab.samplers import effective_temperature
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider

LOOKING_SHARE = 0.2  # of the time at most goes into scoring validation images
QUICK = presets.nae.BUDGETS["quick"]


def holdout_digits() -> RunPanel:
    """Build the panel of nae/holdout_digits: normalise an autoencoder that has never seen one digit, and watch it.

    Networks, batches and pre-training are the quick profile's unless a control says otherwise.
    The plain autoencoder is kept, so that only the first run with it has to train it.
    """
    controls = {
        "method": w.Dropdown(options=["NAE-OMI", "NAE-CD", "NAE-PCD"], description="training", style=WIDE),
        "digit": w.IntSlider(9, min=0, max=9, description="digit held out", **slider()),
        "pre_training": w.IntSlider(
            QUICK.steps, min=0, max=max(4000, QUICK.steps), step=10, description="updates before", **slider()
        ),
        "latent": w.IntSlider(QUICK.latent_steps, min=0, max=50, description="latent steps (OMI)", **slider()),
        "visible": w.IntSlider(QUICK.visible_steps, min=1, max=100, description="visible steps", **slider()),
        "rate": w.FloatLogSlider(
            QUICK.normalising_lr, base=10, min=-6, max=-2, description="learning rate", **slider()
        ),
        "updates": w.IntSlider(300, min=10, max=5000, step=10, description="updates", **slider()),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    views = {
        "shown": w.IntSlider(12, min=4, max=16, description="negatives shown", **slider()),
        "starts": w.Checkbox(True, description="where their visible chains start", style=WIDE),
    }
    return RunPanel(controls, views, task=_train, draw=_draw, name=_name, width=700)


def _name(values: dict[str, Any]) -> str:
    latent = f"{values['latent']} latent and " if values["method"] == "NAE-OMI" else ""
    return (
        f"{values['method']} without {values['digit']}, {values['pre_training']} updates before, {latent}{values['visible']} "
        f"visible steps, rate {values['rate']:.2g}, {values['updates']} updates, seed {values['seed']}"
    )


def _preset(values: dict[str, Any]) -> Preset:
    in_set = data.choose("mnist", "digits")
    preset = presets.nae.image_training(values["method"], values["digit"], in_set=in_set.name).at("quick")
    chains = {"chain": "visible", "latent_chain": "latent"}
    given = preset.objective.keywords
    objective = {
        name: dataclasses.replace(given[name], steps=values[steps]) for name, steps in chains.items() if name in given
    }
    start = preset.start.changed(steps=values["pre_training"]) if values["pre_training"] else None
    changes = {"objective": objective, "optimiser": {"lr": values["rate"]}, "steps": values["updates"]}
    return dataclasses.replace(preset.changed(**changes), start=start)


def _train(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
    preset, seed = _preset(values), values["seed"]
    total = preset.steps + values["pre_training"]
    publish(plotting.NormalisingSnapshot(plotting.NormalisingCourse()), 0, total, "before the first update")
    with torch.random.fork_rng([]):  # the notebook's own random numbers go on as they were
        torch.manual_seed(seed)
        model = preset.model()
    if preset.start:

        def on_start(step: int, _: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
            empty = plotting.NormalisingSnapshot(plotting.NormalisingCourse())
            publish(empty, step, total, f"plain autoencoder, error {numbers['error']:.4f}")

        first = training.train_or_load(preset.start, seed=seed, should_stop=should_stop, on_step=on_start, anew=False)
        if not first.finished:
            return first
        model.load_state_dict(first.model.state_dict())
    watch = _Watch(preset, publish, total)
    watch.score(model, 0)
    return training.fit(
        model,
        preset.objective(model),
        preset.batches(),
        optimiser=preset.optimiser,
        steps=preset.steps,
        seed=seed,
        should_stop=should_stop,
        on_step=lambda step, _, numbers, parts: watch.look(model, step, numbers, parts),
        show_progress=False,
    )


class _Watch:
    """Collects the course of a training, and publishes it with its negatives."""

    def __init__(self, preset: Preset, publish: Publish, total: int) -> None:
        self.probe, self.publish, self.total = preset.probe(), publish, total
        self.before = total - preset.steps
        chain = preset.objective.keywords["chain"]
        self.temperature = effective_temperature(chain.step_size, chain.noise_std(0))
        self.steps: list[int] = []
        self.errors: dict[str, list[float]] = {"error_data": [], "error_negatives": []}
        self.probed: list[int] = []
        self.aurocs: list[float] = []
        self.looked_at, self.pause = 0.0, 0.0

    def score(self, model: torch.nn.Module, step: int) -> None:
        """Score validation images."""
        started = time.monotonic()
        errors = self.probe(model)
        self.probed.append(step)
        self.aurocs.append(metrics.auroc(-errors["in"], -errors["out"]))
        self.looked_at = time.monotonic()
        self.pause = (self.looked_at - started) / LOOKING_SHARE

    def look(self, model: torch.nn.Module, step: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
        """Take what a step of the training tells."""
        self.steps.append(step)
        for name, values in self.errors.items():
            values.append(numbers[name])
        if time.monotonic() - self.looked_at > self.pause or step + self.before == self.total:
            self.score(model, step)
        course = plotting.NormalisingCourse(
            tuple(self.steps), *map(tuple, self.errors.values()), tuple(self.probed), tuple(self.aurocs)
        )
        starts, negatives = (parts[name][:, 0].float().cpu().numpy() for name in ("negatives_start", "negatives"))
        text = (
            f"error of data {course.error_data[-1]:.4f}, of negatives {course.error_negatives[-1]:.4f}, gap {course.gaps[-1]:.4f}; "
            f"first visible steps at temperature {self.temperature:.2g}; validation AUROC {course.aurocs[-1]:.3f} "
            f"after {course.probed[-1]} updates"
        )
        self.publish(plotting.NormalisingSnapshot(course, starts, negatives), self.before + step, self.total, text)


def _draw(snapshot: plotting.NormalisingSnapshot, views: dict[str, Any]) -> Figure:
    return plotting.live_normalising(snapshot, **views)
