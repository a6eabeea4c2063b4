"""Panels for notebooks: sliders, Run and Stop, a live figure.  No mathematics in here.

A panel trains in a background thread, so the notebook stays usable and Stop
acts between two steps of a chain.  Figures are object-oriented and reach the page
as images: no plotting state is shared between threads.

Imports: everything but the runner.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor

from oodlab import data, grids, plotting, presets, training, workspace
from oodlab.samplers import Sphere

REDRAW_SECONDS = 0.3  # least time between two live figures
DRAWING_SHARE = 0.25  # of the time at most goes into drawing, on a slow machine too
KEPT = 4  # earlier results shown beside the live one
_WIDE = {"description_width": "initial"}

Publish = Callable[[Any, int, int, str], None]


def show(build: Callable[[], RunPanel]) -> None:
    """Display a panel; in a batch run say where it is instead of building it."""
    if workspace.in_batch():
        print("The panel of this notebook appears in JupyterLab; a batch run skips it.")
        return
    from IPython.display import display  # here: panels are also built without a notebook, in tests

    display(build().widget)


class RunPanel:
    """Controls, Run and Stop, progress, a live figure and the results of earlier runs.

    Args:
        controls: Widgets that decide the next run, by name.
        views: Widgets that only decide how the last result is drawn; they act at once.
        task: task(values of controls, should_stop, publish), run in a thread.  It calls
            publish(snapshot, done, total, text) as it goes; a snapshot is never changed afterwards.
        draw: draw(snapshot, values of views) -> Figure.
        name: Short name of a run from its values, shown under earlier results.
    """

    def __init__(
        self,
        controls: Mapping[str, w.Widget],
        views: Mapping[str, w.Widget],
        *,
        task: Callable[[dict[str, Any], Callable[[], bool], Publish], None],
        draw: Callable[[Any, dict[str, Any]], Figure],
        name: Callable[[dict[str, Any]], str],
    ) -> None:
        self.controls, self.views = dict(controls), dict(views)
        self._task, self._draw, self._name = task, draw, name
        self._stop, self._drawing = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._snapshot: Any = None
        self._drawn_at, self._pause = 0.0, REDRAW_SECONDS
        self.run_button = w.Button(description="Run", button_style="primary", icon="play")
        self.stop_button = w.Button(description="Stop", disabled=True, icon="stop")
        self.bar = w.IntProgress(min=0, max=1, layout=w.Layout(width="220px"))
        self.status = w.HTML("Press Run.")
        self.image = w.Image(format="png", layout=w.Layout(width="430px", visibility="hidden"))
        self.earlier = w.HBox(layout=w.Layout(flex_flow="row wrap"))
        self.run_button.on_click(lambda _: self.run())
        self.stop_button.on_click(lambda _: self.stop())
        for widget in self.views.values():
            widget.observe(lambda _: self.redraw(), names="value")
        left = w.VBox(
            [
                w.HTML("<b>Next run</b>"),
                *self.controls.values(),
                w.HBox([self.run_button, self.stop_button]),
                self.bar,
                w.HTML("<b>Drawing</b> (acts at once)"),
                *self.views.values(),
            ],
            layout=w.Layout(width="330px"),
        )
        self.widget = w.VBox(
            [
                w.HBox([left, w.VBox([self.image, self.status])]),
                w.HTML(f"<b>Earlier runs</b> (the last {KEPT})"),
                self.earlier,
            ]
        )

    @property
    def running(self) -> bool:
        """Whether a run is in progress."""
        return self._thread is not None and self._thread.is_alive()

    def run(self) -> None:
        """Start a run with the present values; a second start while one runs does nothing."""
        if self.running:
            return
        if self._snapshot is not None:
            self._keep()
        self._snapshot = None  # a run that fails before its first state leaves nothing to keep
        self._stop.clear()
        self.run_button.disabled, self.stop_button.disabled = True, False
        self.bar.value, self.bar.bar_style = 0, ""
        self._say("starts ...")
        values = {name: widget.value for name, widget in self.controls.items()}
        self._thread = threading.Thread(target=self._run, args=(values,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the run to stop; what it has learned so far stays on show."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the run to end."""
        if self._thread is not None:
            self._thread.join(timeout)

    def redraw(self) -> None:
        """Draw the last snapshot again with the present views."""
        with self._drawing:
            if self._snapshot is not None:
                started = time.monotonic()
                views = {name: widget.value for name, widget in self.views.items()}
                self.image.value = plotting.to_png(self._draw(self._snapshot, views))
                self.image.layout.visibility = "visible"  # an empty image would show as a broken one
                self._drawn_at = time.monotonic()
                self._pause = max(REDRAW_SECONDS, (self._drawn_at - started) / DRAWING_SHARE)

    def _run(self, values: dict[str, Any]) -> None:
        self._title, self._text = self._name(values), ""
        try:
            self._task(values, self._stop.is_set, self._publish)
            self.redraw()
            ended = "stopped" if self._stop.is_set() else "done"
            self._say(f"{ended}. {html.escape(self._text)}")
            self.bar.bar_style = "warning" if self._stop.is_set() else "success"
        except Exception as error:  # shown on the panel: a thread's traceback would go to the log
            self._say(f"<span style='color:#b00'>{type(error).__name__}: {html.escape(str(error))}</span>")
            self.bar.bar_style = "danger"
        finally:
            self.run_button.disabled, self.stop_button.disabled = False, True

    def _publish(self, snapshot: Any, done: int, total: int, text: str) -> None:
        self._snapshot, self._text = snapshot, text
        self.bar.max, self.bar.value = total, done
        if time.monotonic() - self._drawn_at > self._pause:
            self.redraw()
            self._say(f"update {done} of {total}. {html.escape(text)}")

    def _keep(self) -> None:
        picture = w.Image(value=self.image.value, format="png", layout=w.Layout(width="190px"))
        words = f"{html.escape(self._title)}<br>{html.escape(self._text)}"
        label = w.HTML(f"<div style='width:190px;white-space:normal;line-height:1.3;font-size:11px'>{words}</div>")
        box = w.VBox([picture, label], layout=w.Layout(width="205px"))
        self.earlier.children = (box, *self.earlier.children)[:KEPT]

    def _say(self, text: str) -> None:
        self.status.value = f"<div style='width:430px'>{text}</div>"


