"""Stop acts at once on every panel of the kit, within a chain or between two updates, and leaves a usable model."""

from __future__ import annotations

import importlib
import itertools
import threading
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from oodlab import data, detectors
from oodlab.studies.ebm.gamma_sweep.panel import gamma_sweep_panel

UPDATES = 50
PANELS = {  # name: (what builds it, values of its controls)
    "plane, OMI": ("nae/eight_gaussians", {"sampler": "OMI", "chain": 4}),
    "plane, CD": ("nae/eight_gaussians", {"sampler": "CD", "chain": 4}),
    "plane, PCD on the circle": ("nae/eight_gaussians", {"sampler": "PCD", "latent": 0, "chain": 4}),
    "flow": ("mass/epoch_curves", {"width": 4}),
    "smooth images": ("ebm/smoothness", {"chain": 2, "width": 5}),
    "smooth images with classes": ("ebm/smoothness", {"chain": 2, "width": 5, "gamma": 1.0}),
    "table, CD": ("ebm/gamma_sweep", {"task": "segment, CD", "width": 50, "chain": 4}),
    "table, SSM": ("ebm/gamma_sweep", {"task": "segment, SSM", "width": 50}),
    "table, VERA": ("ebm/gamma_sweep", {"task": "segment, VERA", "width": 50}),
}


class StopsAfter(threading.Event):
    """The panel's Stop, pressed when the training has asked for it so many times."""

    def __init__(self, allowed: int) -> None:
        super().__init__()
        self.allowed, self.asked = allowed, itertools.count()

    def is_set(self) -> bool:
        if next(self.asked) >= self.allowed:
            self.set()
        return super().is_set()


def room(builder: str) -> ModuleType:
    """Return the file of a panel, `<paper>/<notebook>`."""
    return importlib.import_module(f"oodlab.studies.{builder.replace('/', '.')}.panel")


def inputs_of(builder: str, values: dict[str, Any]) -> Tensor:
    if builder == "nae/eight_gaussians":
        return data.eight_gaussians(50, torch.Generator().manual_seed(0))
    _, watch = room(builder)._prepare(values)
    return next(iter(watch.inputs.values()))[:50]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        (name, allowed)
        for name, (builder, _) in PANELS.items()
        for allowed in ((0, 2, 13) if builder in ("nae/eight_gaussians", "ebm/gamma_sweep") else (3,))
    ],
)
def test_stop_on_a_panel_leaves_a_usable_model(name: str, allowed: int) -> None:
    builder, controls = PANELS[name]
    panel = getattr(room(builder), f"{builder.partition('/')[2]}_panel")()
    for key, value in {**controls, "updates": UPDATES if builder == "nae/eight_gaussians" else 40}.items():
        panel.controls[key].value = value
    values = {key: widget.value for key, widget in panel.controls.items()}
    panel.work._stop = StopsAfter(allowed)
    assert panel.result is None
    panel.run()
    panel.wait(120)

    assert "stopped" in panel.status.value, panel.status.value
    result = panel.result
    assert not result.finished
    assert result.step <= allowed
    left = {**result.model.state_dict(), **getattr(result.objective, "state_dict", dict)()}
    assert all(bool(value.isfinite().all()) for value in left.values() if torch.is_tensor(value))
    assert not any(module.training for module in result.model.modules())
    assert all(weight.requires_grad for weight in result.model.parameters())
    x = inputs_of(builder, values)
    scores = detectors.LogDensity(result.model).score_samples(x)
    assert scores.shape == (len(x),) and scores.std() > 0

    if allowed:
        panel.work._stop = StopsAfter(allowed)
        panel.run()  # a training of its own, from the same seed, and not a continuation
        panel.wait(120)
        again = panel.result
        assert again.model is not result.model and again.step == result.step, panel.status.value
        assert (detectors.LogDensity(again.model).score_samples(x) == scores).all()


def test_a_panels_run_that_fails_leaves_no_result() -> None:
    panel = gamma_sweep_panel()
    panel.work._stop = StopsAfter(1)
    panel.run()
    panel.wait(120)
    assert panel.result is not None
    panel._task = lambda *_: 1 / 0
    panel.run()
    panel.wait(120)
    assert "ZeroDivisionError" in panel.status.value
    assert panel.result is None
