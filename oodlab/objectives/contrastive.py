"""Maximum likelihood by negatives from the model's own chains, for a density known up to a constant.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models import EnergyModel
from oodlab.objectives.autoencoding import Parts


class ContrastiveDivergence(nn.Module):
    """Raise the log-density f of data, lower it on negatives.

    loss = -(mean f(data) - mean f(negatives)) + l2 * (mean f(data)^2 + mean f(negatives)^2)

    Without l2 its gradient is that of the negative log-likelihood, the model's
    expectation replaced by the negatives' mean.  With l2 = 1 it equals
    E (f(data) - 1/2)^2 + E (f(negatives) + 1/2)^2 - 1/2: a least-squares classifier
    of data against negatives, whose f says which of the two an input resembles.

    Args:
        negatives: One of objectives.negatives.
        l2: Weight of the squared log-densities.

    Source: Hinton (2002); penalty as in Du & Mordatch (2019), arXiv:1903.08689.
    """

    advice = "a smaller step_size or more steps of the chain, a larger l2"

    def __init__(self, negatives: nn.Module, *, l2: float = 0.0) -> None:
        super().__init__()
        checks.number("ContrastiveDivergence", "l2", l2, least=0)
        self.negatives, self.l2 = negatives, l2

    def forward(self, model: EnergyModel, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the loss, both mean log-densities, data's minus negatives', and negatives with their starts."""
        negatives = self.negatives(model, x, **run)
        both = model.log_density(torch.cat([x, negatives.x]))
        f_data, f_negatives = both.split([len(x), len(negatives.x)])
        gap = f_data.mean() - f_negatives.mean()
        loss = -gap
        if self.l2:
            loss = loss + self.l2 * (f_data.square().mean() + f_negatives.square().mean())
        return {
            "loss": loss,
            "f_data": f_data.detach().mean(),
            "f_negatives": f_negatives.detach().mean(),
            "log_density_gap": gap.detach(),
            "negatives": negatives.x,
            "negatives_start": negatives.start,
        }
