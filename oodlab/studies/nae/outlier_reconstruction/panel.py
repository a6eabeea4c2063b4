"""The panel of nae/outlier_reconstruction: draw, and see what two autoencoders make of it.

Imports: data, plotting, its own folder, training, widgets.canvas, widgets.kept, widgets.panel, widgets.work.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

import ipywidgets as w
import numpy as np
from torch import Tensor

from oodlab import data, plotting
from oodlab.studies.nae.images import unit_pixels
from oodlab.studies.nae.outlier_reconstruction.drawing import HALVES, Judge, Verdict, erased, merged, seen
from oodlab.studies.nae.outlier_reconstruction.setting import STUDY
from oodlab.training import Recipe
from oodlab.widgets.canvas import SIDE, Canvas
from oodlab.widgets.kept import Kept, OnStep, kept, ready
from oodlab.widgets.panel import REDRAW_SECONDS, WIDE
from oodlab.widgets.work import Work

PIXELS = 168  # sides of the images on the page: whole multiples of 14 and 28
START = 0  # index of the digit shown first


class OutlierPanel:
    """A canvas, and beside it the reconstructions and scores of an autoencoder and a normalized one.

    The models are the profile's, taken where they are ready, else trained by a button; Stop keeps what is done,
    and the button goes on with it.

    Args:
        profile: Profile of the study whose trainings are taken.
        seed: Seed of the trainings.

    Attributes:
        canvas: What is drawn on.
        judges: Models that are ready, by name.
        verdicts: What they say of the picture.
        widget: All of it.
    """

    def __init__(self, profile: str = "quick", seed: int = 0) -> None:
        self._study, self._seed = STUDY.at(profile), seed
        self._task = self._study.played[0]
        self._recipes = {method.name: method.recipes(self._task)["model"] for method in self._study.chosen}
        self._digits = data.as_shape(self._task.test().load().x, (1, SIDE, SIDE))[:, 0].numpy()
        self.judges: dict[str, Judge] = {}
        self.verdicts: dict[str, Verdict] = {}
        self._notes: dict[str, str] = {}
        self._judging = threading.Lock()

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
        self.work = Work("Train", width=600, more=lambda: len(self.judges) < len(self._recipes))
        self.train_button, self.stop_button = self.work.run_button, self.work.stop_button
        self.bar, self.status = self.work.bar, self.work.status
        self._images = {name: _image() for name in ("input", *self._recipes)}
        self._words = {name: w.HTML() for name in self._images}
        self.canvas = Canvas(lambda _: self._judge())
        self.digit.observe(lambda _: self._show_digit(), names="value")
        self.take.on_click(lambda _: self._show_digit())
        self.merge.on_click(lambda _: self.canvas.put(merged(self.canvas.picture, self._picture(self.other.value))))
        for half, button in self.erase.items():
            button.on_click(lambda _, half=half: self.canvas.put(erased(self.canvas.picture, half)))
        self.train_button.on_click(lambda _: self.train())
        self.widget = self._laid_out()
        self._show_digit()
        self.work.start(self._look)

    def train(self) -> None:
        """Train what is not trained yet, in a thread; while one runs this does nothing."""
        self.work.start(self._train)

    def stop(self) -> None:
        """Ask the training to stop; the button goes on with it."""
        self.work.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the loading or training to end."""
        self.work.wait(timeout)

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
            x = seen(self.canvas.picture[None], self._task.shape)
            self._show("input", x[0, 0].numpy(), f"{x.shape[2]} x {x.shape[3]} pixels")
            self.verdicts = {name: judge(x) for name, judge in self.judges.items()}
            for name, verdict in self.verdicts.items():
                self._show(name, verdict.reconstruction, _said(verdict))

    def _show(self, name: str, image: np.ndarray, words: str) -> None:
        self._images[name].value = plotting.picture_png(image, PIXELS)
        self._images[name].layout.visibility = "visible"  # an empty image would show as a broken one
        self._words[name].value = f"<div style='width:195px;line-height:1.4'>{words}</div>"

    def _look(self, should_stop: Callable[[], bool]) -> str:
        """Take what is there; return how it stands."""
        for name, recipe in self._recipes.items():
            if found := ready(recipe, seed=self._seed):
                self._take(name, found)
        return self._standing()

    def _train(self, should_stop: Callable[[], bool]) -> str:
        """Train what is not there; return how it ended."""
        for name, recipe in self._recipes.items():
            if name not in self.judges:
                found = kept(recipe, seed=self._seed, should_stop=should_stop, on_step=self._progress(name))
                if not found.result.finished:
                    done, of = found.result.step, found.recipe
                    return f"{of.name} has {done:,} of its {of.steps:,} updates. Press Train. {self._study.sentence}"
                self._take(name, found)
        return self._standing()

    def _take(self, name: str, found: Kept) -> None:
        judge = Judge(name, found.result.model.cpu(), self._known)
        with self._judging:  # a stroke may be asking those that are there
            self.judges[name], self._notes[name] = judge, found.note and f"{name} {found.note}."
        self._judge()

    def _standing(self) -> str:
        if missing := [name for name in self._recipes if name not in self.judges]:
            return f"Not trained yet: {', '.join(missing)}. Press Train. {self._study.sentence}"
        limit = f"Accepted are errors up to the 95 % quantile of {len(self._known):,} known test images."
        return " ".join(filter(None, [limit, *self._notes.values(), self._study.sentence]))

    @functools.cached_property
    def _known(self) -> Tensor:
        """The known test images of the notebook, so that limits are those of its figure; (N, C, H, W) in [0, 1]."""
        study = self._study
        return unit_pixels(self._task.load(n=study.budget.test_items, seed=study.draw_seed).test.x)

    def _progress(self, name: str) -> OnStep:
        shown_at = 0.0

        def on_step(recipe: Recipe, done: int, total: int, numbers: dict[str, float], parts: dict[str, Tensor]) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at > REDRAW_SECONDS or done == total:
                shown_at = time.monotonic()
                self.bar.max, self.bar.value = total, done
                said = ", ".join(f"{key} {value:.4f}" for key, value in numbers.items() if key.startswith("error"))
                self.work.say(f"{name}: update {done:,} of {total:,}, {said}")

        return on_step


def outlier_reconstruction_panel(profile: str = "quick", seed: int = 0) -> OutlierPanel:
    """Build the panel of nae/outlier_reconstruction."""
    return OutlierPanel(profile, seed)


def _image() -> w.Image:
    return w.Image(format="png", layout=w.Layout(width=f"{PIXELS}px", height=f"{PIXELS}px", visibility="hidden"))


def _said(verdict: Verdict) -> str:
    return (
        f"<b>{'accepted' if verdict.accepted else 'rejected'}</b><br>error {verdict.error:.4f}<br>accepted up to {verdict.limit:.4f}"
        f"<br>above {100 * verdict.exceeds:.1f} % of known images"
    )
