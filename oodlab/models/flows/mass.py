"""Approximate mass: the norm of the gradient of a model's log-density at an input.

Imports: checks, models.energy, data.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from oodlab import checks
from oodlab.data.transforms import LOGIT_SHRINK, from_pixels
from oodlab.models.energy import Density

Space = Literal["input", "pixel", "logit"]
SPACES = get_args(Space)
_PIXEL = from_pixels(1.0, 0.0) - from_pixels(0.0, 0.0)  # dw / d pixel, a number


def log_prob_and_gradient(
    model: Density, x: Tensor, *, space: Space = "input", create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Return log_prob of each input, (B,), and its gradient with respect to that input, shape of x.

    Args:
        model: A normalised density.
        x: Inputs; for "pixel" and "logit" w in [0, 1], dequantised images.
        space: Variable that log_prob is differentiated by: "input", the model's input; "pixel",
            pixels in [0, 1] with w = (255 pixel + u) / 256; or "logit", the logit of the shrunk w.
        create_graph: Whether the gradient keeps its graph and can be differentiated; log_prob always keeps its graph.
    """
    checks.one_of("log_prob_and_gradient", "space", space, SPACES)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_prob = model.log_prob(x)
        (gradient,) = torch.autograd.grad(log_prob.sum(), x, create_graph=create_graph)  # sum: a mean divides by B
    if space == "pixel":
        gradient = gradient * _PIXEL
    elif space == "logit":
        p = ((2 * x.detach() - 1) * LOGIT_SHRINK + 1) / 2
        gradient = gradient * (p * (1 - p) / LOGIT_SHRINK)  # dw / d logit
    return log_prob, gradient


def approximate_mass(model: Density, x: Tensor, *, space: Space = "input") -> Tensor:
    """Return the Euclidean norm of the gradient of log_prob, nats per unit of the space, detached, (B,).

    Source: Grathwohl et al. (2020), arXiv:1912.03263, section 5.3; Chali et al. (2023).
    """
    _, gradient = log_prob_and_gradient(model, x, space=space)
    return gradient.flatten(1).norm(dim=1)
