"""Classification beside any generative objective: the joint energy-based model.

Imports: checks, objectives.autoencoding, models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models import JointEnergy, frozen
from oodlab.objectives.autoencoding import Parts


class Joint(nn.Module):
    """loss = generative loss + gamma * (cross-entropy + entropy_weight * -H(p(y | x))).

    The generative part sees log p(x) = logsumexp of the logits.  gamma = 0 leaves
    it alone and asks for no labels.

    Args:
        generative: Any objective of a JointEnergy.
        gamma: Weight of classification; >= 0.
        entropy_weight: Weight of the negative entropy, so a positive one rewards
            predictions that stay undecided; >= 0.

    Source: Grathwohl et al. (2020), arXiv:1912.03263; gamma as in Elflein et
    al. (2021), arXiv:2107.08785; entropy as in the latter's released code.
    """

    def __init__(self, generative: Callable[..., Parts], *, gamma: float, entropy_weight: float = 0.0) -> None:
        super().__init__()
        for name, weight in {"gamma": gamma, "entropy_weight": entropy_weight}.items():
            checks.number("Joint", name, weight, least=0)
        checks.function("Joint", "generative", generative, instead="an objective such as ContrastiveDivergence(...)")
        self.generative, self.gamma, self.entropy_weight = generative, gamma, entropy_weight

    @property
    def advice(self) -> str:
        """What helps when a training diverges."""
        own = "a smaller gamma" if self.gamma else ""
        return ", ".join(filter(None, [own, getattr(self.generative, "advice", "")]))

    @torch.no_grad()
    def check(self, model: JointEnergy, x: Tensor, y: Tensor | None) -> None:
        """Refuse labels that the classifier has no output for; asked by fit before the first step.

        Args:
            model: With logits(x), (B, C).
            x: Some inputs, (B, *event).
            y: All labels there are, (N,), or None.
        """
        if not self.gamma:
            return
        _require_labels(y)
        with frozen(model):
            classes = model.logits(x).shape[1]
        strange = [label for label in y.unique().tolist() if not 0 <= label < classes]
        if strange:
            raise ValueError(
                f"Joint expects labels 0..{classes - 1}, one per output of the classifier, got {strange[:5]}: renumber them "
                "by y.unique(return_inverse=True), leave out items without a class (-1), or build more outputs."
            )

    def forward(self, model: JointEnergy, x: Tensor, y: Tensor | None = None, **run: Any) -> Parts:
        """Return the generative objective's parts with the total loss, and with cross-entropy and accuracy."""
        if self.gamma:
            _require_labels(y)
        parts = self.generative(model, x, y, **run)
        if not self.gamma:
            return parts
        log_p = torch.log_softmax(model.logits(x), dim=1)
        if log_p.shape[1] < 2:
            raise ValueError("Joint expects a classifier of at least two classes when gamma > 0, got one output.")
        cross_entropy = nn.functional.nll_loss(log_p, y)
        classification = cross_entropy
        if self.entropy_weight:
            classification = classification + self.entropy_weight * (log_p.exp() * log_p).sum(dim=1).mean()
        return {
            **parts,
            "loss": parts["loss"] + self.gamma * classification,
            "cross_entropy": cross_entropy.detach(),
            "accuracy": (log_p.detach().argmax(dim=1) == y).float().mean(),
        }


def _require_labels(y: Tensor | None) -> None:
    if y is None:
        raise ValueError("Joint expects labels when gamma > 0, got none: use batches with y, or gamma = 0.")
