"""What can be done to a picture and what models say of it; pure functions.

A picture is (28, 28) uint8, 0 is black.

Imports: checks, data, metrics, models, its own folder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oodlab import checks, data, metrics
from oodlab.models import Autoencoder
from oodlab.studies.nae.images import ImageScores

HALVES = ("top", "bottom", "left", "right")


def erased(picture: np.ndarray, half: str) -> np.ndarray:
    """Return the picture with one of its HALVES black."""
    checks.one_of("erased", "half", half, HALVES)
    rows, columns = (side // 2 for side in picture.shape)
    part = {
        "top": np.s_[:rows],
        "bottom": np.s_[rows:],
        "left": np.s_[:, :columns],
        "right": np.s_[:, columns:],
    }[half]
    rest = picture.copy()
    rest[part] = 0
    return rest


def merged(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return the top half of one picture above the bottom half of another, the seam black as in ChimeraMNIST."""
    pair = torch.from_numpy(np.stack([bottom, top]))[:, None]
    return data.chimera_digits(pair, torch.tensor([0, 1]))[0, 0].numpy()


def seen(pictures: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """Return pictures, (N, 28, 28), as models of images of that shape (C, H, W) see them: (N, C, H, W) in [0, 1]."""
    return data.scale_unit(data.as_shape(torch.from_numpy(pictures)[:, None], shape))


@dataclass(frozen=True)
class Verdict:
    """What a model says of an image.

    Attributes:
        reconstruction: (H, W) in [0, 1].
        error: Mean square over pixels.
        exceeds: Share of the known test images whose error is smaller.
        limit: Largest accepted error.
        accepted: Whether the image is taken for a known one.
    """

    reconstruction: np.ndarray
    error: float
    exceeds: float
    limit: float
    accepted: bool


class Judge:
    """An autoencoder with the scores of known test images, of which it accepts 95 %.

    Args:
        method: Name of the method, one whose score is the reconstruction error.
        model: Trained by it.
        known: Known test images as the model sees them, (N, C, H, W) in [0, 1].
    """

    def __init__(self, method: str, model: Autoencoder, known: Tensor) -> None:
        self.model = model
        self._detector = ImageScores(method)({"model": model})[method]
        self._known = self._detector.score_samples(known)
        self._threshold = metrics.threshold_at_tpr(self._known)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Verdict:
        """Judge one image, (1, C, H, W)."""
        score = float(self._detector.score_samples(x)[0])
        made = self.model.decode(self.model.encode(x.to(self.model.log_temperature.device)))
        return Verdict(
            reconstruction=made[0, 0].cpu().numpy(),
            error=-score,
            exceeds=float((self._known > score).mean()),
            limit=-self._threshold,
            accepted=score >= self._threshold,
        )
