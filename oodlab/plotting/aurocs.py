"""AUROC of several methods beside the paper's.

Imports: checks, its own folder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodlab import checks
from oodlab.plotting.base import COLOURS, STYLE, figure

ACROSS = 5  # panels in a row at most, where rows mean nothing
OWN = {"marker": "o", "linestyle": "", "markersize": 3.6, "mew": 0, "clip_on": False}  # whole at 0 and at 1
MEAN = {"marker": "|", "linestyle": "", "markersize": 9, "mew": 1.6, "clip_on": False}
PAPER = {"marker": "D", "linestyle": "", "color": "0.25", "mfc": "none", "markersize": 4, "clip_on": False}


def auroc_panels(rows: pd.DataFrame, *, panel: str = "in_set", line: str = "score") -> Figure:
    """Draw AUROCs after the last update: a dot per seed, a bar at their mean, a hollow diamond where the paper is.

    Args:
        rows: Rows as evaluate returns them; those whose AUROC is NaN have the paper's number only.
        panel: "in_set" draws a panel per inside set, "out_set" a row of panels per inside set, one per outside set.
        line: Column that a panel has a line for each value of, in the rows' order.
    """
    checks.one_of("auroc_panels", "panel", panel, ("in_set", "out_set"))
    last = rows[rows["step"] == rows.groupby([*dict.fromkeys(("method", line, "in_set"))])["step"].transform("max")]
    bands: list[tuple[str, list[str], list[tuple[str, pd.DataFrame]]]] = []  # label, lines, panels with their titles
    if panel == "in_set":
        panels = list(last.groupby("in_set", sort=False))
        lines = list(dict.fromkeys(last[line]))
        bands = [("", lines, panels[first : first + ACROSS]) for first in range(0, len(panels), ACROSS)]
    else:
        for inside, own in last.groupby("in_set", sort=False):
            bands.append(
                (f"trained on {inside}", list(dict.fromkeys(own[line])), list(own.groupby("out_set", sort=False)))
            )
    columns = max(len(panels) for _, _, panels in bands)
    heights = [max(1.8, 0.75 + 0.19 * len(lines)) for _, lines, _ in bands]  # the label of a line needs its height
    with rc_context(STYLE):
        fig = figure(max(4.5, 1.2 + 1.55 * columns), 0.5 + sum(heights))
        grid = fig.subplots(len(bands), columns, squeeze=False, sharey="row", height_ratios=heights)
        for axes, (label, lines, panels) in zip(grid, bands, strict=True):
            for ax, (title, own) in zip(axes, panels, strict=False):
                _draw(ax, own, lines, line)
                ax.set(title=textwrap.fill(title, 22), xlim=(-0.02, 1.02), xlabel="AUROC", yticks=range(len(lines)))
            for ax in axes[len(panels) :]:
                ax.set_axis_off()
            axes[0].set_yticklabels(lines)
            axes[0].set(ylabel=label, ylim=(len(lines) - 0.4, -0.6))
        _explain(fig, last)
        return fig


def _draw(ax: Axes, rows: pd.DataFrame, lines: Sequence[str], line: str) -> None:
    for y, name in enumerate(lines):
        own = rows[rows[line] == name]
        found, printed = own["auroc"].dropna(), own["printed"].dropna().unique()
        colour = _colour(name)
        if len(found):  # an empty line that is not clipped reaches to the figure's corner
            ax.plot(found, [y] * len(found), color=colour, alpha=0.6, **OWN)
            ax.plot([found.mean()], [y], color=colour, **MEAN)
        if len(printed):
            ax.plot(printed, [y] * len(printed), **PAPER)
    ax.axvline(0.5, color="0.6", linewidth=0.8, zorder=0)
    ax.grid(axis="x", color="0.93")


def _colour(name: str) -> str:
    return COLOURS[1] if name.startswith("NAE") else COLOURS[0]


def _explain(fig: Figure, rows: pd.DataFrame) -> None:
    """Put the legend of what is drawn above the panels."""
    shown = rows[rows["auroc"].notna()]
    own = {_colour(name): name.startswith("NAE") for name in (*shown["score"], *shown["method"])}
    said = {False: "ours, a dot per seed", True: "ours, normalised"}
    handles = [Line2D([], [], color=colour, label=said[own[colour]], **OWN) for colour in COLOURS[:2] if colour in own]
    handles.append(Line2D([], [], color="0.4", label="mean over seeds", **MEAN))
    if rows["printed"].notna().any():
        handles.append(Line2D([], [], label="paper", **PAPER))
    columns = max(2, int(fig.get_figwidth() / 1.4))  # an entry is as wide
    fig.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=7.5)
