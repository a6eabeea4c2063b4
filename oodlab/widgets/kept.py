"""Trainings that panels need whole: from the run store, from the files that come with the kit, or trained and kept.

A file of the kit holds a quick training in half precision, so that panels respond at once on a fresh machine.
Nothing that is kept ever begins with one, and figures are always of trainings in the run store.

Imports: presets, training, widgets.live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from oodlab import training
from oodlab.presets import Preset
from oodlab.widgets.live import fresh_model

FOLDER = Path(__file__).resolve().parent.parent / "trained"

OnStep = Callable[[Preset, int, int, dict[str, float], dict[str, Tensor]], None]


@dataclass(frozen=True)
class Kept:
    """A training that a panel has got.

    Attributes:
        result: Of `preset`; one that comes with the kit has its objective as it begins, without replayed chains.
        preset: The training asked for, or the one it starts from where should_stop ended that.
        done: Updates so far, those of what it starts from among them.
        note: Where the weights are from, if from the kit; else empty.
    """

    result: training.Result
    preset: Preset
    done: int
    note: str = ""


def ready(preset: Preset, *, seed: int) -> Kept | None:
    """Return a training that is finished, of the run store or else of the kit; None where there is none.

    Raises:
        ValueError: The file is damaged.
    """
    done = sum(stage.steps for stage in _stages(preset))
    if training.is_finished(preset, seed):
        return Kept(training.train_or_load(preset, seed=seed, anew=False), preset, done)
    file = shipped_file(preset, seed)
    if file.is_file():
        note = f"comes with the kit: trained by the same preset, seed {seed}, weights in half precision"
        return Kept(_read(file, preset, seed), preset, done, note)
    return None


def kept(preset: Preset, *, seed: int, should_stop: Callable[[], bool], on_step: OnStep) -> Kept:
    """Return a training that is finished, or train it and what it starts from in the run store.

    Args:
        preset: At a profile.
        seed: Of it and of what it starts from.
        should_stop: As training.fit has it.
        on_step: on_step(preset that is trained, updates done, updates of all, numbers, parts), otherwise as there.
    """
    if found := ready(preset, seed=seed):
        return found
    stages = _stages(preset)
    total, before = sum(stage.steps for stage in stages), 0
    for stage in stages:

        def tell(
            step: int,
            _: int,
            numbers: dict[str, float],
            parts: dict[str, Tensor],
            *,
            stage: Preset = stage,
            done: int = before,
        ) -> None:
            on_step(stage, done + step, total, numbers, parts)

        result = training.train_or_load(stage, seed=seed, should_stop=should_stop, on_step=tell, anew=False)
        before += result.step
        if not result.finished:
            break
    return Kept(result, stage, before)


def shipped_file(preset: Preset, seed: int) -> Path:
    """Return where the kit has a training's weights, if it has them; another setting has another name."""
    return FOLDER / f"{preset.name.replace('/', '-')}-{preset.profile}-seed{seed}-{preset.hash}.pt"


def write_shipped(preset: Preset, result: training.Result, *, seed: int) -> Path:
    """Write a finished training's weights in half precision, with what is known of it.

    Raises:
        ValueError: It is not finished, or a weight has no place in half precision.
    """
    if not result.finished:
        raise ValueError(f"write_shipped expects a finished training, got {preset.name} at update {result.step:,}.")
    weights = {name: _half(value.cpu()) for name, value in result.model.state_dict().items()}
    lost = [name for name, value in weights.items() if not value.isfinite().all()]
    if lost:
        raise ValueError(
            f"write_shipped expects weights below 65504, got larger ones in {lost}: they have no half precision."
        )
    file = shipped_file(preset, seed)
    known = {
        "name": preset.name,
        "profile": preset.profile,
        "seed": seed,
        "key": preset.key,
        "seconds": result.seconds,
        "rollbacks": result.rollbacks,
        "history": result.history,
        "probes": result.probes,
    }
    training.write_checkpoint(file, {**known, "weights": weights}, preset.text)
    return file


def _half(value: Tensor) -> Tensor:
    """Round to half precision, but not single numbers: all energies are divided by a temperature."""
    return value.half() if value.is_floating_point() and value.ndim else value


def _read(file: Path, preset: Preset, seed: int) -> training.Result:
    """Read a file of the kit; the model's arithmetic is float32 as ever."""
    found = training.read_checkpoint(file, preset.text)
    if found["seed"] != seed:
        raise ValueError(
            f"{file} expects seed {found['seed']}, got {seed}: it was renamed; put the kit's own copy back."
        )
    model = fresh_model(preset, seed=seed)
    model.load_state_dict(found["weights"])
    model.to(training.pick_device())
    return training.Result(
        model.eval(),
        preset.objective(model),
        found["history"],
        found["probes"],
        preset.steps,
        found["seconds"],
        found["rollbacks"],
        True,
    )


def _stages(preset: Preset) -> list[Preset]:
    """Return what a training starts from, and it."""
    return [*(_stages(preset.start) if preset.start else ()), preset]
