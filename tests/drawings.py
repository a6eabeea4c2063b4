"""Rows and a study as figures need them, made by no training.

Imports: pandas.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

ROW = {
    **{"method": "flow", "score": "log p", "in_set": "digits", "out_set": "wine", "seed": 0, "step": 8},
    **{"auroc": 0.5, "printed": 0.75, "printed_metric": "auroc", "n_in": 5},
    **{"profile": "smoke", "source": "printed", "stand_in_for": "", "training": "", "seconds_each": ""},
}


def named(name: str) -> SimpleNamespace:
    """Return what a figure needs to know of the study of this name."""
    return SimpleNamespace(name=name, profile="smoke", behind=lambda rows: {})


def made_rows(*rows: dict[str, Any], **values: Any) -> pd.DataFrame:
    """Return rows of one untrained method: one with these values, or one each with its own values, too."""
    return pd.DataFrame([{**ROW, **values, **own} for own in rows or ({},)])
