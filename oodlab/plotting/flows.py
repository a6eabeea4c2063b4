"""What flows say of test images while they train.

Every function takes a trace: per run and epoch, values by "<score> <set>",
with the approximate mass in nats per pixel unit and bits per dimension.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from oodlab.plotting.base import COLOURS, STYLE, figure

Trace = Mapping[str, Mapping[int, Mapping[str, ArrayLike]]]
MASS, BITS = "approximate mass\n(nats per pixel unit)", "bits per dimension"
AUROC, RANKS = "AUROC\n(in-distribution positive)", "Spearman\n(mass, −log p)"


def epoch_curves(
    trace: Trace,
    sets: Sequence[str],
    aurocs: Mapping[str, Mapping[str, Sequence[float]]],
    ranks: Mapping[str, Sequence[float]],
    *,
    control: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """Draw bands of approximate mass and bits per dimension over epochs, and AUROC and rank correlation below them.

    Args:
        trace: "mass <set>" and "bits <set>" by run and epoch.
        sets: The in-distribution set and the OOD sets, in that order.
        aurocs: By run, then by "<score>, <set>", one value per epoch of the trace.
        ranks: Spearman(mass, -log p) over all sets by run, one value per epoch.
        control: "mass <set>" of a flow that learns nothing; its medians are dotted lines.
    """
    with rc_context(STYLE):
        fig = figure(2.35 * len(trace) + 1.3, 6.6)
        axes = fig.subplots(4, len(trace), sharex="col", sharey="row", squeeze=False)
        for column, (run, epochs) in zip(axes.T, trace.items(), strict=True):
            for ax, score in zip(column, ("mass", "bits"), strict=False):
                for colour, name in zip(COLOURS, sets, strict=False):
                    _draw_band(ax, epochs, f"{score} {name}", colour, name)
                    if score == "mass" and control is not None:
                        ax.axhline(np.median(control[f"mass {name}"]), color=colour, linestyle=":", linewidth=0.9)
            for name, values in aurocs[run].items():
                score, _, out = name.partition(", ")
                colour, dashed = COLOURS[list(sets).index(out)], score != "mass"
                column[2].plot(
                    list(epochs), values, color=colour, linestyle="--" if dashed else "-", label=name, marker="."
                )
            column[2].axhline(0.5, color="0.6", linewidth=0.8)
            column[3].plot(list(epochs), ranks[run], color=COLOURS[-1], marker=".")
            column[3].axhline(0.0, color="0.6", linewidth=0.8)
            column[0].set_title(run)
            column[0].set_yscale("log")
            column[2].set(ylim=(-0.03, 1.03))
            column[3].set(xlabel="epoch", ylim=(-1.06, 1.06))
            column[3].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for ax, label in zip(axes[:, 0], (MASS, BITS, AUROC, RANKS), strict=True):
            ax.set_ylabel(label)
        for ax in axes[1:3, -1]:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7, handlelength=2.8)
        return fig


def epoch_histograms(trace: Trace, sets: Sequence[str], shown: Sequence[int]) -> Figure:
    """Draw histograms of both scores at some epochs: a column per run, two rows per score.

    Args:
        trace: As in epoch_curves.
        sets: The in-distribution set and the OOD sets.
        shown: Epochs of the trace.
    """
    import seaborn

    with rc_context(STYLE):
        fig = figure(2.35 * len(trace) + 1.3, 1.75 * 2 * len(shown) + 0.3)
        rows = [(score, epoch) for score in ("mass", "bits") for epoch in shown]
        axes = fig.subplots(len(rows), len(trace), squeeze=False)
        for column, (run, epochs) in zip(axes.T, trace.items(), strict=True):
            for ax, (score, epoch) in zip(column, rows, strict=True):
                values = {name: np.asarray(epochs[epoch][f"{score} {name}"]) for name in sets}
                seaborn.histplot(
                    values,
                    ax=ax,
                    bins=30,
                    log_scale=score == "mass",
                    stat="density",
                    common_norm=False,
                    element="step",
                    alpha=0.35,
                    linewidth=0.8,
                    palette=list(COLOURS[: len(sets)]),
                    legend=ax is axes[0, -1],
                )
                ax.set(xlabel=MASS.replace("\n", " ") if score == "mass" else BITS, ylabel="", yticks=[])
            for ax in column[: len(shown)]:
                ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.xaxis.set_major_formatter(EngFormatter(sep=""))
                ax.xaxis.set_minor_formatter(NullFormatter())
            column[0].set_title(run)
        for ax, (_, epoch) in zip(axes[:, 0], rows, strict=True):
            ax.set_ylabel(f"epoch {epoch}\ndensity")
        legend = axes[0, -1].get_legend()
        if legend is not None:
            legend.set_loc("upper left")
            legend.set_bbox_to_anchor((1.0, 1.0))
            legend.set_frame_on(False)
        return fig


def _draw_band(ax: Axes, epochs: Mapping[int, Mapping[str, ArrayLike]], key: str, colour: str, label: str) -> None:
    """Draw the median over epochs and the band that holds the middle 80 % of the images."""
    low, middle, high = np.quantile([np.asarray(values[key]) for values in epochs.values()], (0.1, 0.5, 0.9), axis=1)
    ax.fill_between(list(epochs), low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(list(epochs), middle, color=colour, label=label)
