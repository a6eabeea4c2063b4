"""Score matching: fit the gradient of the log-density, without samples of the model.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models import EnergyModel
from oodlab.objectives.autoencoding import Parts


class SlicedScoreMatching(nn.Module):
    """loss = E [ v^T grad_x (v^T s) + ||s||^2 / 2 ], s = grad_x log_density, v of random signs.

    Both terms are summed over the event, nats per squared unit of x. v has independent
    entries -1 and 1, so E (v^T s)^2 is ||s||^2 and that term needs no v: the
    variance-reduced form. In expectation the first term is the trace of the
    log-density's Hessian.

    Args:
        projections: Number of v per input; >= 1.

    Raises:
        ValueError: At the first call, when the first term is exactly zero: a network of
            linear layers and (leaky) ReLUs with a single output has no second
            derivative. What remains, ||s||^2 / 2, is least for a constant density.

    Source: Song et al. (2019), arXiv:1905.07088.
    """

    advice = "more projections, larger batches"

    def __init__(self, *, projections: int = 1) -> None:
        super().__init__()
        checks.whole("SlicedScoreMatching", "projections", projections, least=1)
        self.projections = projections
        self._has_curvature = False

    def forward(
        self,
        model: EnergyModel,
        x: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **run: Any,
    ) -> Parts:
        """Return the loss, its two terms and the mean log-density of the data."""
        x = x.detach().requires_grad_()
        f = model.log_density(x)
        (s,) = torch.autograd.grad(f.sum(), x, create_graph=True)
        curvature = x.new_zeros(len(x))
        for _ in range(self.projections):
            signs = torch.randint(0, 2, x.shape, generator=generator, device=x.device)
            v = 2.0 * signs.to(x.dtype) - 1
            (hessian_v,) = torch.autograd.grad(
                (s * v).sum(), x, create_graph=True, allow_unused=True, materialize_grads=True
            )
            curvature = curvature + (v * hessian_v).flatten(1).sum(dim=1) / self.projections
        if not self._has_curvature:  # looked at once: each look waits for the device
            self._has_curvature = bool((curvature != 0).any())
            if not self._has_curvature:
                raise ValueError(
                    "SlicedScoreMatching expects a log-density with a second derivative, got one whose curvature is exactly "
                    "0 at every input of the batch: with ReLU or LeakyReLU and one output it is piecewise linear, and a "
                    "constant density would be optimal; use a smooth activation such as nn.SiLU or nn.Softplus."
                )
        half_square = s.flatten(1).square().sum(dim=1) / 2
        loss = (curvature + half_square).mean()
        return {
            "loss": loss,
            "curvature": curvature.detach().mean(),
            "half_square": half_square.detach().mean(),
            "f_data": f.detach().mean(),
        }