# --------------------------------------------------------------------------------- eight Gaussians


@dataclass(frozen=True)
class PlaneSnapshot:
    """A learned density of the plane in the middle of a training.

    Attributes:
        axis, log_density: Grid and the values on it, unnormalised nats.
        negatives, starts: End and start of the chains of the last update, (B, 2).
    """

    axis: Tensor
    log_density: Tensor
    negatives: Tensor
    starts: Tensor


def eight_gaussians() -> RunPanel:
    """Build the panel of nae/eight_gaussians: train a small normalized autoencoder and watch it.

    Network, batch size and learning rates are the quick profile's; the controls decide
    the rest, and start with the paper's chain for OMI. Nothing is saved.
    """
    slider = {"style": _WIDE, "continuous_update": False, "layout": w.Layout(width="310px")}
    controls = {
        "sampler": w.Dropdown(
            options=["OMI", "CD", "PCD", "PCD, 5 % restart"], description="negatives from", style=_WIDE
        ),
        "latent": w.Dropdown(
            options=[("circle", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 4)],
            value=3,
            description="latent size",
            style=_WIDE,
        ),
        "updates": w.IntSlider(300, min=50, max=2000, step=50, description="updates", **slider),
        "chain": w.IntSlider(30, min=1, max=100, description="chain length", **slider),
        "step_size": w.FloatLogSlider(0.005, base=10, min=-4, max=-1, description="step size", **slider),
        "noise_std": w.FloatLogSlider(0.1, base=10, min=-3, max=0, description="noise (std per step)", **slider),
        "temperature": w.FloatLogSlider(0.1, base=10, min=-2, max=0.5, description="first temperature", **slider),
        "seed": w.IntSlider(0, min=0, max=9, description="seed", **slider),
    }
    views = {
        "power": w.FloatLogSlider(1.0, base=2, min=-3, max=3, description="show p^(1/T), T =", **slider),
        "top": w.FloatSlider(0.15, min=0.02, max=0.5, step=0.01, description="top of the scale", **slider),
        "negatives": w.Checkbox(True, description="negatives and their paths", style=_WIDE),
    }
    return RunPanel(controls, views, task=_train_plane, draw=_draw_plane, name=_name_plane)


