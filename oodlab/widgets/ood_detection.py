"""The panel of nae/ood_detection.

Imports: data, detectors, plotting, presets, training, widgets.kept, widgets.panel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from oodlab import data, plotting, presets, training
from oodlab.presets import Preset
from oodlab.widgets.kept import kept
from oodlab.widgets.panel import WIDE, Publish, RunPanel, slider

TESTED = 500  # images per set


def ood_detection() -> RunPanel:
    """Build the panel of nae/ood_detection: which images of an OOD set a detector accepts, and what it makes of them.

    Trainings are the quick profile's: those that are kept are loaded, others are trained and kept.
    """
    in_sets = list(presets.nae.OOD_SETS)
    controls = {
        "in_set": w.Dropdown(options=in_sets, description="trained on", style=WIDE),
        "methods": w.SelectMultiple(
            options=list(presets.nae.METHODS), value=("AE", "NAE-OMI"), rows=6, description="methods", style=WIDE
        ),
        "setting": w.Dropdown(options=presets.nae.SETTINGS, description="setting", style=WIDE),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider()),
    }
    views = {
        "out_set": w.Dropdown(options=["constant_gray"], description="OOD set", style=WIDE),
        "tpr": w.FloatSlider(0.95, min=0.5, max=0.99, step=0.01, description="threshold at TPR", **slider()),
        "which": w.Dropdown(options=plotting.IMAGE_ORDERS, description="images", style=WIDE),
        "shown": w.IntSlider(4, min=2, max=6, description="images per set", **slider()),
    }

    def task(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> training.Result:
        return _test(values, should_stop, publish, views["out_set"])

    return RunPanel(controls, views, task=task, draw=_draw, name=_name, width=700)


def _name(values: dict[str, Any]) -> str:
    return f"{values['in_set']}, {', '.join(values['methods'])}, setting {values['setting']}, seed {values['seed']}"


def _test(
    values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish, out_set: w.Dropdown
) -> training.Result:
    """Train or load one method after the other, and show what is there so far."""
    if not values["methods"]:
        raise ValueError("the panel expects a method, got none: choose one of the list, or several.")
    choice = data.choose(values["in_set"], presets.nae.OOD_SETS[values["in_set"]].stand_in)
    runs = {
        method: presets.nae.image_training(method, in_set=choice.name, setting=values["setting"]).at("quick")
        for method in values["methods"]
    }
    inputs = presets.nae.ood_inputs(next(iter(runs.values())), values["in_set"], n=TESTED, made=TESTED)
    sets = {choice.name: inputs.inside, **inputs.outside}
    images = {name: x.numpy() for name, x in sets.items()}
    snapshot = plotting.DetectionSnapshot(choice.name, images=images)
    out_set.options = list(inputs.outside)
    sizes = {method: run.steps + (run.start.steps if run.start else 0) for method, run in runs.items()}
    total, before, notes = sum(sizes.values()), 0, []
    for method, run in runs.items():

        def on_step(
            stage: Preset,
            done: int,
            _: int,
            numbers: dict[str, float],
            parts: dict[str, Tensor],
            *,
            seen: plotting.DetectionSnapshot = snapshot,
            before: int = before,
        ) -> None:
            said = ", ".join(f"{key} {value:.3g}" for key, value in list(numbers.items())[:3])
            publish(seen, before + done, total, f"training {stage.name}, seed {values['seed']}: {said}")

        found = kept(run, seed=values["seed"], should_stop=should_stop, on_step=on_step)
        before += found.done
        if not found.result.finished or should_stop():
            break
        snapshot = _with(snapshot, method, found.result.model, inputs.train, sets)
        notes += [f"{method} {found.note}."] if found.note else []
        said = " ".join([inputs.sentence, f"{TESTED} images of each set at most.", *notes])
        publish(snapshot, before, total, said)
    return found.result


def _with(
    snapshot: plotting.DetectionSnapshot, method: str, model: nn.Module, train: Tensor, sets: dict[str, Tensor]
) -> plotting.DetectionSnapshot:
    """Add the detectors of one model."""
    scores, made = dict(snapshot.scores), dict(snapshot.reconstructions)
    place = next(model.parameters()).device
    for name, detector in presets.nae.image_detectors(method, model).items():
        detector.fit(train)
        scores[name] = {key: detector.score_samples(x) for key, x in sets.items()}
        if hasattr(model, "decode"):
            with torch.no_grad():
                made[name] = {key: model.decode(model.encode(x.to(place))).cpu().numpy() for key, x in sets.items()}
    return plotting.DetectionSnapshot(snapshot.in_set, scores, snapshot.images, made)


def _draw(snapshot: plotting.DetectionSnapshot, views: dict[str, Any]) -> Figure:
    return plotting.live_detection(snapshot, **views)
