"""The panel of nae/outlier_reconstruction: draw, and see what two autoencoders make of it.

Imports: data, plotting, presets, training, widgets.canvas, widgets.drawing, widgets.panel.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable

import ipywidgets as w
import numpy as np
from torch import Tensor

from oodlab import data, plotting, presets, training
from oodlab.widgets.canvas import SIDE, Canvas
from oodlab.widgets.drawing import HALVES, Judge, Verdict, erased, merged, seen
from oodlab.widgets.panel import REDRAW_SECONDS, WIDE

KNOWN = 2000  # test images that say what is usual
PIXELS = 168  # sides of the images on the page: whole multiples of 14 and 28
START = 0  # index of the digit shown first


class OutlierPanel:
    """A canvas, and beside it the reconstructions and scores of an autoencoder and a normalized one.

    The models are the profile's, loaded where they are trained, else trained by a button; Stop keeps what is done,
    and the button goes on with it.

    Args:
        profile: Whose trainings, those of OUTLIER_RECONSTRUCTION.
        seed: Of them.

    Attributes:
        canvas: What is drawn on.
        judges: Models that are ready, by name.
        verdicts: What they say of the picture.
        widget: All of it.
    """

    def __init__(self, profile: str = "quick", seed: int = 0) -> None:
        in_set = data.choose("mnist", "digits")
        self._runs = {
            name: presets.nae.image_training(name, in_set=in_set.name).at(profile)
            for name in presets.nae.OUTLIER_RECONSTRUCTION.runs
        }
        self._seed, self._sentence = seed, in_set.sentence
        self._shape = self._runs["AE"].batches.keywords["shape"]
        self._digits = data.as_shape(data.load(in_set, "test", download=False).x, (1, SIDE, SIDE))[:, 0].numpy()
        self.judges: dict[str, Judge] = {}
        self.verdicts: dict[str, Verdict] = {}
        self._stop, self._judging = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._busy = False

        last = len(self._digits) - 1
        number = {"min": 0, "max": last, "style": WIDE}
        self.digit = w.BoundedIntText(
            START, description=f"test digit, 0 to {last}", layout=w.Layout(width="200px"), **number
        )
        self.other = w.BoundedIntText(
            START + 1, description="with the bottom of test digit", layout=w.Layout(width="265px"), **number
        )
        self.take = w.Button(description="Show it", layout=w.Layout(width="80px"))
        self.merge = w.Button(description="Merge", layout=w.Layout(width="75px"))
        self.erase = {half: w.Button(description=half, layout=w.Layout(width="75px")) for half in HALVES}
        self.train_button = w.Button(description="Train", button_style="primary", icon="play")
        self.stop_button = w.Button(description="Stop", disabled=True, icon="stop")
        self.bar, self.status = w.IntProgress(min=0, max=1, layout=w.Layout(width="220px")), w.HTML()
        self._images = {name: _image() for name in ("input", *self._runs)}
        self._words = {name: w.HTML() for name in self._images}
        self.canvas = Canvas(lambda _: self._judge())
        self.digit.observe(lambda _: self._show_digit(), names="value")
        self.take.on_click(lambda _: self._show_digit())
        self.merge.on_click(lambda _: self.canvas.put(merged(self.canvas.picture, self._picture(self.other.value))))
        for half, button in self.erase.items():
            button.on_click(lambda _, half=half: self.canvas.put(erased(self.canvas.picture, half)))
        self.train_button.on_click(lambda _: self.train())
        self.stop_button.on_click(lambda _: self.stop())
        self.widget = self._laid_out()
        self._show_digit()
        self._start(lambda: True)

    def train(self) -> None:
        """Train what is not trained yet, in a thread; while one runs this does nothing."""
        if not self._busy:
            self._stop.clear()
            self._start(self._stop.is_set)

    def stop(self) -> None:
        """Ask the training to stop; the button goes on with it."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the loading or training to end."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _laid_out(self) -> w.Widget:
        titles = {"input": "as the models see it"}
        columns = [
            w.VBox(
                [w.HTML(f"<b>{titles.get(name, name)}</b>"), image, self._words[name]], layout=w.Layout(width="200px")
            )
            for name, image in self._images.items()
        ]
        left = w.VBox(
            [
                w.HTML("<b>Draw</b>"),
                self.canvas.widget,
                w.HTML("<b>or begin with a digit</b>"),
                w.HBox([self.digit, self.take]),
                w.HBox([w.Label("erase"), *self.erase.values()]),
                w.HBox([self.merge, self.other]),
            ],
            layout=w.Layout(width="350px"),
        )
        training_row = w.HBox([self.train_button, self.stop_button, self.bar])
        return w.HBox([left, w.VBox([w.HBox(columns), training_row, self.status])])

    def _picture(self, index: int) -> np.ndarray:
        return self._digits[index]

    def _show_digit(self) -> None:
        self.canvas.put(self._picture(self.digit.value))

    def _judge(self) -> None:
        """Ask every model that is ready about the picture."""
        with self._judging:
            x = seen(self.canvas.picture[None], self._shape)
            self._show("input", x[0, 0].numpy(), f"{self._shape[1]} x {self._shape[2]} pixels")
            self.verdicts = {name: judge(x) for name, judge in self.judges.items()}
            for name, verdict in self.verdicts.items():
                self._show(name, verdict.reconstruction, _said(verdict))

    def _show(self, name: str, image: np.ndarray, words: str) -> None:
        self._images[name].value = plotting.picture_png(image, PIXELS)
        self._images[name].layout.visibility = "visible"  # an empty image would show as a broken one
        self._words[name].value = f"<div style='width:195px;line-height:1.4'>{words}</div>"

    def _start(self, should_stop: Callable[[], bool]) -> None:
        self._busy = self.train_button.disabled = True
        self.stop_button.disabled = False
        self._say("looks for the trained models ...")
        self._thread = threading.Thread(target=self._run, args=(should_stop,), daemon=True)
        self._thread.start()

    def _run(self, should_stop: Callable[[], bool]) -> None:
        try:
            ended = html.escape(self._load(should_stop))
        except Exception as error:  # shown on the panel: a thread's traceback would go to the log
            ended = f"<span style='color:#b00'>{type(error).__name__}: {html.escape(str(error))}</span>"
        self._busy = False
        self.train_button.disabled, self.stop_button.disabled = len(self.judges) == len(self._runs), True
        self._say(ended)  # last: who reads it may press the button

    def _load(self, should_stop: Callable[[], bool]) -> str:
        """Train or load what is not there yet; return how it ended."""
        known = self._known()
        for name, run in self._runs.items():
            if name in self.judges:
                continue
            result = training.train_or_load(
                run, seed=self._seed, should_stop=should_stop, on_step=self._progress(name), anew=False
            )
            if not result.finished:
                return f"{name} has {result.step:,} of its {run.steps:,} updates. Press Train. {self._sentence}"
            judge = Judge(name, result.model.cpu(), known)
            with self._judging:  # a stroke may be asking those that are there
                self.judges[name] = judge
            self._judge()
        return f"Accepted are errors up to the 95 % quantile of {len(known):,} known test images. {self._sentence}"

    def _known(self) -> Tensor:
        chosen = np.random.default_rng(0).permutation(len(self._digits))[:KNOWN]
        return seen(self._digits[chosen], self._shape)

    def _progress(self, name: str) -> Callable[..., None]:
        shown_at = 0.0

        def on_step(step: int, total: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at > REDRAW_SECONDS or step == total:
                shown_at = time.monotonic()
                self.bar.max, self.bar.value = total, step
                said = ", ".join(f"{key} {value:.4f}" for key, value in numbers.items() if key.startswith("error"))
                self._say(f"{name}: update {step:,} of {total:,}, {said}")

        return on_step

    def _say(self, text: str) -> None:
        self.status.value = f"<div style='width:600px'>{text}</div>"


def outlier_reconstruction(profile: str = "quick", seed: int = 0) -> OutlierPanel:
    """Build the panel of nae/outlier_reconstruction."""
    return OutlierPanel(profile, seed)


def _image() -> w.Image:
    return w.Image(format="png", layout=w.Layout(width=f"{PIXELS}px", height=f"{PIXELS}px", visibility="hidden"))


def _said(verdict: Verdict) -> str:
    return (
        f"<b>{'accepted' if verdict.accepted else 'rejected'}</b><br>error {verdict.error:.4f}<br>accepted up to {verdict.limit:.4f}"
        f"<br>above {100 * verdict.exceeds:.1f} % of known images"
    )
