"""What nae's claims on detection are decided by: the lead of NAE-OMI over other scores.

Imports: pandas, study.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from oodlab.study import at_end

DIFFERENCE = "AUROC of NAE-OMI less theirs, by seed, inside and outside set"


def last_aurocs(rows: pd.DataFrame, *, in_set: str = "", out_sets: Sequence[str] = ()) -> pd.DataFrame:
    """Return the AUROCs after the trainings: a line per seed, inside and outside set, a column per score.

    Args:
        rows: Rows as evaluate returns them.
        in_set, out_sets: Sets that are taken; "" and () take all.
    """
    own = at_end(rows)
    own = own[(own["in_set"] == in_set) | (not in_set)]
    own = own[own["out_set"].isin(out_sets or own["out_set"])]
    return own.pivot_table(index=["seed", "in_set", "out_set"], columns="score", values="auroc")


def lead(rows: pd.DataFrame, *, over: Sequence[str] = (), in_set: str = "", out_sets: Sequence[str] = ()) -> pd.Series:
    """Return by how much NAE-OMI's AUROC lies above the best of other scores, () for all, by seed and sets."""
    table = last_aurocs(rows, in_set=in_set, out_sets=out_sets)
    others = [name for name in table.columns if name != "NAE-OMI" and (name in over or not over)]
    if "NAE-OMI" not in table or not others:
        return pd.Series(dtype=float)
    return table["NAE-OMI"] - table[others].max(axis=1)
