"""Settings of "On Out-of-distribution Detection with Energy-based Models" (Elflein et al., 2021, arXiv:2107.08785).

"table 5" and the like are the paper's; "released" is the authors' published code
(selflein/EBM-OOD-Detection).

Imports: its own folder.
"""

from oodlab.presets.ebm import gamma_sweep, sweep_data
from oodlab.presets.ebm.gamma_sweep import (
    GAMMA_SWEEP,
    GAMMA_SWEEP_CIFAR10,
    GAMMA_SWEEP_CIFAR10_RELEASED,
    GAMMA_SWEEP_RELEASED,
)
from oodlab.presets.ebm.smoothness import SMOOTHNESS, SMOOTHNESS_RELEASED

__all__ = [
    "GAMMA_SWEEP",
    "GAMMA_SWEEP_CIFAR10",
    "GAMMA_SWEEP_CIFAR10_RELEASED",
    "GAMMA_SWEEP_RELEASED",
    "SMOOTHNESS",
    "SMOOTHNESS_RELEASED",
    "gamma_sweep",
    "sweep_data",
]