def _name_plane(values: dict[str, Any]) -> str:
    latent = values["latent"] or "circle"
    return (
        f"{values['sampler']}, latent {latent}, {values['chain']} steps of {values['step_size']:.3g} "
        f"with noise {values['noise_std']:.3g}, T from {values['temperature']:.3g}, "
        f"{values['updates']} updates, seed {values['seed']}"
    )


def _train_plane(values: dict[str, Any], should_stop: Callable[[], bool], publish: Publish) -> None:
    runs = presets.nae.EIGHT_GAUSSIANS.runs
    variant = {"OMI": "NAE-OMI, D_z = 3", "CD": "NAE-CD"}.get(values["sampler"], f"NAE-{values['sampler']}")
    preset = runs[variant].at("quick")
    sphere = values["latent"] == 0
    latent = 2 if sphere else values["latent"]
    objective = preset.objective
    chain = dataclasses.replace(
        objective.keywords["chain"],
        steps=values["chain"],
        step_size=values["step_size"],
        noise_std=values["noise_std"],
    )
    changes: dict[str, Any] = {"chain": chain, "latent_penalty": 0.0 if sphere else 0.01}
    if "latent_chain" in objective.keywords:
        changes["latent_chain"] = dataclasses.replace(
            objective.keywords["latent_chain"], bounds=Sphere() if sphere else None
        )
    with torch.random.fork_rng([]):  # the notebook's own random numbers go on as they were
        torch.manual_seed(values["seed"])
        model = functools.partial(preset.model, latent=latent, sphere=sphere, temperature=values["temperature"])()
    axis, points = grids.grid_points(81)
    test_x = data.eight_gaussians(2000, torch.Generator().manual_seed(1_000_003))
    true_nll = -float(data.eight_gaussians_log_prob(test_x).mean())
    drawn_at = 0.0

    def on_step(step: int, total: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
        nonlocal drawn_at
        if time.monotonic() - drawn_at < REDRAW_SECONDS and step < total:
            return
        drawn_at = time.monotonic()
        with torch.no_grad():
            values_on_grid = model.log_density(points.to(parts["negatives"])).cpu().reshape(81, 81)
        grid = grids.normalise_values(axis, values_on_grid)
        nll = grids.negative_log_likelihood(model.log_density, test_x.to(parts["negatives"]), grid)
        publish(
            PlaneSnapshot(axis, values_on_grid, parts["negatives"].cpu(), parts["negatives_start"].cpu()),
            step,
            total,
            f"NLL {nll:.2f} nats (truth {true_nll:.2f}), error of data {numbers['error_data']:.3f}, "
            f"of negatives {numbers['error_negatives']:.3f}, T {numbers['temperature']:.3f}",
        )

    training.fit(
        model,
        functools.partial(objective, **changes)(model),
        preset.batches(),
        optimiser=preset.optimiser,
        steps=values["updates"],
        schedule=preset.schedule,
        seed=values["seed"],
        should_stop=should_stop,
        on_step=on_step,
        show_progress=False,
    )


def _draw_plane(snapshot: PlaneSnapshot, views: dict[str, Any]) -> Figure:
    grid = grids.normalise_values(snapshot.axis, snapshot.log_density / views["power"])
    return plotting.live_density(
        grid,
        top=views["top"],
        points=snapshot.negatives if views["negatives"] else None,
        starts=snapshot.starts if views["negatives"] else None,
    )
