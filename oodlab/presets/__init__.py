"""The papers' settings, one module per paper key."""

from oodlab.presets import nae
from oodlab.presets.base import PROFILES, Experiment, Preset, describe

__all__ = ["PROFILES", "Experiment", "Preset", "describe", "nae"]
