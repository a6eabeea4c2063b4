"""AUROC of several methods beside the paper's: what such panels share.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodlab.plotting.base import COLOURS

OWN = {"marker": "o", "linestyle": "", "markersize": 3.6, "mew": 0, "clip_on": False}  # whole at 0 and at 1
PAPER = {"marker": "D", "linestyle": "", "color": "0.25", "mfc": "none", "markersize": 4, "clip_on": False}


def draw_aurocs(ax: Axes, rows: Sequence[Mapping[str, Any]], methods: Sequence[str], *, title: str) -> None:
    """Draw a dot per seed, a bar at their mean and a diamond where the paper is, a line per method.

    Args:
        ax: Panel; the first method is line 0.
        rows: Each with method, auroc (one per seed; none where only the paper has a number) and reported
            (None where the paper has none).
        methods: Of all lines.
        title: Of the panel.
    """
    for row in rows:
        y = methods.index(row["method"])
        colour = COLOURS[1] if row["method"].startswith("NAE") else COLOURS[0]
        if len(row["auroc"]):  # an empty line that is not clipped reaches to the figure's corner
            ax.plot(row["auroc"], [y] * len(row["auroc"]), color=colour, alpha=0.6, **OWN)
            ax.plot([np.mean(row["auroc"])], [y], "|", color=colour, markersize=9, mew=1.6, clip_on=False)
        if row["reported"] is not None:
            ax.plot([row["reported"]], [y], **PAPER)
    ax.axvline(0.5, color="0.6", linewidth=0.8, zorder=0)
    ax.set(title=title, xlim=(-0.02, 1.02), xlabel="AUROC", yticks=range(len(methods)))
    ax.grid(axis="x", color="0.93")


def explain_aurocs(fig: Figure) -> None:
    """Put the legend of such panels above them."""
    own = Line2D([], [], color=COLOURS[0], label="ours, a dot per seed", **OWN)
    nae = Line2D([], [], color=COLOURS[1], label="ours, normalized", **OWN)
    mean = Line2D([], [], color="0.4", marker="|", linestyle="", markersize=9, mew=1.6, label="mean over seeds")
    paper = Line2D([], [], label="paper", **PAPER)
    fig.legend(handles=[own, nae, mean, paper], loc="outside upper center", ncols=4, frameon=False, fontsize=7.5)
