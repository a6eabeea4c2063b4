"""Images that nae's studies make, to be outside of a set: "table 9" is the paper's list of sets.

Imports: data, study.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oodlab import data
from oodlab.study import Made

MADE = 4000  # table 9: images of one grey level, and of noise


def halves(x: Tensor, y: Tensor) -> Tensor:
    """Blank the upper or the lower half of test images, in turn."""
    return data.half_digits(x)


def black(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return black images; no randomness is drawn."""
    return torch.zeros(n, *shape, dtype=torch.uint8)


GREY_LEVELS = Made("constant_gray", data.constant_gray, n=MADE)  # one level per image
NOISE = Made("noise", data.noise_uniform, n=MADE)
HALVES = Made("half_digits", halves, of_test=True)  # HalfMNIST
CHIMERAS = Made("chimera_digits", data.chimera_digits, of_test=True)  # ChimeraMNIST: two digits' halves in one image
BLANK = Made("blank", black, n=1)  # figure 1

PRINTED_AS = {"half_digits": "half_mnist", "chimera_digits": "chimera_mnist"}  # what reported.csv calls them
