"""Numbers of trained models that are no metrics of a score: kept, looked up and shown like rows.

Imports: pandas, identity, workspace, training, its own folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from oodlab import identity, workspace
from oodlab.study import rows as kept_rows
from oodlab.study.method import Method, Models, Prepare
from oodlab.study.study import Place, Study, Trained
from oodlab.study.task import Drawn, Inputs, Sample, Task, digest_of, read_by
from oodlab.training import Recipe, Result, pick_device
from oodlab.training.stored import ran

COLUMNS = kept_rows.NUMBERED


@dataclass(frozen=True)
class Measured:
    """What a measure is given: one method, trained on one task with one seed.

    Attributes:
        task: Task as it is played here: a stand-in where its sets are absent.
        models: Models by role, in eval mode, those that others need among them.
        results: Their trainings by role: courses, probes, objectives with the replay that they ended with.
        train, test: Stored training and test items of the inside set, or fresh points of a known distribution,
            (N, *event); at most as many as the budget's fit_items and test_items say.
        prepare: prepare(stored values) -> a model's input.
        seed: Seed.
        device: Device of the models.
        recipes: Settings of the trainings by role.
        labels: Classes of the training items, (N,); None of a known distribution's points.
    """

    task: Task | Drawn
    models: Models
    results: Mapping[str, Result]
    train: Tensor
    test: Tensor
    prepare: Prepare
    seed: int
    device: torch.device
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    labels: Tensor | None = None


Measure = Callable[[Measured], Mapping[str, float]]


def measured(study: Study, trained: Trained | None, measure: Measure) -> pd.DataFrame:
    """Return what a measure finds of every method, task and seed of a study.

    Like evaluate's rows, numbers are looked up by key and kept when they are computed, and a
    training is loaded or made only when a missing number asks for it.

    Args:
        study: A study at a profile.
        trained: Its trainings; None takes study.trained().
        measure: measure(Measured) -> numbers by what they are of. A function, or a frozen dataclass with settings.

    Returns:
        One row per method, task, seed and quantity; `kept` says whether it was there before.

    Raises:
        FloatingPointError: A number is not finite.
    """
    trained = trained or study.trained()
    before = kept_rows.read(study.name, study.profile, COLUMNS)
    if workspace.trains_anew():
        before = before[:0]
    known = dict(iter(before.groupby(["key", "seed"], sort=False)))
    found: dict[Place, pd.DataFrame] = {}
    missing: dict[Place, str] = {}
    wanted: dict[Place, None] = {}  # in the study's order: trainings end as they may
    for method in study.chosen:
        for task in filter(method.plays, study.tasks):
            for seed in study.seeds if method.trainings(task) else study.seeds[:1]:
                for one in dict.fromkeys((task, task.here())):  # kept numbers of the real set come first
                    place, key = (one, method, seed), _key(study, one, method, measure)
                    wanted[place] = None
                    if key and (key, seed) in known:
                        here = known[key, seed].drop_duplicates("quantity", keep="first")
                        titles = {"method": method.name, "in_set": one.name, "source": study.source}
                        found[place] = here.assign(**titles, profile=study.profile, kept=True)
                        break
                else:
                    missing[place] = key
    loaded: dict[Task | Drawn, Inputs | Sample] = {}
    for place in trained.each(list(missing)):
        task, method, seed = place
        if task not in loaded:
            budget = study.budget
            loaded[task] = task.load(n=budget.test_items, train_n=budget.fit_items, seed=study.draw_seed)
        made = _rows(study, trained, loaded[task], place, measure, missing[place])
        kept_rows.write(study.name, study.profile, made, COLUMNS, stand_in=bool(task.stand_in_for))
        found[place] = pd.DataFrame(made, columns=list(COLUMNS)).assign(kept=False)
    return pd.concat([found[place] for place in wanted if place in found], ignore_index=True)


def _key(study: Study, task: Task | Drawn, method: Method, measure: Measure) -> str:
    """Return what decides a measure's numbers, hashed; "" where a set has no known digest."""
    budget, seed = study.budget, study.draw_seed
    items = [str(budget.test_items), str(budget.fit_items), str(seed)]
    if isinstance(task, Drawn):
        items.append(digest_of(task))
    else:
        read = (task.training(n=budget.fit_items, seed=seed), task.test(n=budget.test_items, seed=seed))
        try:
            items += [*map(digest_of, read), repr(task.shape)]
        except FileNotFoundError:  # neither here nor in the table: nothing can be kept of it
            return ""
    return identity.digest(
        identity.describe(measure),
        identity.code_of(measure, Measured),
        *read_by(measure),
        identity.describe(method.prepare),
        identity.code_of(method.prepare),
        *read_by(method.prepare),
        *(f"{role} {recipe.key}" for role, recipe in method.trainings(task).items()),
        *items,
    )[:16]


def _rows(
    study: Study, trained: Trained, inputs: Inputs | Sample, place: Place, measure: Measure, key: str
) -> list[dict[str, Any]]:
    """Return the numbers of one method with one seed, a row each."""
    task, method, seed = place
    models, results = trained.models(task, method, seed, roles=()), trained.results(task, method, seed)
    needs = {role: models[role] for role in method.needs(task)}
    drawn = isinstance(inputs, Sample)
    numbers = measure(
        Measured(
            task,
            models,
            results,
            train=inputs.fit if drawn else inputs.train.x,
            test=inputs.test if drawn else inputs.test.x,
            prepare=method.prepare(inputs, needs),
            seed=seed,
            device=pick_device(trained.device),
            recipes=method.trainings(task),
            labels=None if drawn else inputs.train.y,
        )
    )
    strange = [name for name, value in numbers.items() if not math.isfinite(value)]
    if strange:
        raise FloatingPointError(
            f"measured expects finite numbers of {method.name} on {task.name}, seed {seed}, got others for {', '.join(strange)}."
        )
    made_by = [ran(recipe, seed) for recipe in method.trainings(task).values()]
    seconds = [round(result.seconds, 1) for result in results.values()]
    common = {
        "method": method.name,
        "in_set": task.name,
        "seed": seed,
        "profile": study.profile,
        "source": study.source,
        "stand_in_for": task.stand_in_for,
        **{name: "+".join(dict.fromkeys(part[name] for part in made_by)) for name in ("device", "precision")},
        "machine": kept_rows.machine(),
        "made": kept_rows.today(),
        "seconds": sum(seconds),
        "seconds_each": "+".join(map(str, seconds)),
        "training": "+".join(recipe.key for recipe in method.trainings(task).values()),
        "key": key,
    }
    return [{**common, "quantity": name, "value": float(value)} for name, value in numbers.items()]
