"""The papers' settings, one module per paper key."""

from oodlab.presets import ebm, mass, nae, sources
from oodlab.presets.base import PROFILES, Experiment, Preset, describe

__all__ = ["PROFILES", "Experiment", "Preset", "describe", "ebm", "mass", "nae", "sources"]
