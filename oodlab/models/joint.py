"""A classifier as an energy-based model of inputs, and of inputs with their classes.

Imports: models.energy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodlab.models.energy import EnergyModel


class JointEnergy(EnergyModel):
    """A classifier as a density: log p(x, y) = logits(x)[y], log p(x) = logsumexp_y logits(x)[y], up to one constant.

    If the classifier has a single output, the output is the log-density up to a constant.

    Args:
        classifier: (B, *event) -> (B, C), C >= 1.

    Source: Grathwohl et al. (2020), arXiv:1912.03263.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def logits(self, x: Tensor) -> Tensor:
        """Return the classifier's outputs, (B, C); their softmax is p(y | x)."""
        return self.classifier(x)

    def log_joint_density(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log p(x, y) up to a constant, nats, for classes y (B,) -> (B,)."""
        return self.logits(x).gather(1, y[:, None])[:, 0]

    def energy(self, x: Tensor) -> Tensor:
        """Return -logsumexp over classes, nats, (B,)."""
        return -torch.logsumexp(self.logits(x), dim=1)
