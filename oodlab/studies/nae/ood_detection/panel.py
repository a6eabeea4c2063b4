"""The panel of nae/ood_detection.

Imports: plotting, its own folder, study, training, widgets.kept, widgets.panel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from oodlab import training
from oodlab.studies.nae.images import METHODS, image_method, unit_pixels
from oodlab.studies.nae.ood_detection.figure import IMAGE_ORDERS, DetectionSnapshot, live_detection
from oodlab.studies.nae.ood_detection.setting import STUDY, TABLES
from oodlab.study import SOURCES, Inputs, Method
from oodlab.training import Recipe
from oodlab.widgets.kept import kept
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider

TESTED = 500  # images per set


def ood_detection_panel() -> RunPanel:
    """Build the panel of nae/ood_detection: which images of an OOD set a detector accepts, and what it makes of them.

    Trainings are the quick profile's: those that are kept are loaded, others are trained and kept.
    """
    controls = {
        "in_set": w.Dropdown(options=list(TABLES), description="trained on", style=WIDE),
        "methods": w.SelectMultiple(
            options=METHODS, value=("AE", "NAE-OMI"), rows=6, description="methods", style=WIDE
        ),
        "source": w.Dropdown(options=SOURCES, description="source", style=WIDE),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    views = {
        "out_set": w.Dropdown(options=["constant_gray"], description="OOD set", style=WIDE),
        "tpr": w.FloatSlider(0.95, min=0.5, max=0.99, step=0.01, description="threshold at TPR", **slider()),
        "which": w.Dropdown(options=IMAGE_ORDERS, description="images", style=WIDE),
        "shown": w.IntSlider(4, min=2, max=6, description="images per set", **slider()),
    }

    def task(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
        return _test(values, should_stop, publish, views["out_set"])

    return RunPanel(controls, views, task=task, draw=_draw, name=_name, width=700)


def _name(values: dict[str, Any]) -> str:
    return f"{values['in_set']}, {', '.join(values['methods'])}, {values['source']}, seed {values['seed']}"


def _test(
    values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish, out_set: w.Dropdown
) -> training.Result:
    """Train or load one method after the other, and show what is there so far."""
    if not values["methods"]:
        raise ValueError("the panel expects a method, got none: choose one of the list, or several.")
    study = STUDY.at("quick", source=values["source"], dataset=values["in_set"])
    task = study.played[0]
    methods = [image_method(name, "quick", values["source"]) for name in values["methods"]]
    recipes = {method.name: method.recipes(task)["model"] for method in methods}
    inputs = task.load(n=TESTED, seed=study.draw_seed)
    splits = {task.name: inputs.test, **inputs.outside}
    sets = {name: unit_pixels(split.x) for name, split in splits.items()}
    snapshot = DetectionSnapshot(task.name, images={name: x.numpy() for name, x in sets.items()})
    out_set.options = list(inputs.outside)
    total = sum(stage.steps for recipe in recipes.values() for stage in (recipe, *recipe.needs.values()))
    before, notes = 0, []
    for method in methods:

        def on_step(
            stage: Recipe,
            done: int,
            _: int,
            numbers: dict[str, float],
            parts: dict[str, Tensor],
            *,
            seen: DetectionSnapshot = snapshot,
            before: int = before,
        ) -> None:
            said = ", ".join(f"{key} {value:.3g}" for key, value in list(numbers.items())[:3])
            publish(seen, before + done, total, f"training {stage.name}, seed {values['seed']}: {said}")

        found = kept(recipes[method.name], seed=values["seed"], should_stop=should_stop, on_step=on_step)
        before += found.done
        if not found.result.finished or should_stop():
            break
        snapshot = _with(snapshot, method, found.result.model, inputs, sets)
        notes += [f"{method.name} {found.note}."] if found.note else []
        said = " ".join([study.sentence, f"{TESTED} images of each set at most.", *notes])
        publish(snapshot, before, total, said)
    return found.result


def _with(
    snapshot: DetectionSnapshot, method: Method, model: nn.Module, inputs: Inputs, sets: dict[str, Tensor]
) -> DetectionSnapshot:
    """Add the detectors of one model."""
    scores, made = dict(snapshot.scores), dict(snapshot.reconstructions)
    place = next(model.parameters()).device
    for name, detector in method.detectors({"model": model}).items():
        if detector.learned:
            detector.fit(unit_pixels(inputs.train.x))
        scores[name] = {key: detector.score_samples(x) for key, x in sets.items()}
        if hasattr(model, "decode"):
            with torch.no_grad():
                made[name] = {key: model.decode(model.encode(x.to(place))).cpu().numpy() for key, x in sets.items()}
    return DetectionSnapshot(snapshot.in_set, scores, snapshot.images, made)


def _draw(snapshot: DetectionSnapshot, views: dict[str, Any]) -> Figure:
    return live_detection(snapshot, **views)
