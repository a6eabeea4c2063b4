"""Shares of the negatives that look like each digit.

Imports: plotting.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from oodlab.plotting.base import COLOURS, STYLE, figure
from oodlab.plotting.sets import HELD_OUT

_ABOVE = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": HELD_OUT}


def class_shares(rows: pd.DataFrame, held_out: Mapping[str, int]) -> Figure:
    """Draw the share of negatives that a classifier calls each class: a row per method, a column per inside set.

    Args:
        rows: Rows as measured returns them, with a quantity "called <class>" for every class; a bar is the mean over
            seeds, a dot a seed.
        held_out: Class held out, by inside set; its bars have another colour.
    """
    shares = rows[rows["quantity"].str.startswith("called ")]
    shares = shares.assign(called=shares["quantity"].str.removeprefix("called ").astype(int))
    methods, classes = list(dict.fromkeys(shares["method"])), sorted(set(shares["called"]))
    known = {"color": COLOURS[0], "alpha": 0.75}
    with rc_context(STYLE):
        fig = figure(max(4.6, 0.9 + 2.1 * len(held_out)), 0.75 + 1.15 * len(methods))
        grid = fig.subplots(len(methods), len(held_out), squeeze=False, sharex=True, sharey=True)
        for axes, method in zip(grid, methods, strict=True):
            for ax, (inside, digit) in zip(axes, held_out.items(), strict=True):
                own = shares[(shares["method"] == method) & (shares["in_set"] == inside)]
                means = own.groupby("called")["value"].mean()
                bars = ax.bar(means.index, means, width=0.75, **known)
                for bar, called in zip(bars, means.index, strict=True):
                    bar.set(color=HELD_OUT if called == digit else known["color"])
                if own["seed"].nunique() > 1:
                    ax.plot(own["called"], own["value"], ".", color="0.2", markersize=3)
                top = max(means.get(digit, 0.0), 1 / len(classes))  # above its bar, and above the line
                said = f"{means.get(digit, 0.0):.1%}"
                ax.annotate(said, (digit, top), (0, 2), textcoords="offset points", **_ABOVE)
                ax.axhline(1 / len(classes), color="0.4", linestyle="--", linewidth=0.9)
                ax.set_xticks(classes)
        for ax, inside in zip(grid[0], held_out, strict=True):
            ax.set_title(inside)
        for ax in grid[-1]:
            ax.set_xlabel("called")
        for ax, method in zip(grid[:, 0], methods, strict=True):
            ax.set_ylabel(f"{method}\nshare of negatives")
        handles = [
            Patch(color=HELD_OUT, label="the digit held out"),
            Patch(**known, label="digits of the training"),
            Line2D([], [], color="0.4", linestyle="--", linewidth=0.9, label="all classes alike"),
        ]
        fig.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=7.5)
        return fig
