"""The panel of nae/linear_case: the closed form, at once.

Imports: grids, models, plotting, widgets.panel.
"""

from __future__ import annotations

import math

import ipywidgets as w
import torch
from torch import Tensor

from oodlab import grids, plotting
from oodlab.models import LinearNAE, LinearOptimum, linear_autoencoder, most_likely_linear_nae
from oodlab.studies.nae.linear_case.figure import live_gaussian
from oodlab.widgets.panel import WIDE, slider

WIDTH = 430  # pixels of the figure and of the words below it


class LinearPanel:
    """Sliders for the data and the model, and the density of maximum likelihood they lead to.

    Nothing is trained: the closed form is evaluated at every change.

    Attributes:
        views: The controls by name.
        image, status, widget: The figure, the numbers, and all of it.
    """

    def __init__(self) -> None:
        self.views = {
            "first": w.FloatLogSlider(2.0, base=10, min=-1, max=0.6, step=0.05, description="variance 1", **slider()),
            "second": w.FloatLogSlider(0.25, base=10, min=-1, max=0.6, step=0.05, description="variance 2", **slider()),
            "angle": w.IntSlider(30, min=0, max=90, step=5, description="turned by (degrees)", **slider()),
            "latent": w.IntSlider(1, min=1, max=3, description="latent dimensions D_z", **slider()),
            "free": w.Checkbox(True, description="T free", style=WIDE),
            "temperature": w.FloatLogSlider(1.0, base=10, min=-1, max=0.6, step=0.05, description="T", **slider()),
        }
        self.image = w.Image(format="png", layout=w.Layout(width=f"{WIDTH}px"))
        self.status = w.HTML()
        left = w.VBox([w.HTML("<b>Acts at once</b>"), *self.views.values()], layout=w.Layout(width="330px"))
        self.widget = w.HBox([left, w.VBox([self.image, self.status])])
        for view in self.views.values():
            view.observe(lambda _: self.redraw(), names="value")
        self.redraw()

    def redraw(self) -> None:
        """Evaluate the closed form at the present values and draw it."""
        value = {name: view.value for name, view in self.views.items()}
        self.views["temperature"].disabled = value["free"]
        covariance = turned(value["first"], value["second"], value["angle"])
        given = None if value["free"] else value["temperature"]
        best = most_likely_linear_nae(covariance, value["latent"], temperature=given)
        model = LinearNAE(linear_autoencoder(best.weight.float(), temperature=best.temperature))
        grid = grids.normalise(model.log_prob, points=81)
        title = f"NLL {best.nll:.3f} nats, T = {best.temperature:.3g}"
        self.image.value = plotting.to_png(live_gaussian(grid, covariance, title=title))
        self.status.value = f"<div style='width:{WIDTH}px'>{_said(best)}</div>"


def linear_case_panel() -> LinearPanel:
    """Build the panel of nae/linear_case."""
    return LinearPanel()


def turned(first: float, second: float, angle: float) -> Tensor:
    """Return the covariance with two variances along axes turned by an angle, degrees; (2, 2) float64."""
    a = math.radians(angle)
    turn = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=torch.float64)
    return turn @ torch.tensor([first, second], dtype=torch.float64).diag() @ turn.T


def _said(best: LinearOptimum) -> str:
    entropy = 0.5 * sum(math.log(2 * math.pi * math.e * variance) for variance in best.variances)
    shared = best.temperature * len(best.variances) / 2
    kept = " and ".join(f"{best.variances[i]:.3g}" for i in best.kept)
    left = [variance for i, variance in enumerate(best.variances) if i not in best.kept]
    rest = f"; {left[0]:.3g} is modelled as T D / 2 = {shared:.3g}" if left else "; nothing is left out"
    return (
        f"Entropy of the data {entropy:.3f} nats, so the model loses {best.nll - entropy:.3f}. "
        f"Kept variance {kept}{rest}. Dashed: two standard deviations of the data."
    )
