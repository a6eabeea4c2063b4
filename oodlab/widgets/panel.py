"""Panels for notebooks: sliders, Run and Stop, a live figure.  No mathematics in here.

A panel trains in a background thread, so the notebook stays usable and Stop
acts between two steps of a chain; on a GPU, where a whole step of the training is
replayed as one CUDA graph, between two of those.  Figures are object-oriented and
reach the page as images: no plotting state is shared between threads.

Imports: checks, plotting, workspace, widgets.work.
"""

from __future__ import annotations

import functools
import html
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import ipywidgets as w
from matplotlib.figure import Figure

from oodlab import checks, plotting, workspace
from oodlab.widgets.work import Work

REDRAW_SECONDS = 0.3  # least time between two live figures
DRAWING_SHARE = 0.25  # of the time at most goes into drawing, on a slow machine too
KEPT = 4  # earlier results shown beside the live one
WIDE = {"description_width": "initial"}

Publish = Callable[[Any, int, int, str], None]


def slider() -> dict[str, Any]:
    """Return the arguments all sliders of the kit share: whole labels, one run per turn."""
    return {"style": WIDE, "continuous_update": False, "layout": w.Layout(width="310px")}


class Shown(Protocol):
    """What `show` displays of a panel."""

    widget: w.Widget


Panel = TypeVar("Panel", bound=Shown)


def show(build: Callable[[], Panel]) -> Panel | None:
    """Display a panel and return it; in a batch run say where it is instead of building it."""
    checks.function("show", "build", build, instead="the function, such as gamma_sweep_panel, without calling it")
    if workspace.in_batch():
        print("The panel of this notebook appears in JupyterLab; a batch run skips it.")
        return None
    from IPython.display import display  # here: panels are also built without a notebook, in tests

    panel = build()
    display(panel.widget)
    return panel


class RunPanel:
    """Controls, Run and Stop, progress, a live figure and the results of earlier runs.

    Args:
        controls: Widgets that decide the next run, by name.
        views: Widgets that only decide how the last result is drawn; they act at once.
        task: task(values of controls, should_stop, publish), run in a thread.  It calls
            publish(snapshot, done, total, text) as it goes; a snapshot is never changed afterwards.
            What it returns is kept as `result`.
        draw: draw(snapshot, values of views) -> Figure.
        name: Short name of a run from its values, shown under earlier results.
        width: Width of the live figure, pixels.

    Attributes:
        result: What the last run left, a training.Result with its model also after Stop; None before, and
            after a run that failed.
        parts: What `add` has put below the figure.
    """

    def __init__(
        self,
        controls: Mapping[str, w.Widget],
        views: Mapping[str, w.Widget],
        *,
        task: Callable[[dict[str, Any], Callable[[], bool], Publish], Any],
        draw: Callable[[Any, dict[str, Any]], Figure],
        name: Callable[[dict[str, Any]], str],
        width: int = 430,
    ) -> None:
        self.controls, self.views = dict(controls), dict(views)
        self._task, self._draw, self._name, self._width = task, draw, name, width
        self._drawing = threading.Lock()
        self._snapshot: Any = None
        self._drawn: Any = None  # the snapshot that the image shows
        self.result: Any = None
        self.parts: list[Shown] = []
        self._told_at, self._drawn_at, self._drawing_took, self._pause = 0.0, 0.0, 0.0, REDRAW_SECONDS
        self.work = Work("Run", width=width)
        self.run_button, self.stop_button = self.work.run_button, self.work.stop_button
        self.bar, self.status = self.work.bar, self.work.status
        self.work.say("Press Run.")
        self.image = w.Image(format="png", layout=w.Layout(width=f"{width}px", visibility="hidden"))
        self.earlier = w.HBox(layout=w.Layout(flex_flow="row wrap"))
        self.run_button.on_click(lambda _: self.run())
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
    def snapshot(self) -> Any:
        """What is drawn; None before the first."""
        return self._snapshot

    @property
    def running(self) -> bool:
        """Whether a run is in progress."""
        return self.work.running

    def run(self) -> None:
        """Start a run with the present values; a second start while one runs does nothing."""
        if self.running:
            return
        if self._snapshot is not None:
            self._keep()
        self._snapshot = self.result = None  # a run that fails before its first state leaves nothing to keep
        values = {name: widget.value for name, widget in self.controls.items()}
        self.work.start(functools.partial(self._run, values))

    def stop(self) -> None:
        """Ask the run to stop; what it has learned so far stays on show."""
        self.work.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the run to end."""
        self.work.wait(timeout)

    def add(self, part: Shown) -> None:
        """Put a further part below the live figure."""
        self.parts.append(part)
        live, *rest = self.widget.children
        self.widget.children = (live, part.widget, *rest)

    def show_state(self, snapshot: Any, text: str, *, at_once: bool) -> None:
        """Draw another state of what the last run left; not at_once: no more than half of the time goes into drawing."""
        self._snapshot, self._text = snapshot, text
        if at_once or time.monotonic() - self._drawn_at > self._drawing_took:
            self.redraw()
            self.say(text)

    def say(self, what: str | Exception) -> None:
        """Write below the live figure; an error in red."""
        self.work.say(what)

    def redraw(self) -> None:
        """Draw the last snapshot again with the present views."""
        with self._drawing:
            if self._snapshot is not None:
                started = time.monotonic()
                views = {name: widget.value for name, widget in self.views.items()}
                shown = self._snapshot
                self.image.value = plotting.to_png(self._draw(shown, views))
                self._drawn = shown
                self.image.layout.visibility = "visible"  # an empty image would show as a broken one
                self._drawn_at = time.monotonic()
                self._drawing_took = self._drawn_at - started
                self._pause = max(REDRAW_SECONDS, self._drawing_took / DRAWING_SHARE)

    def _run(self, values: dict[str, Any], should_stop: Callable[[], bool]) -> str:
        self._title, self._text = self._name(values), ""
        self.result = self._task(values, should_stop, self._publish)
        self._draw_what_is_new()
        return f"{'stopped' if should_stop() else 'done'}. {self._text}"

    def _publish(self, snapshot: Any, done: int, total: int, text: str) -> None:
        self._snapshot, self._text = snapshot, text
        self.bar.max, self.bar.value = total, done
        if time.monotonic() - self._told_at > self._pause:
            self._draw_what_is_new()
            self.say(f"update {done} of {total}. {text}")
            self._told_at = time.monotonic()

    def _draw_what_is_new(self) -> None:
        if self._snapshot is not self._drawn:  # a snapshot is never changed: what is drawn stands
            self.redraw()

    def _keep(self) -> None:
        picture = w.Image(value=self.image.value, format="png", layout=w.Layout(width="190px"))
        words = f"{html.escape(self._title)}<br>{html.escape(self._text)}"
        label = w.HTML(f"<div style='width:190px;white-space:normal;line-height:1.3;font-size:11px'>{words}</div>")
        box = w.VBox([picture, label], layout=w.Layout(width="205px"))
        self.earlier.children = (box, *self.earlier.children)[:KEPT]
