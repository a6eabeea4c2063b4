"""A paper's way from training data to scores.

Imports: data, detectors, study.task, training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oodlab.detectors import Detector
from oodlab.study.task import Inputs, Task
from oodlab.training import Recipe

Models = Mapping[str, nn.Module]
Prepare = Callable[[Tensor], Tensor]


def no_training(task: Task) -> Mapping[str, Recipe]:
    """Return no training: scores of a control."""
    return {}


def as_stored(inputs: Inputs, models: Models) -> Prepare:
    """Prepare nothing: stored values are a model's input."""
    return torch.as_tensor


def no_scores(models: Models) -> Mapping[str, Detector]:
    """Return no scores: of a method that is measured otherwise."""
    return {}


@dataclass(frozen=True, eq=False)  # one method is equal to itself alone: its functions have no order of their own
class Method:
    """Trainings, preprocessing and scores.

    Attributes:
        name: What tables call it.
        recipes: recipes(task) -> one or several trainings, by role.
        prepare: prepare(inputs, models) -> function from stored values to a model's input; fitted on the training
            part, it may use the models that the recipes name in `needs`, by role, and no others.
        detectors: detectors(models) -> scores by the paper's title of each; models by role, those of `needs` among them.
        tasks: Tasks that it is trained on, by name or by inside set; () is all of a study's.
    """

    name: str
    recipes: Callable[[Task], Mapping[str, Recipe]]
    prepare: Callable[[Inputs, Models], Prepare] = as_stored
    detectors: Callable[[Models], Mapping[str, Detector]] = no_scores
    tasks: tuple[str, ...] = ()

    def plays(self, task: Task) -> bool:
        """Say whether it is trained on a task; on a stand-in where it is on what that stands in for."""
        return not self.tasks or bool({task.name, task.stand_in_for or task.inside} & set(self.tasks))

    def needs(self, task: Task) -> dict[str, Recipe]:
        """Return the trainings that its own need, by role, one level or more below.

        Raises:
            ValueError: Two trainings have one role.
        """
        found: dict[str, Recipe] = {}
        waiting = list(self.recipes(task).values())
        while waiting:
            for role, need in waiting.pop().needs.items():
                if found.setdefault(role, need) != need and found[role].key != need.key:
                    raise ValueError(
                        f"{self.name} expects one training for each role, got two for {role!r}, {found[role].name} and {need.name}: "
                        "give them roles of their own."
                    )
                waiting.append(need)
        return found

    def trainings(self, task: Task) -> dict[str, Recipe]:
        """Return all trainings by role, those that others need among them.

        Raises:
            ValueError: Two trainings have one role.
        """
        own, needed = dict(self.recipes(task)), self.needs(task)
        for role in own.keys() & needed.keys():
            if own[role].key != needed[role].key:
                raise ValueError(
                    f"{self.name} expects one training for each role, got two for {role!r}: give them roles of their own."
                )
        return {**needed, **own}
