"""What every detector is.

Convention: score_samples is high for in-distribution inputs.

Imports: checks, models.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.models import frozen


class NotFittedError(RuntimeError):
    """A detector that learns something was asked for scores before it was fitted."""


class Detector(abc.ABC):
    """Scores inputs with a trained model.

    A subclass gives one method, _score_batch; one that learns something for
    scoring also gives fit, and names in `learned` the attributes fit sets, which
    end in an underscore; `needs` names the model's methods that it calls; `group` is the
    number of inputs that share one score.

    Args:
        model: Trained network; several detectors may share it.
        event_shape: Shape of one input; None accepts what the first batch has.
    """

    group: int = 1
    learned: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("parameters",)

    def __init__(self, model: nn.Module, *, event_shape: tuple[int, ...] | None = None) -> None:
        who = type(self).__name__
        for method in self.needs:
            if not callable(getattr(model, method, None)):
                raise ValueError(
                    f"{who} expects a model with {method}(x), got {type(model).__name__}: train one of oodlab.models that has "
                    "it, or wrap yours (a classifier becomes an energy by JointEnergy(classifier))."
                )
        if event_shape is not None and not isinstance(event_shape, tuple | list):
            raise ValueError(
                f"{who} expects event_shape to be the shape of one input, got {event_shape!r}: write it as ({event_shape!r},)."
            )
        self.model = model
        self.event_shape = None if event_shape is None else tuple(event_shape)

    def fit(self, x: Tensor, y: Tensor | None = None) -> Detector:
        """Learn what scoring needs from in-distribution training data; here nothing."""
        return self

    @abc.abstractmethod
    def _score_batch(self, x: Tensor) -> Tensor:
        """Return scores, (B, *event) on the model's device -> (ceil(B / group),); high = in-distribution."""

    @final
    def score_samples(self, x: Tensor, *, batch_size: int = 1000) -> np.ndarray:
        """Score inputs in batches, with the model in eval mode and in float32.

        Args:
            x: Inputs as the model was trained on them, (N, *event), floating point.
            batch_size: Inputs per batch; decides memory, not values.

        Returns:
            (ceil(N / group),) float64, high = in-distribution.

        Raises:
            ValueError: Wrong shape or type.
            NotFittedError: The detector needs fit first.
            FloatingPointError: Inputs or scores are not finite: which and how many.
        """
        name = type(self).__name__
        require_fitted(self)
        require_inputs(self, x)
        checks.whole(name, "batch_size", batch_size, least=1)
        size = max(self.group, batch_size // self.group * self.group)  # whole groups
        device = next(itertools.chain(self.model.parameters(), self.model.buffers())).device
        scores = []
        with frozen(self.model), torch.no_grad(), in_float32():
            for part in self._as_scored(x).split(size):
                instead = "bring them to the shape it was trained in"
                with checks.inputs_fit(name, self.model, x.shape[1:], instead=instead):
                    batch = self._score_batch(part.to(device, torch.float32))
                groups = -(-len(part) // self.group)
                if batch.shape != (groups,):
                    raise ValueError(
                        f"{name}._score_batch expects to return shape ({groups},), got {tuple(batch.shape)}."
                    )
                scores.append(batch.detach().double().cpu())
        return checked_scores(name, torch.cat(scores))

    def _as_scored(self, x: Tensor) -> Tensor:
        """Return all inputs as they are scored: here unchanged."""
        return x


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Let a GPU's convolutions multiply in float32: TF32, torch's default, keeps 10 of a factor's 23 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def require_fitted(detector: Detector) -> None:
    """Raise NotFittedError where a detector lacks what fit learns."""
    name = type(detector).__name__
    missing = [attribute for attribute in detector.learned if not hasattr(detector, attribute)]
    if missing:
        raise NotFittedError(f"{name} expects fit before score_samples, got no {', '.join(missing)}: call fit(x).")


def require_inputs(detector: Detector, x: Tensor) -> None:
    """Refuse inputs of a wrong type or shape (ValueError), and numbers that are not finite (FloatingPointError)."""
    name = type(detector).__name__
    if not torch.is_tensor(x) or not x.is_floating_point():
        kind = x.dtype if torch.is_tensor(x) else type(x).__name__
        raise ValueError(f"{name} expects a floating-point tensor, got {kind}: apply the recipe's transform first.")
    if x.ndim < 2 or len(x) == 0 or (detector.event_shape and tuple(x.shape[1:]) != detector.event_shape):
        wanted = detector.event_shape or ("*event",)
        raise ValueError(f"{name} expects x of shape (N, {', '.join(map(str, wanted))}), N >= 1, got {tuple(x.shape)}.")
    require_finite(name, "inputs", x)


def checked_scores(name: str, scores: Tensor) -> np.ndarray:
    """Return scores, (N,), as float64 of NumPy; those that are not finite are refused (FloatingPointError)."""
    scores = scores.detach().double().cpu()
    require_finite(name, "scores", scores)
    return scores.numpy()


def require_finite(who: str, what: str, values: Tensor) -> None:
    """Refuse NaN and infinite numbers, (N, ...): how many items have some, and the first (FloatingPointError)."""
    lost = int((~values.isfinite()).flatten(1).any(dim=1).sum()) if values.ndim > 1 else int((~values.isfinite()).sum())
    if lost:
        first = int((~values.isfinite()).reshape(len(values), -1).any(dim=1).nonzero()[0])
        raise FloatingPointError(
            f"{who}: {lost} of {len(values)} {what} are not finite, the first at index {first}: "
            "look at that input; a metric would rank it silently."
        )
