"""What panels share that normalise an autoencoder: the plain one that is kept, then a training that is watched.

Imports: metrics, plotting, samplers, training, widgets.kept, widgets.live, widgets.panel.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure
from torch import Tensor, nn

from oodlab import metrics, plotting, training
from oodlab.samplers import effective_temperature
from oodlab.training import Recipe
from oodlab.widgets.kept import OnStep, kept
from oodlab.widgets.live import fresh_model, train_live
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider

LOOKING_SHARE = 0.2  # of the time at most goes into scoring validation images
EMPTY = plotting.NormalisingSnapshot(plotting.NormalisingCourse())


def normalising_panel(
    controls: dict[str, w.Widget], *, task: Callable[..., training.Result], name: Callable[[dict[str, Any]], str]
) -> RunPanel:
    """Build a panel that draws a NormalisingSnapshot; arguments as RunPanel has them."""
    views = {
        "shown": w.IntSlider(12, min=4, max=16, description="negatives shown", **slider()),
        "starts": w.Checkbox(True, description="where their visible chains start", style=WIDE),
    }
    return RunPanel(controls, views, task=task, draw=_draw, name=name, width=700)


def _draw(snapshot: plotting.NormalisingSnapshot, views: dict[str, Any]) -> Figure:
    return plotting.live_normalising(snapshot, **views)


def telling(publish: Publish, total: int, *, plain: str, normalised: str = "") -> OnStep:
    """Return what says how trainings go that are kept: what either is called, total updates of the panel's run."""

    def on_step(recipe: Recipe, done: int, _: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
        error = numbers["error"] if "error" in numbers else numbers["error_data"]
        publish(EMPTY, done, total, f"{normalised if recipe.needs else plain}, error {error:.4f}")

    return on_step


def normalise(
    recipe: Recipe,
    *,
    seed: int,
    should_stop: Callable[[], bool],
    publish: Publish,
    beside: plotting.NormalisingCourse | None = None,
) -> training.Result:
    """Train a recipe live, from the kept plain autoencoder on; the training itself is not kept.

    Args:
        recipe: One that normalises; it needs the plain autoencoder as "AE", or nothing.
        seed: Seed of the weights and of the run.
        should_stop, publish: What RunPanel hands to a run.
        beside: Course of the base, to draw below its own.

    Returns:
        The training's result, or that of the plain autoencoder where should_stop ended it.
    """
    plain = recipe.needs.get("AE")
    total = recipe.steps + (plain.steps if plain else 0)
    publish(EMPTY, 0, total, "before the first update")
    model, note = fresh_model(recipe, seed=seed), ""
    if plain:
        told = telling(publish, total, plain="plain autoencoder")
        first = kept(plain, seed=seed, should_stop=should_stop, on_step=told)
        if not first.result.finished:
            return first.result
        model.load_state_dict(first.result.model.state_dict())
        note = first.note and f". The plain autoencoder {first.note}"
    watch = _Watch(recipe, publish, total, note, beside)
    watch.score(model, 0)
    return train_live(model, recipe, seed=seed, should_stop=should_stop, on_step=functools.partial(watch.look, model))


class _Watch:
    """Collects the course of a training, and publishes it with its negatives.

    Args:
        recipe: Training.
        publish: What RunPanel hands to a run.
        total: Updates in all, those of the plain autoencoder among them.
        note: Said at the end of every text.
        beside: Course of the base, drawn below its own.
    """

    def __init__(
        self, recipe: Recipe, publish: Publish, total: int, note: str, beside: plotting.NormalisingCourse | None
    ) -> None:
        self.probe, self.publish, self.total, self.note, self.beside = recipe.probe(), publish, total, note, beside
        self.before = total - recipe.steps
        chain = recipe.objective.negatives.chain
        self.temperature = effective_temperature(chain.step_size, chain.noise_std(0))
        self.steps: list[int] = []
        self.errors: dict[str, list[float]] = {"error_data": [], "error_negatives": []}
        self.probed: list[int] = []
        self.aurocs: list[float] = []
        self.looked_at, self.pause = 0.0, 0.0

    def score(self, model: nn.Module, step: int) -> None:
        """Score validation images."""
        started = time.monotonic()
        errors = self.probe(model)
        self.probed.append(step)
        self.aurocs.append(metrics.auroc(-errors["in"], -errors["out"]))
        self.looked_at = time.monotonic()
        self.pause = (self.looked_at - started) / LOOKING_SHARE

    def look(self, model: nn.Module, step: int, _: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
        """Take what a step of the training tells; after a roll-back, in place of what it told before."""
        while self.steps and self.steps[-1] >= step:
            for told in (self.steps, *self.errors.values()):
                told.pop()
        while self.probed and self.probed[-1] >= step:
            for told in (self.probed, self.aurocs):
                told.pop()
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
            f"after {course.probed[-1]} updates{self.note}"
        )
        snapshot = plotting.NormalisingSnapshot(course, starts, negatives, self.beside)
        self.publish(snapshot, self.before + step, self.total, text)
