"""One setting varied at a time: AUROCs before normalising and after it, and the errors behind them.

Imports: plotting.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodlab.plotting.aurocs import MEAN, OWN, PAPER
from oodlab.plotting.base import COLOURS, STYLE, figure
from oodlab.plotting.sets import HELD_OUT, KNOWN

STAGES = {"before": COLOURS[0], "after": COLOURS[1]}


def stage_panels(rows: pd.DataFrame) -> Figure:
    """Draw AUROCs before normalising and after it, a panel per table and a line per row of it.

    A dot is a seed, a bar their mean, a hollow diamond in the stage's colour the paper's number.

    Args:
        rows: Rows as evaluate returns them, with a column `stage`, "before" or "after"; a method's name
            "<panel>: <line>" gives its place.
    """
    placed = _placed(rows)
    panels = {name: list(dict.fromkeys(own["line"])) for name, own in placed.groupby("panel", sort=False)}
    heights = [0.3 + 0.2 * len(lines) for lines in panels.values()]
    with rc_context(STYLE):
        fig = figure(6.2, 0.8 + sum(heights))
        axes = fig.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for ax, (panel, lines) in zip(axes, panels.items(), strict=True):
            for (line, stage), own in placed[placed["panel"] == panel].groupby(["line", "stage"]):
                y, colour = [lines.index(line)], STAGES[stage]
                ax.plot(own["auroc"], y * len(own), color=colour, alpha=0.6, **OWN)
                ax.plot([own["auroc"].mean()], y, color=colour, **MEAN)
                printed = own["printed"].dropna().unique()
                if len(printed):
                    ax.plot(printed, y * len(printed), **{**PAPER, "color": colour})
            ax.set(yticks=range(len(lines)), ylim=(len(lines) - 0.4, -0.6), xlim=(-0.02, 1.02))
            ax.set_yticklabels(lines)
            ax.set_title(panel, loc="left")
            ax.axvline(0.5, color="0.6", linewidth=0.8, zorder=0)
            ax.grid(axis="x", color="0.93")
            ax.set_axisbelow(True)
        axes[-1].set_xlabel("AUROC")
        said = {"before": "AE, before normalising", "after": "NAE-OMI, after"}
        handles = [Line2D([], [], color=STAGES[stage], label=said[stage], **OWN) for stage in said]
        if placed["printed"].notna().any():
            handles.append(Line2D([], [], label="paper", **PAPER))
        fig.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=7.5)
        return fig


def errors_by_line(rows: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """Draw the reconstruction errors of known and held-out images over the lines of one table, before and after.

    Medians are lines, the middle 80 % bands; of several seeds their means.

    Args:
        rows: Rows as stage_panels takes them, of one table; scores are minus errors.
        labels: What a line is called below the panels, by its method.
    """
    names = {"in": "known digits", "out": "held-out digit"}
    places = np.arange(len(labels))
    with rc_context(STYLE):
        fig = figure(6.6, 2.6)
        axes = fig.subplots(1, len(STAGES), sharey=True)
        for ax, stage in zip(axes, STAGES, strict=True):
            own = rows[rows["stage"] == stage].groupby("method").mean(numeric_only=True).loc[list(labels)]
            for side, colour in zip(names, (KNOWN["color"], HELD_OUT), strict=True):
                ax.plot(places, -own[f"{side}_q50"], color=colour, marker=".", linewidth=1.2, label=names[side])
                ax.fill_between(places, -own[f"{side}_q90"], -own[f"{side}_q10"], color=colour, alpha=0.2, linewidth=0)
            ax.set(title=f"{stage} normalising", xlabel="numbers in a code $D_z$", xticks=places)
            ax.set_xticklabels(labels.values())
            ax.set_ylim(bottom=0)
        axes[0].set_ylabel("reconstruction error per pixel")
        axes[-1].legend(frameon=False, fontsize=7)
        return fig


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what a method's name says of its place."""
    place = rows["method"].str.split(": ", n=1, expand=True)
    return rows.assign(panel=place[0], line=place[1])
