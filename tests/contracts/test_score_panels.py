"""Parts shared by panels of detectors: the watch that scores during training, the live figure, and the panel itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import far_from_the_line, line, near_a_line, plane_recipe

from oodlab import detectors, metrics, plotting
from oodlab.studies.ebm.gamma_sweep.panel import COMBINATIONS, gamma_sweep_panel
from oodlab.studies.ebm.smoothness.panel import smoothness_panel
from oodlab.studies.mass.epoch_curves.panel import CONDITIONERS, epoch_curves_panel
from oodlab.widgets import RunPanel
from oodlab.widgets.scores import ScoreWatch, score_panel


def watch_of(generator: torch.Generator) -> ScoreWatch:
    inputs = {"near": near_a_line(40, generator), "far": far_from_the_line(30, generator)}
    return ScoreWatch("near", inputs, lambda model: {"log p (nats)": detectors.LogDensity(model)})


def snapshot(generator: torch.Generator, *, pictures: bool) -> plotting.ScoreSnapshot:
    scores = {"a": {"in": np.linspace(0, 1, 50), "out": np.linspace(-1, 0.5, 40)}}
    images = {name: np.random.default_rng(0).random((len(x), 1, 6, 6)) for name, x in scores["a"].items()}
    return plotting.ScoreSnapshot("in", scores, (0, 5), {"a": {"out": (0.5, 0.8)}}, images if pictures else {})


def test_a_watch_scores_every_set_and_keeps_the_aurocs_by_step(generator: torch.Generator) -> None:
    watch = watch_of(generator)
    first, second = watch.look(line(), 0), watch.look(line(), 7)
    values = second.scores["log p (nats)"]
    assert {name: len(x) for name, x in values.items()} == {"near": 40, "far": 30}
    assert (first.steps, second.steps) == ((0,), (0, 7))  # the first snapshot is not changed afterwards
    assert second.aurocs["log p (nats)"]["far"] == (metrics.auroc(values["near"], values["far"]),) * 2


@pytest.mark.parametrize("tpr", [0.5, 0.95])
def test_the_live_figure_reads_out_tpr_and_fpr_at_the_threshold(generator: torch.Generator, tpr: float) -> None:
    shown = snapshot(generator, pictures=False)
    fig = plotting.live_scores(shown, score="a", tpr=tpr, bins=20)
    left, right = fig.axes
    inside, outside = shown.scores["a"].values()
    threshold = metrics.threshold_at_tpr(inside, tpr)
    assert (
        right.get_title(loc="left")
        == f"threshold {threshold:.4g}: TPR {tpr:.2f}, FPR out {np.mean(outside >= threshold):.2f}"
    )
    assert right.lines[0].get_xdata()[0] == pytest.approx(threshold)
    assert left.lines[0].get_ydata().tolist() == [0.5, 0.8]


def test_the_live_figure_shows_the_images_nearest_to_the_threshold(generator: torch.Generator) -> None:
    shown = snapshot(generator, pictures=True)
    fig = plotting.live_scores(shown, score="a", tpr=0.9, bins=20)
    rows = [figure.axes for figure in fig.subfigs]
    assert [len(row) for row in rows] == [8, 8]
    inside = shown.scores["a"]["in"]
    threshold = metrics.threshold_at_tpr(inside, 0.9)
    nearest = sorted(np.sort(np.abs(inside - threshold))[:8])
    titled = sorted(abs(float(ax.get_title()) - threshold) for ax in rows[0])
    assert titled == pytest.approx(nearest, abs=1e-3)  # titles have four digits
    assert plotting.to_png(fig).startswith(b"\x89PNG")


def test_a_score_panel_trains_its_recipe_and_redraws_when_a_view_changes(generator: torch.Generator) -> None:
    import ipywidgets as w

    recipe = plane_recipe("AE, circle")
    panel = score_panel(
        {"seed": w.IntSlider(0, min=0, max=3)},
        scores=("log p (nats)",),
        prepare=lambda values: (recipe, watch_of(generator)),
        name=lambda values: f"seed {values['seed']}",
    )
    panel.run()
    panel.wait(60)
    assert "done." in panel.status.value, panel.status.value
    assert panel._snapshot.steps[0] == 0 and panel._snapshot.steps[-1] == recipe.steps
    before = bytes(panel.image.value)
    panel.views["tpr"].value = 0.6
    assert bytes(panel.image.value) != before


@pytest.mark.parametrize(
    ("build", "values"),
    [
        (epoch_curves_panel, {"alpha": 0.0, "width": 4}),
        (epoch_curves_panel, {"reduction": "batch", "width": 4}),
        (epoch_curves_panel, {"in_set": "cifar10", "width": 4}),
        *((epoch_curves_panel, {"conditioners": kind, "width": 4}) for kind in CONDITIONERS),
        (smoothness_panel, {"chain": 1}),
        (smoothness_panel, {"in_set": "mnist", "chain": 1}),
        (smoothness_panel, {"gamma": 1.0, "bottleneck": 0.2, "l2": 1.0, "chain": 1}),
        *((gamma_sweep_panel, {"task": task, "chain": 1, "width": 50}) for task in COMBINATIONS),
        (gamma_sweep_panel, {"task": "segment, SSM", "gamma": 0.0}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_every_panel_trains_with_the_values_of_its_controls(build, values: dict) -> None:
    panel = build()
    for name, value in {**values, "updates": 20}.items():
        panel.controls[name].value = value
    seen: list[int] = []
    publish = panel._publish
    panel._publish = lambda snapshot, done, *rest: (seen.append(done), publish(snapshot, done, *rest))
    panel.run()
    while panel.running and not any(seen):
        time.sleep(0.01)
    panel.stop()
    panel.wait(60)
    assert any(seen), panel.status.value
    assert bytes(panel.image.value).startswith(b"\x89PNG")


@pytest.mark.parametrize("build", [epoch_curves_panel, smoothness_panel, gamma_sweep_panel])
def test_every_drop_down_of_a_panel_shows_the_chosen_option(build: Callable[[], RunPanel]) -> None:
    """A drop-down whose value is None shows nothing unless its first option is chosen by index."""
    for name, control in build().controls.items():
        if hasattr(control, "options"):
            assert control.label, name
