"""What panels of detectors share: train a recipe, score test inputs as it learns, look at a threshold.

Imports: detectors, metrics, plotting, training, widgets.live, widgets.panel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as w
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

from oodlab import metrics, plotting, training
from oodlab.detectors import Detector
from oodlab.training import Recipe
from oodlab.widgets.live import fresh_model, train_live
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider

LOOKING_SHARE = 0.3  # of the time at most goes into scoring test inputs


@dataclass
class ScoreWatch:
    """Scores test inputs again and again while a model learns.

    Attributes:
        in_set: Name of the in-distribution set.
        inputs: Per set, the model's inputs, in_set first.
        detectors: Builds the detectors of a model, by the score's label.
        images: Per set, the inputs as pictures in [0, 1]; empty for tables.
    """

    in_set: str
    inputs: Mapping[str, Tensor]
    detectors: Callable[[nn.Module], Mapping[str, Detector]]
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    aurocs: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def look(self, model: nn.Module, step: int) -> plotting.ScoreSnapshot:
        """Score every set and return the snapshot."""
        scores = {}
        for label, detector in self.detectors(model).items():
            scores[label] = {name: detector.score_samples(x) for name, x in self.inputs.items()}
            inside = scores[label][self.in_set]
            for name, values in scores[label].items():
                if name != self.in_set:
                    self.aurocs.setdefault(label, {}).setdefault(name, []).append(metrics.auroc(inside, values))
        self.steps.append(step)
        aurocs = {label: {name: tuple(v) for name, v in sets.items()} for label, sets in self.aurocs.items()}
        return plotting.ScoreSnapshot(self.in_set, scores, tuple(self.steps), aurocs, self.images)


def score_panel(
    controls: Mapping[str, w.Widget],
    *,
    scores: tuple[str, ...],
    prepare: Callable[[dict[str, Any]], tuple[Recipe, ScoreWatch]],
    name: Callable[[dict[str, Any]], str],
) -> RunPanel:
    """Build a panel that trains a recipe and shows what its scores do.

    Args:
        controls: Widgets that decide the next run; `seed` among them.
        scores: Labels of the scores that prepare's watch takes.
        prepare: values -> the recipe to train and what watches it.
        name: Short name of a run from its values.
    """
    views = {
        "score": w.Dropdown(options=scores, description="score", style=WIDE),
        "tpr": w.FloatSlider(0.95, min=0.5, max=0.99, step=0.01, description="threshold at TPR", **slider()),
        "bins": w.IntSlider(40, min=10, max=120, step=10, description="bins", **slider()),
        "only_outside": w.Checkbox(False, description="histograms of the OOD sets only", style=WIDE),
    }

    def task(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
        recipe, watch = prepare(values)
        return train_and_watch(recipe, watch, seed=values["seed"], should_stop=should_stop, publish=publish)

    return RunPanel(controls, views, task=task, draw=_draw, name=name, width=700)


def train_and_watch(
    recipe: Recipe, watch: ScoreWatch, *, seed: int, should_stop: Callable[[], bool], publish: Publish
) -> training.Result:
    """Train a recipe without a checkpoint, and publish what the watch sees in between."""
    model = fresh_model(recipe, seed=seed)
    publish(watch.look(model, 0), 0, recipe.steps, "untrained")
    looked_at, pause = time.monotonic(), 0.0

    def on_step(step: int, total: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
        nonlocal looked_at, pause
        if time.monotonic() - looked_at < pause and step < total:
            return
        started = time.monotonic()
        snapshot = watch.look(model, step)
        looked_at = time.monotonic()
        pause = (looked_at - started) / LOOKING_SHARE
        publish(snapshot, step, total, ", ".join(f"{key} {value:.3g}" for key, value in numbers.items()))

    return train_live(model, recipe, seed=seed, should_stop=should_stop, on_step=on_step)


def _draw(snapshot: plotting.ScoreSnapshot, views: dict[str, Any]) -> Figure:
    return plotting.live_scores(snapshot, **views)
