"""Trainings whose weights come with the kit, for panels to begin with: the one place that names them.

Figures never use them. `make trained` writes their files.

Imports: presets.base, its own folder.
"""

from __future__ import annotations

from oodlab.presets.base import Preset
from oodlab.presets.nae.ablations import HELD_OUT
from oodlab.presets.nae.images import image_training

SHIPPED: tuple[tuple[Preset, int], ...] = tuple(  # with their seed; what the panels on digits need as they open
    (image_training(method, without).at("quick"), 0) for without in (None, HELD_OUT) for method in ("AE", "NAE-OMI")
)
