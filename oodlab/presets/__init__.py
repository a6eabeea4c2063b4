"""The papers' settings, one module per paper key."""

from oodlab.presets import nae, sources
from oodlab.presets.base import PROFILES, Experiment, Preset, describe

__all__ = ["PROFILES", "Experiment", "Preset", "describe", "experiments", "nae", "sources"]


def experiments() -> dict[str, Experiment]:
    """Return all experiments of the kit, by name."""
    every = [value for value in vars(nae).values() if isinstance(value, Experiment)]
    return {experiment.name: experiment for experiment in every}
