"""What a training's negatives look like: the share of them that a classifier calls each class of the inside set.

Imports: data, study.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.svm import SVC

from oodlab import data
from oodlab.data import Split, Stored
from oodlab.study import Measured

CLASSES = 10


@dataclass(frozen=True)
class Coverage:
    """Draw negatives as the training would go on to draw them, and count what a classifier calls them.

    The classifier knows all classes, those held out among them: a support-vector machine with a Gaussian kernel.
    Its accuracy on validation images of all classes is measured, too.

    Attributes:
        negatives: Number of negatives.
        images: Training images of the classifier.
        validation_images: Images that its accuracy is measured on.
    """

    negatives: int = 1000
    images: int = 4000
    validation_images: int = 1000

    def __call__(self, given: Measured) -> dict[str, float]:
        """Return the share of the negatives that are called each class, and the classifier's accuracy."""
        known = Classifier(given.task.inside, given.task.train, given.task.shape, self.images, self.validation_images)
        x = given.prepare(given.train[: self.negatives])
        batches = x.repeat(-(-self.negatives // len(x)), 1, 1, 1)[: self.negatives].split(250)
        chains = copy.deepcopy(given.results["model"].objective.negatives)  # they write to their replay
        generator = torch.Generator(given.device).manual_seed(given.seed)
        made = [chains(given.models["model"], batch.to(given.device), generator=generator).x for batch in batches]
        called = known.call(torch.cat(made).cpu())
        shares = np.bincount(called, minlength=CLASSES) / len(called)
        return {**{f"called {digit}": shares[digit] for digit in range(CLASSES)}, "accuracy": known.accuracy}


@dataclass(frozen=True)
class Classifier:
    """A classifier of all classes of a set; one fit serves all that ask for the same.

    Attributes:
        name, split: Set and split that it is fitted on.
        shape: (C, H, W) that images are brought to.
        images, validation_images: Numbers of images.
    """

    name: str
    split: str
    shape: tuple[int, int, int] | None
    images: int
    validation_images: int

    def call(self, x: torch.Tensor) -> np.ndarray:
        """Return the classes of images in [0, 1], (N, C, H, W) -> (N,)."""
        return _fit(self).predict(x.flatten(1).numpy())

    @property
    def accuracy(self) -> float:
        """Share of validation images that it calls right."""
        return _accuracy(self)

    def load(self, split: str, n: int) -> tuple[torch.Tensor, np.ndarray]:
        """Return images in [0, 1] and their classes, drawn with a fixed seed."""
        part: Split = Stored(self.name, split, n=n).load()
        x = part.x if self.shape is None else data.as_shape(part.x, self.shape)
        return data.scale_unit(x), part.y.numpy()


@functools.cache
def _fit(classifier: Classifier) -> SVC:
    x, y = classifier.load(classifier.split, classifier.images)
    return SVC(C=10.0).fit(x.flatten(1).numpy(), y)


@functools.cache
def _accuracy(classifier: Classifier) -> float:
    x, y = classifier.load("val", classifier.validation_images)
    return float((classifier.call(x) == y).mean())
