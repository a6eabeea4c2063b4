"""One setting varied at a time: how long the autoencoder was trained before, how its chains start, how long its codes are.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodlab.plotting.base import COLOURS, STYLE, figure
from oodlab.plotting.sets import HELD_OUT, KNOWN

STAGES = {"before": COLOURS[0], "after": COLOURS[1]}
_BAND = (0.1, 0.9)  # the middle 80 %


def pre_training_aurocs(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw AUROC before and after normalising over the length of pre-training; the paper's are diamonds.

    Args:
        rows: Each with epochs (the paper's), updates (here), before and after (one AUROC per seed), paper_before and
            paper_after (None where there is nothing to compare with).
    """
    with rc_context(STYLE):
        fig = figure(6.2, 2.9)
        ax = fig.subplots()
        _draw_stages(ax, [row["epochs"] for row in rows], rows)
        labels = [f"{row['updates']:,}\n({row['epochs']})" for row in rows]
        ax.set(xlabel="updates before normalising (the paper's epochs)", xticks=[row["epochs"] for row in rows])
        ax.set_xticklabels(labels)
        _finish(fig, ax)
        return fig


def sampling_aurocs(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw AUROC after normalising, a line per way to start the chains; small dots are the AE it began with.

    Args:
        rows: As in pre_training_aurocs, with a label in place of epochs and updates; paper_before is not drawn.
    """
    with rc_context(STYLE):
        fig = figure(5.6, 0.95 + 0.3 * len(rows))
        ax = fig.subplots()
        for y, row in enumerate(rows):
            ax.plot(
                row["before"], [y] * len(row["before"]), "o", color=STAGES["before"], markersize=3, alpha=0.7, mew=0
            )
            ax.plot(row["after"], [y] * len(row["after"]), "o", color=STAGES["after"], markersize=5, alpha=0.8, mew=0)
            if row["paper_after"] is not None:
                ax.plot([row["paper_after"]], [y], "D", color=STAGES["after"], mfc="none", markersize=5)
        ax.set(xlim=(-0.02, 1.02), xlabel="AUROC", yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels([row["label"] for row in rows])
        _finish(fig, ax, along="x")
        return fig


def code_sizes(rows: Sequence[Mapping[str, Any]], errors: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Figure:
    """Draw AUROC over the numbers in a code, and the reconstruction errors of both kinds of images, before and after.

    Args:
        rows: As in pre_training_aurocs, with latent in place of epochs and updates.
        errors: By stage (before, after), numbers in a code and kind of image, known and held out, per image (N,): their median is a line,
            their middle 80 % a band.
    """
    with rc_context(STYLE):
        fig = figure(7.4, 2.75)
        auroc, *of_stage = fig.subplots(1, 1 + len(errors))
        _draw_stages(auroc, [row["latent"] for row in rows], rows)
        for ax, (stage, by_size) in zip(of_stage, errors.items(), strict=True):
            sizes = sorted(by_size)
            for kind, colour in zip(by_size[sizes[0]], (KNOWN["color"], HELD_OUT), strict=True):
                low, middle, high = np.quantile([by_size[n][kind] for n in sizes], [_BAND[0], 0.5, _BAND[1]], axis=1)
                ax.plot(sizes, middle, color=colour, marker=".", linewidth=1.2, label=kind)
                ax.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.set(title=f"{stage} normalising", ylabel="reconstruction error per pixel")
            ax.set_ylim(bottom=0)
            ax.legend(frameon=False, fontsize=7)
        for ax in (auroc, *of_stage):
            ax.set_xscale("log", base=2)
            ax.set(xlabel="numbers in a code $D_z$", xticks=[row["latent"] for row in rows])
            ax.set_xticklabels([str(row["latent"]) for row in rows])
            ax.minorticks_off()
        top = max(ax.get_ylim()[1] for ax in of_stage)
        for ax in of_stage:
            ax.set_ylim(0, top)
        _finish(fig, auroc)
        return fig


def _draw_stages(ax: Axes, places: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> None:
    for stage, colour in STAGES.items():
        for place, row in zip(places, rows, strict=True):
            ax.plot([place] * len(row[stage]), row[stage], "o", color=colour, markersize=4, alpha=0.7, mew=0)
        ax.plot(places, [np.mean(row[stage]) for row in rows], color=colour, linewidth=1.2)
        printed = [(place, row[f"paper_{stage}"]) for place, row in zip(places, rows, strict=True)]
        printed = [(place, value) for place, value in printed if value is not None]
        if printed:
            ax.plot(*zip(*printed, strict=True), "D:", color=colour, mfc="none", markersize=4.5, linewidth=0.8)
    ax.set(ylim=(-0.02, 1.02), ylabel="AUROC")


def _finish(fig: Figure, ax: Axes, *, along: str = "y") -> None:
    """Mark chance on the axis that AUROC lies along, and say what the marks are."""
    (ax.axhline if along == "y" else ax.axvline)(0.5, color="0.8", linewidth=0.8, zorder=0)
    ax.grid(axis=along, color="0.93")
    ax.set_axisbelow(True)
    names = {"before": "AE, before normalising", "after": "NAE-OMI, after"}
    marks = {"markersize": 4.5, "linestyle": ""}
    handles = [Line2D([], [], marker="o", mew=0, color=STAGES[stage], label=names[stage], **marks) for stage in names]
    if any(line.get_marker() == "D" for line in ax.lines):
        handles.append(Line2D([], [], marker="D", mfc="none", color="0.25", label="paper", **marks))
    fig.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=7.5)
