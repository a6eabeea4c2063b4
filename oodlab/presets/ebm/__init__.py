"""Settings of "On Out-of-distribution Detection with Energy-based Models" (Elflein et al., 2021, arXiv:2107.08785).

"table 5" and the like are the paper's; "released" is the authors' published code
(selflein/EBM-OOD-Detection).

Imports: its own folder.
"""

from oodlab.presets.ebm.smoothness import SMOOTHNESS, SMOOTHNESS_RELEASED

__all__ = ["SMOOTHNESS", "SMOOTHNESS_RELEASED"]
