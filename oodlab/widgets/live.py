"""Trainings that are watched and not kept: the one place where a panel hands a preset to the loop.

Imports: presets, training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from oodlab import training
from oodlab.presets import Preset
from oodlab.training.loop import OnStep


def fresh_model(preset: Preset, *, seed: int) -> nn.Module:
    """Build a preset's model with weights of this seed; the notebook's own random numbers go on as they were."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return preset.model()


def train_live(
    model: nn.Module, preset: Preset, *, seed: int, should_stop: Callable[[], bool], on_step: OnStep
) -> training.Result:
    """Train a model in place as its preset says, without probes, checkpoint or progress line.

    Args:
        model: Built by the preset, with whatever weights.
        preset: At a profile; what a panel's controls change is changed in it.
        seed: Of the run.
        should_stop, on_step: As training.fit has them.
    """
    return training.fit(
        model,
        preset.objective(model),
        preset.batches(),
        optimiser=preset.optimiser,
        steps=preset.steps,
        warm_up=preset.warm_up,
        schedule=preset.schedule,
        seed=seed,
        should_stop=should_stop,
        on_step=on_step,
        show_progress=False,
    )
