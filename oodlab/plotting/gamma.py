"""Curves over gamma, the weight of classification in the training of an energy.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from oodlab.plotting.base import COLOURS, DENSITY_MAP, STYLE, figure

METRICS = {"aupr_in": "AUPR, in positive", "aupr_out": "AUPR, out positive", "auroc": "AUROC"}


def metrics_by_gamma(rows: Sequence[Mapping[str, Any]], natural: Sequence[str]) -> Figure:
    """Draw three metrics against gamma, one row of panels per method, one line per OOD set.

    gamma = 0 has an axis of its own left of the logarithmic one. Dots are seeds, lines their
    mean; solid lines are natural OOD sets, dashed ones the others.

    Args:
        rows: Each with method, gamma, out_set, seed, auroc, aupr_in and aupr_out.
        natural: Names of natural OOD sets.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    outs = list(dict.fromkeys(row["out_set"] for row in rows))
    with rc_context(STYLE):
        fig = figure(7.4, 1.75 * len(methods) + 0.75)
        grid = fig.add_gridspec(len(methods), 2 * len(METRICS), width_ratios=[0.16, 1] * len(METRICS), wspace=0.02)
        for i, method in enumerate(methods):
            for j, (metric, title) in enumerate(METRICS.items()):
                zero = fig.add_subplot(grid[i, 2 * j])
                axis = fig.add_subplot(grid[i, 2 * j + 1], sharey=zero)
                for colour, out in zip(COLOURS, outs, strict=False):
                    of_out = [row for row in rows if (row["method"], row["out_set"]) == (method, out)]
                    style = "-" if out in natural else "--"
                    _draw_line(zero, axis, of_out, metric, colour=colour, style=style, label=out)
                _finish(zero, axis, chance=0.5)
                if i == 0:
                    axis.set_title(title)
                if i == len(methods) - 1:
                    axis.set_xlabel("$\\gamma$ (weight of classification)")
                if j == 0:
                    zero.set_ylabel(f"{method}\nfraction")
        handles, labels = axis.get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper center", ncols=min(len(outs), 6), frameon=False, fontsize=7.5)
        return fig


def _draw_line(
    zero: Axes, axis: Axes, rows: Sequence[Mapping[str, Any]], metric: str, *, colour: str, style: str, label: str
) -> None:
    by_gamma: dict[float, list[float]] = {}
    for row in rows:
        by_gamma.setdefault(row["gamma"], []).append(row[metric])
    dots = {"marker": "o", "markersize": 2.6, "linestyle": "", "color": colour, "alpha": 0.55, "markeredgewidth": 0}
    for gamma, values in by_gamma.items():
        on, at = (axis, gamma) if gamma else (zero, 0)
        on.plot([at] * len(values), values, **dots)
    positive = sorted(gamma for gamma in by_gamma if gamma)
    means = [np.mean(by_gamma[gamma]) for gamma in positive]
    axis.plot(positive, means, style, color=colour, linewidth=1.2, label=label)
    if 0 in by_gamma:
        zero.plot([0], [np.mean(by_gamma[0])], marker="_", markersize=9, color=colour, markeredgewidth=1.4)


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


def density_along_rays(
    curves: Mapping[str, Mapping[float, Sequence[Sequence[float]]]], norms: Sequence[float]
) -> Figure:
    """Draw how the log-density changes along rays away from the origin, one panel per method.

    Args:
        curves: By method and gamma, one curve per seed: log-density at a * x minus that at x,
            median over x, nats.
        norms: Mean norm of a * x, by a.
    """
    with rc_context(STYLE):
        fig = figure(2.3 * max(len(curves), 2) + 0.6, 2.75)
        axes = fig.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        gammas = sorted({gamma for by_gamma in curves.values() for gamma in by_gamma})
        positive = [gamma for gamma in gammas if gamma]
        shades = colormaps[DENSITY_MAP](np.linspace(0, 0.9, len(positive)))
        colour_of = {0.0: COLOURS[1], **dict(zip(positive, shades, strict=True))}
        for ax, (method, by_gamma) in zip(axes, curves.items(), strict=True):
            for gamma, seeds in by_gamma.items():
                look = {"color": colour_of[gamma], "linewidth": 1.1, "linestyle": "-" if gamma else "--"}
                for i, curve in enumerate(seeds):
                    ax.plot(norms, curve, label=f"{gamma:g}" if i == 0 else None, **look)
            ax.set_xscale("log")
            ax.set_yscale("symlog", linthresh=1)
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            ax.set(title=method, xlabel="mean Euclidean norm of $a\\,x$")
        axes[0].set_ylabel("log-density at $a\\,x$\nminus that at $x$ (nats)")
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        order = sorted(handles, key=float)
        fig.legend(
            [handles[label] for label in order],
            order,
            loc="outside upper center",
            ncols=len(order),
            frameon=False,
            title="$\\gamma$",
        )
        return fig
