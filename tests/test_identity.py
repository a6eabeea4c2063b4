"""What voids a training or a row, and what does not.

Each case runs on a copy of the package in a process of its own, so that a file can be changed.
"""

from __future__ import annotations

from pathlib import Path

import oodlab

PACKAGE = Path(oodlab.__file__).parent

STUDY = '''
"""Three methods on a table: an autoencoder, a flow with its penalty, an energy trained by contrast."""
from dataclasses import dataclass
from functools import partial
import torch
from oodlab import identity
from oodlab.data import MinMax, Stored
from oodlab.detectors import ApproximateMass, LogDensity, Reconstruction, Typicality
from oodlab.models import MLP, vector_realnvp
from oodlab.objectives import PenalisedLikelihood
from oodlab.study import Budget, Made, Method, Study, Task, evaluate
from oodlab.training import Adam, Recipe, Shuffled, Transformed


@dataclass(frozen=True)
class Rows:
    """Scaled rows of a table."""
    stored: Stored
    batch_size: int

    def begin(self):
        x = self.stored.load().x
        return Shuffled(MinMax().fit(x)(x), None, self.batch_size, 0)


def recipe(task, alpha):
    flow = partial(vector_realnvp, 19, couplings=2, hidden=(8,))
    return Recipe("flow", flow, PenalisedLikelihood(alpha), Rows(task.training(), 64), Adam(lr=1e-3), steps=3)


def vanilla(task):
    return {"flow": recipe(task, 0.0)}


def scaled(inputs, models):
    """Scale as the training does."""
    return MinMax().fit(inputs.train.x)


def by_density(models):
    return {"log p": LogDensity(models["flow"]), "mass": ApproximateMass(models["flow"], space="input")}


def noise(n, shape, generator):
    return torch.randn(n, *shape, generator=generator)


TASK = Task("segment", (Made("noise", noise), "wine"), held_out=(0,))
TASK = Task("segment", (Made("noise", noise),), held_out=(0,))
STUDY = Study("mass/toy", (TASK,), lambda budget, source: (Method("flow", vanilla, scaled, by_density),), {"quick": Budget(seeds=1)}, profile="quick")
'''
