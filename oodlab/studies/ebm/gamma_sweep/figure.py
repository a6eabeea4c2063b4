"""Curves over gamma, the weight of classification in the training of an energy.

Imports: plotting.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodlab.plotting.aurocs import PAPER
from oodlab.plotting.base import COLOURS, DENSITY_MAP, STYLE, figure

METRICS = {"aupr_in": "AUPR, in positive", "aupr_out": "AUPR, out positive", "auroc": "AUROC"}


def metrics_by_gamma(rows: pd.DataFrame) -> Figure:
    """Draw three metrics against gamma, one row of panels per loss, one line per OOD set.

    gamma = 0 has an axis of its own left of the logarithmic one. Dots are seeds, lines their
    mean; solid lines are natural OOD sets, dashed ones the others; hollow diamonds the paper's AUPR.

    Args:
        rows: Rows with loss, gamma, out_set, natural, seed, auroc, aupr_in, aupr_out and printed (AUPR; NaN where there is none).
    """
    losses, outs = rows["loss"].unique(), rows["out_set"].unique()
    colours = dict(zip(outs, itertools.cycle(COLOURS), strict=False))
    with rc_context(STYLE):
        fig = figure(7.4, 1.75 * len(losses) + 0.75)
        grid = fig.add_gridspec(len(losses), 2 * len(METRICS), width_ratios=[0.16, 1] * len(METRICS), wspace=0.02)
        for i, loss in enumerate(losses):
            for j, (metric, title) in enumerate(METRICS.items()):
                zero = fig.add_subplot(grid[i, 2 * j])
                axis = fig.add_subplot(grid[i, 2 * j + 1], sharey=zero)
                for out, own in rows[rows["loss"] == loss].groupby("out_set", sort=False):
                    style = "-" if own["natural"].all() else "--"
                    _draw_line(zero, axis, own, metric, colour=colours[out], style=style, label=out)
                _finish(zero, axis, chance=0.5)
                if i == 0:
                    axis.set_title(title)
                if i == len(losses) - 1:
                    axis.set_xlabel("$\\gamma$ (weight of classification)")
                if j == 0:
                    zero.set_ylabel(f"{loss}\nfraction")
        handles, labels = axis.get_legend_handles_labels()
        if rows["printed"].notna().any():
            handles, labels = [*handles, Line2D([], [], **PAPER)], [*labels, "paper"]
        fig.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5), frameon=False, fontsize=7.5)
        return fig


def _draw_line(zero: Axes, axis: Axes, rows: pd.DataFrame, metric: str, *, colour: str, style: str, label: str) -> None:
    """Draw one OOD set: gamma = 0 on the first axis, the others on the second."""
    dots = {"marker": "o", "markersize": 2.6, "linestyle": "", "color": colour, "alpha": 0.55, "markeredgewidth": 0}
    for on, own in ((zero, rows[rows["gamma"] == 0]), (axis, rows[rows["gamma"] > 0])):
        if own.empty:  # an unclipped line without points has no place
            continue
        on.plot(own["gamma"], own[metric], **dots)
        means = own.groupby("gamma")[metric].mean()
        look = {"marker": "_", "markersize": 9, "markeredgewidth": 1.4} if on is zero else {"linestyle": style}
        on.plot(means.index, means, color=colour, linewidth=1.2, label=label, **look)
        known = own[own["printed"].notna()].drop_duplicates("gamma")
        if len(known) and metric != "auroc":
            on.plot(known["gamma"], known["printed"], **{**PAPER, "color": colour, "zorder": 3})


def _finish(zero: Axes, axis: Axes, *, chance: float) -> None:
    axis.set_xscale("log")
    axis.tick_params(labelleft=False, left=False)
    axis.spines["left"].set_visible(False)
    axis.minorticks_off()
    zero.set(xlim=(-1, 1), xticks=[0], ylim=(-0.03, 1.03), yticks=[0, 0.5, 1])
    for ax in (zero, axis):
        ax.axhline(chance, color="0.8", linewidth=0.8, zorder=0)
        ax.grid(axis="y", color="0.93")
        ax.set_axisbelow(True)


def density_along_rays(curves: pd.DataFrame) -> Figure:
    """Draw how the log-density changes along rays away from the origin, one panel per loss.

    Args:
        curves: Rows with loss, gamma, seed, norm (mean norm of a x) and value (log-density at a x minus that at x, median
            over x, nats).
    """
    losses, gammas = curves["loss"].unique(), sorted(curves["gamma"].unique())
    positive = [gamma for gamma in gammas if gamma]
    colours = {
        0.0: COLOURS[1],
        **dict(zip(positive, colormaps[DENSITY_MAP](np.linspace(0, 0.9, len(positive))), strict=True)),
    }
    with rc_context(STYLE):
        fig = figure(2.3 * max(len(losses), 2) + 0.6, 2.75)
        axes = fig.subplots(1, len(losses), sharey=True, squeeze=False)[0]
        for ax, loss in zip(axes, losses, strict=True):
            for (gamma, _), own in curves[curves["loss"] == loss].groupby(["gamma", "seed"]):
                ax.plot(own["norm"], own["value"], "-" if gamma else "--", color=colours[gamma], linewidth=1.1)
            ax.set_xscale("log")
            ax.set_yscale("symlog", linthresh=1)
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            ax.set(title=loss, xlabel="mean Euclidean norm of $a\\,x$")
        axes[0].set_ylabel("log-density at $a\\,x$\nminus that at $x$ (nats)")
        handles = [
            Line2D([], [], color=colours[gamma], linestyle="-" if gamma else "--", label=f"{gamma:g}")
            for gamma in gammas
        ]
        fig.legend(handles=handles, loc="outside upper center", ncols=len(gammas), frameon=False, title="$\\gamma$")
        return fig
