"""Scores read off a classifier's logits.

Imports: checks, its own folder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.detectors.base import Detector


class LogSumExp(Detector):
    """Minus the free energy of a classifier: T * logsumexp(logits / T), high where some logit is high.

    At T = 1 it is the log-density of a JointEnergy of the same classifier; as T
    falls to 0 it tends to the largest logit.

    Args:
        model: Classifier, (B, *event) -> (B, C).
        temperature: T > 0.
        event_shape: Shape of one input, as in Detector.

    Source: Liu et al. (2020), arXiv:2010.03759.
    """

    def __init__(
        self, model: nn.Module, *, temperature: float = 1.0, event_shape: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(model, event_shape=event_shape)
        checks.number("LogSumExp", "temperature", temperature, above=0)
        self.temperature = temperature

    def _score_batch(self, x: Tensor) -> Tensor:
        return self.temperature * torch.logsumexp(self.model(x) / self.temperature, dim=1)


class MaxSoftmax(Detector):
    """The probability of the most probable class, in [1 / C, 1].

    Args:
        model: Classifier, (B, *event) -> (B, C).
        event_shape: Shape of one input, as in Detector.

    Source: Hendrycks & Gimpel (2017), arXiv:1610.02136.
    """

    def _score_batch(self, x: Tensor) -> Tensor:
        return self.model(x).softmax(dim=1).amax(dim=1)
