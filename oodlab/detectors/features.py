"""Scores read off features: what a model says of an input besides its output.

Features of one set are computed once and shared by all detectors that read the same ones.

Imports: checks, models, its own folder.
"""

from __future__ import annotations

import abc
import itertools
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.detectors.base import Detector, checked_scores, in_float32, require_finite, require_fitted, require_inputs
from oodlab.models import frozen


class FeatureDetector(Detector):
    """Scores inputs by features of a model.

    A subclass gives _score_features, and fit_features and `learned` where it learns something.

    Args:
        model: Trained network with a method of the name `reads`.
        reads: Name of the method, (B, *event) -> (B, D).
        event_shape: Shape of one input, as in Detector.
    """

    def __init__(
        self, model: nn.Module, *, reads: str = "features", event_shape: tuple[int, ...] | None = None
    ) -> None:
        self.reads = reads
        self.needs = (reads,)
        super().__init__(model, event_shape=event_shape)

    @abc.abstractmethod
    def _score_features(self, features: Tensor) -> Tensor:
        """Return scores, (B, D) in float64 -> (B,); high = in-distribution."""

    def fit_features(self, features: Tensor, y: Tensor | None = None) -> FeatureDetector:
        """Learn from features of in-distribution training data, (N, D) in float64; here nothing."""
        return self

    @final
    def fit(self, x: Tensor, y: Tensor | None = None) -> FeatureDetector:
        """Learn from in-distribution training data, (N, *event), and labels, (N,)."""
        return self.fit_features(Features().of(self, x), y)

    def _score_batch(self, x: Tensor) -> Tensor:
        return self._score_features(getattr(self.model, self.reads)(x).double())

    @final
    def score_features(self, features: Tensor) -> np.ndarray:
        """Score features, (N, D) in float64 -> (N,); as score_samples does, which computes them first."""
        require_fitted(self)
        with torch.no_grad():
            return checked_scores(
                type(self).__name__, torch.cat([self._score_features(part) for part in features.split(1000)])
            )


class Features:
    """Features of inputs, computed once per model, method and inputs; made for one round of scoring."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, int], tuple[Tensor, Tensor]] = {}

    def of(self, detector: FeatureDetector, x: Tensor, *, batch_size: int = 1000) -> Tensor:
        """Return what a detector reads, (N, *event) -> (N, D) in float64 on the model's device."""
        place = (id(detector.model), detector.reads, id(x))
        if place not in self._known:
            require_inputs(detector, x)
            device = next(itertools.chain(detector.model.parameters(), detector.model.buffers())).device
            with frozen(detector.model), torch.no_grad(), in_float32():
                read = getattr(detector.model, detector.reads)
                parts = [read(part.to(device, torch.float32)).double() for part in x.split(batch_size)]
            require_finite(type(detector).__name__, "features", torch.cat(parts))
            self._known[place] = (torch.cat(parts), x)  # x stays: its id must not pass to another tensor
        return self._known[place][0]


class Mahalanobis(FeatureDetector):
    """Minus the squared Mahalanobis distance of the features to the nearest class mean, with one covariance for all.

    Args:
        model, reads, event_shape: The arguments of FeatureDetector.
        shrinkage: Share of the covariance that is replaced by its mean variance times the identity, in [0, 1].

    Source: Lee et al. (2018), arXiv:1807.03888, equation 2, on one layer and without the step on the input.
    """

    learned = ("means_", "factor_")

    def __init__(
        self,
        model: nn.Module,
        *,
        reads: str = "features",
        shrinkage: float = 1e-3,
        event_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(model, reads=reads, event_shape=event_shape)
        checks.number("Mahalanobis", "shrinkage", shrinkage, least=0, most=1)
        self.shrinkage = shrinkage

    def fit_features(self, features: Tensor, y: Tensor | None = None) -> Mahalanobis:
        """Learn the class means and the covariance around them.

        Raises:
            ValueError: There are no labels, or none for some input.
        """
        if y is None or y.shape != features.shape[:1] or bool((y < 0).any()):
            raise ValueError(
                f"Mahalanobis expects a label for each of {len(features)} inputs, got {'none' if y is None else 'others or -1'}: "
                "its means are those of classes; pass y of the training part."
            )
        classes, place = y.to(features.device).unique(return_inverse=True)
        counts = place.bincount(minlength=len(classes))
        sums = torch.zeros(len(classes), features.shape[1], dtype=features.dtype, device=features.device)
        self.means_ = sums.index_add(0, place, features) / counts[:, None]
        centred = features - self.means_[place]
        covariance = centred.mT @ centred / len(features)
        size = features.shape[1]
        round_part = covariance.trace() / size * torch.eye(size, dtype=features.dtype, device=features.device)
        self.factor_ = torch.linalg.cholesky((1 - self.shrinkage) * covariance + self.shrinkage * round_part)
        return self

    def _score_features(self, features: Tensor) -> Tensor:
        centred = features[:, None] - self.means_
        whitened = torch.linalg.solve_triangular(self.factor_, centred.flatten(0, 1).mT, upper=False)
        return -whitened.square().sum(dim=0).reshape(centred.shape[:2]).amin(dim=1)


class NearestNeighbour(FeatureDetector):
    """Minus the distance of the features, scaled to length 1, to the k-th nearest of the training inputs.

    Args:
        model, reads, event_shape: The arguments of FeatureDetector.
        k: Rank of the neighbour, from 1, the nearest.

    Source: Sun et al. (2022), arXiv:2204.06507.
    """

    learned = ("bank_",)

    def __init__(
        self, model: nn.Module, *, reads: str = "features", k: int = 50, event_shape: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(model, reads=reads, event_shape=event_shape)
        checks.whole("NearestNeighbour", "k", k, least=1)
        self.k = k

    def fit_features(self, features: Tensor, y: Tensor | None = None) -> NearestNeighbour:
        """Keep the training inputs' features.

        Raises:
            ValueError: There are fewer than k.
        """
        if len(features) < self.k:
            raise ValueError(
                f"NearestNeighbour expects at least k = {self.k} training inputs, got {len(features)}: take a smaller k."
            )
        self.bank_ = nn.functional.normalize(features, dim=1)
        return self

    def _score_features(self, features: Tensor) -> Tensor:
        return -torch.cdist(nn.functional.normalize(features, dim=1), self.bank_).kthvalue(self.k, dim=1).values
