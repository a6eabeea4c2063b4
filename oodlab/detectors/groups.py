"""Scores of groups of inputs: whether a whole group belongs to the training data.

Imports: checks, data, models, its own folder.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from oodlab import checks, data
from oodlab.detectors.base import Detector
from oodlab.models import Flow
from oodlab.models.flows.mass import log_prob_and_gradient


class GroupMean(Detector):
    """Mean score of groups of inputs that follow each other; the last group may be smaller.

    Args:
        detector: Detector of single inputs, fitted already or by `fit` here.
        group: Inputs of a group.

    Source: Nalisnick et al. (2019), arXiv:1906.02994, which tests groups; the mean of any score here.
    """

    def __init__(self, detector: Detector, group: int) -> None:
        checks.whole("GroupMean", "group", group, least=1)
        if detector.group != 1:
            raise ValueError(
                f"GroupMean expects a detector of single inputs, got one of groups of {detector.group}: pool its own instead."
            )
        super().__init__(detector.model, event_shape=detector.event_shape)
        self.detector, self.group, self.learned = detector, group, detector.learned

    def __getattr__(self, name: str) -> object:
        if name.endswith("_") and not name.startswith("_"):  # what the detector of single inputs has learned
            return getattr(self.detector, name)
        raise AttributeError(f"GroupMean has no attribute {name!r}")

    def fit(self, x: Tensor, y: Tensor | None = None) -> GroupMean:
        """Fit the detector of single inputs."""
        self.detector.fit(x, y)
        return self

    def pooled(self, scores: np.ndarray) -> np.ndarray:
        """Return the means of groups, (N,) -> (ceil(N / group),)."""
        return self._means(torch.from_numpy(scores)).numpy()

    def _as_scored(self, x: Tensor) -> Tensor:
        return self.detector._as_scored(x)

    def _score_batch(self, x: Tensor) -> Tensor:
        return self._means(self.detector._score_batch(x))

    def _means(self, scores: Tensor) -> Tensor:
        return torch.stack([part.mean() for part in scores.split(self.group)])


class BatchMass(Detector):
    """Minus the mass of a batch as a released script computes it.

    Of each batch of `group` images with gradients g_i of log p(x_i): -(1 / B) mean_i |g_i|, B the
    batch's size, where the network is in train mode, so that batch norm normalises the batch by
    itself, pixels get fresh noise, and the number is cut to a whole one. B times it is the
    mean mass per image, in nats per unit of a pixel in [0, 1].

    Args:
        model: Flow of images.
        group: Images of a batch; the last may be smaller.
        whole: Whether numbers are cut to whole ones.
        train_mode: Whether the network is in train mode; its running statistics stay as they are.
        noise_seed: Seed of the noise; None scores what is given, as it is.
        event_shape: Shape of one input, as in Detector.

    Source: released code of Chali et al. (2023).
    """

    needs = ("log_prob",)

    def __init__(
        self,
        model: Flow,
        *,
        group: int = 32,
        whole: bool = True,
        train_mode: bool = True,
        noise_seed: int | None = 0,
        event_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(model, event_shape=event_shape)
        checks.whole("BatchMass", "group", group, least=1)
        self.group, self.whole, self.train_mode, self.noise_seed = group, whole, train_mode, noise_seed

    def _as_scored(self, x: Tensor) -> Tensor:
        if self.noise_seed is None:
            return x
        return data.dequantize(data.to_uint8(x.cpu()), torch.Generator().manual_seed(self.noise_seed))

    def _score_batch(self, x: Tensor) -> Tensor:
        model = (
            copy.deepcopy(self.model).train() if self.train_mode else self.model
        )  # running statistics move in train mode
        masses = []
        for part in x.split(self.group):
            _, gradient = log_prob_and_gradient(model, part, space="pixel")
            masses.append(gradient.flatten(1).norm(dim=1).mean() / len(part))
        mass = torch.stack(masses)
        return -(mass.trunc() if self.whole else mass)
