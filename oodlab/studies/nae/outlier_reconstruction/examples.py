"""Images that figure 1 is made of, with what models make of them.

Imports: data, study, its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from oodlab import data
from oodlab.models import EncoderDecoder
from oodlab.study import Inputs

SHOWN = 2  # ours: images of each set
SHIRT = 6  # class of fashion_mnist; figure 1 shows one


@dataclass(frozen=True)
class Examples:
    """Some images of each set, grey, (N, H, W) in [0, 1].

    Attributes:
        images: Inputs by set, the inside set first.
        reconstructions: By method and set, shaped as the inputs.
        wrong: By method and set, whether an outlier is accepted or a known image rejected.
    """

    images: Mapping[str, np.ndarray]
    reconstructions: Mapping[str, Mapping[str, np.ndarray]]
    wrong: Mapping[str, Mapping[str, Sequence[bool]]]


def chosen(inputs: Inputs) -> dict[str, np.ndarray]:
    """Return which images of each set are shown: the first, of fashion_mnist the first shirts."""
    found = {}
    for name, split in {inputs.task.name: inputs.test, **inputs.outside}.items():
        order = (
            np.argsort(split.y.numpy() != SHIRT, kind="stable") if name == "fashion_mnist" else np.arange(len(split))
        )
        found[name] = order[:SHOWN]
    return found


@torch.no_grad()
def examples(
    inputs: Inputs,
    models: Mapping[str, EncoderDecoder],
    errors: Mapping[str, Mapping[str, ArrayLike]],
    limits: Mapping[str, float],
) -> Examples:
    """Choose images of a task, and reconstruct them.

    Args:
        inputs: Task's inputs, grey images.
        models: Autoencoders by method.
        errors: Reconstruction errors of all inputs by method and set, (N,), in the inputs' order.
        limits: Largest error that is accepted, by method.
    """
    known, places = inputs.task.name, chosen(inputs)
    sets = {known: inputs.test, **inputs.outside}
    x = {name: data.scale_unit(sets[name].x[index]) for name, index in places.items()}
    made: dict[str, dict[str, np.ndarray]] = {}
    for method, model in models.items():
        device = next(model.parameters()).device
        made[method] = {
            name: model.decode(model.encode(part.to(device))).cpu()[:, 0].numpy() for name, part in x.items()
        }
    wrong = {
        method: {
            name: [(errors[method][name][i] <= limits[method]) == (name != known) for i in index]
            for name, index in places.items()
        }
        for method in models
    }
    return Examples({name: part[:, 0].numpy() for name, part in x.items()}, made, wrong)
