"""Trainings that panels need whole: from the run store, from the files that come with the kit, or trained and kept.

A file of the kit holds a quick training in half precision, so that panels respond at once on a fresh machine.
Nothing that is kept ever begins with one, and figures are always of trainings in the run store.

Imports: training, widgets.live.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from oodlab import training
from oodlab.training import Recipe
from oodlab.widgets.live import fresh_model

FOLDER = Path(__file__).resolve().parent.parent / "trained"

OnStep = Callable[[Recipe, int, int, dict[str, float], dict[str, Tensor]], None]


@dataclass(frozen=True)
class Kept:
    """A training that a panel has got.

    Attributes:
        result: Training of `recipe`; one that comes with the kit has its objective as it begins, without replayed chains.
        recipe: The training asked for, or the one of its needs where should_stop ended that.
        done: Updates so far, those of its needs among them.
        note: Origin of the weights, if they come with the kit; else empty.
    """

    result: training.Result
    recipe: Recipe
    done: int
    note: str = ""


def ready(recipe: Recipe, *, seed: int) -> Kept | None:
    """Return a training that is finished, of the run store or else of the kit; None where there is none.

    Raises:
        ValueError: The file is damaged.
    """
    done = sum(stage.steps for stage in _stages(recipe))
    if training.is_finished(recipe, seed):
        return Kept(training.train_or_load(recipe, seed=seed, anew=False), recipe, done)
    file = shipped_file(recipe, seed)
    if file.is_file():
        note = f"comes with the kit: trained by the same recipe, seed {seed}, weights in half precision"
        return Kept(_read(file, recipe, seed), recipe, done, note)
    return None


def kept(recipe: Recipe, *, seed: int, should_stop: Callable[[], bool], on_step: OnStep) -> Kept:
    """Return a training that is finished, or train what it needs and it in the run store.

    Args:
        recipe: Training.
        seed: Seed of it and of what it needs.
        should_stop: Asked between updates whether to end; the argument of training.fit.
        on_step: on_step(recipe that is trained, updates done, updates of all, numbers, parts), otherwise as there.
    """
    if found := ready(recipe, seed=seed):
        return found
    stages = _stages(recipe)
    total, before = sum(stage.steps for stage in stages), 0
    for stage in stages:

        def tell(
            step: int,
            _: int,
            numbers: dict[str, float],
            parts: dict[str, Tensor],
            *,
            stage: Recipe = stage,
            done: int = before,
        ) -> None:
            on_step(stage, done + step, total, numbers, parts)

        result = training.train_or_load(stage, seed=seed, should_stop=should_stop, on_step=tell, anew=False)
        before += result.step
        if not result.finished:
            break
    return Kept(result, stage, before)


def shipped_file(recipe: Recipe, seed: int) -> Path:
    """Return where the kit has a training's weights, if it has them; another training has another name."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", recipe.name)
    return FOLDER / f"{name}-seed{seed}-{recipe.key}.pt"


def write_shipped(recipe: Recipe, result: training.Result, *, seed: int) -> Path:
    """Write a finished training's weights in half precision, with what is known of it.

    Raises:
        ValueError: It is not finished, or a weight has no place in half precision.
    """
    if not result.finished:
        raise ValueError(f"write_shipped expects a finished training, got {recipe.name} at update {result.step:,}.")
    weights = {name: _half(value.cpu()) for name, value in result.model.state_dict().items()}
    lost = [name for name, value in weights.items() if not value.isfinite().all()]
    if lost:
        raise ValueError(
            f"write_shipped expects weights below 65504, got larger ones in {lost}: they have no half precision."
        )
    file = shipped_file(recipe, seed)
    known = {
        "name": recipe.name,
        "seed": seed,
        "key": recipe.key,
        "seconds": result.seconds,
        "rollbacks": result.rollbacks,
        "history": result.history,
        "probes": result.probes,
    }
    training.write_checkpoint(file, {**known, "weights": weights}, recipe.text)
    return file


def _half(value: Tensor) -> Tensor:
    """Round to half precision, but not single numbers: all energies are divided by a temperature."""
    return value.half() if value.is_floating_point() and value.ndim else value


def _read(file: Path, recipe: Recipe, seed: int) -> training.Result:
    """Read a file of the kit; the model's arithmetic is float32 as ever."""
    found = training.read_checkpoint(file, recipe.text)
    if found["seed"] != seed:
        raise ValueError(
            f"{file} expects seed {found['seed']}, got {seed}: it was renamed; put the kit's own copy back."
        )
    model = fresh_model(recipe, seed=seed)
    model.load_state_dict(found["weights"])
    model.to(training.pick_device())
    return training.Result(
        model.eval(),
        recipe.begin(model, {}),
        found["history"],
        found["probes"],
        recipe.steps,
        found["seconds"],
        found["rollbacks"],
        True,
    )


def _stages(recipe: Recipe) -> list[Recipe]:
    """Return what a training needs, each once, and it."""
    found = {stage.key: stage for need in recipe.needs.values() for stage in _stages(need)}
    return [*found.values(), recipe]
