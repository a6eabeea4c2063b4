"""Energies along chains, and chains in the middle of their way.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.plotting.base import COLOURS, STYLE, figure
from oodlab.plotting.images import draw_block
from oodlab.plotting.sets import HELD_OUT, KNOWN

BAND = (0.1, 0.9)  # quantiles: 80 % of the chains lie between
REFERENCES = (KNOWN["color"], HELD_OUT)


def energies_along_chains(
    panels: Mapping[str, Mapping[str, Mapping[str, ArrayLike]]], references: Mapping[str, Mapping[str, ArrayLike]]
) -> Figure:
    """Draw mean and 80 % band of the energy along chains, a row per model and a column per kind of chain.

    Args:
        panels: Energies by model, kind of chain ("latent", "visible") and run, (steps + 1, chains), nats.
        references: Energies of inputs by model and set, known and then held out, (N,): a line at the mean, a band
            from 10 to 90 %.
    """
    runs = list(dict.fromkeys(run for kinds in panels.values() for by_run in kinds.values() for run in by_run))
    kinds = list(next(iter(panels.values())))
    with rc_context(STYLE):
        fig = figure(7.2, 0.3 + 2.0 * len(panels))
        grid = fig.subplots(len(panels), len(kinds), sharey="row", squeeze=False)
        for axes, (model, by_kind) in zip(grid, panels.items(), strict=True):
            for ax, kind in zip(axes, kinds, strict=True):
                for (name, energies), colour in zip(references[model].items(), REFERENCES, strict=False):
                    draw_reference(ax, name, energies, colour)
                longest_first = sorted(
                    by_kind[kind].items(), key=lambda item: -len(item[1])
                )  # a shorter one lies on top
                for run, energies in longest_first:
                    draw_energies(ax, energies, COLOURS[(0, 2, 4, 5)[runs.index(run)]], label=run)
                ax.set(xlabel=f"step of the {kind} chain", yscale="log")
                ax.xaxis.get_major_locator().set_params(integer=True)
            axes[0].set_ylabel("energy (nats)")
            axes[0].set_title(model, loc="left")
            axes[-1].legend(fontsize=6.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return fig


def draw_energies(ax: Axes, energies: ArrayLike, colour: str, *, label: str = "") -> None:
    """Draw mean and 80 % band of the chains' energies, (steps + 1, chains)."""
    values = np.asarray(energies)
    steps = np.arange(len(values))
    ax.plot(steps, values.mean(axis=1), color=colour, label=label, marker="." if len(steps) < 2 else "")
    ax.fill_between(steps, *np.quantile(values, BAND, axis=1), color=colour, alpha=0.2, linewidth=0)


def draw_reference(ax: Axes, name: str, energies: ArrayLike, colour: str) -> None:
    """Draw a line at the mean energy of a set, (N,), with a band from 10 to 90 %."""
    values = np.asarray(energies)
    ax.axhline(values.mean(), color=colour, linewidth=0.9, linestyle="--", label=name)
    ax.axhspan(*np.quantile(values, BAND), color=colour, alpha=0.07, linewidth=0)


@dataclass(frozen=True)
class ChainSnapshot:
    """Chains of images in the middle of their way; never changed afterwards.

    Attributes:
        images: Rows of images by name, (B, H, W) in [0, 1].
        energies: Energies of every chain at every step so far, (steps + 1, B), nats; none before there are chains.
        along: What the steps are of.
        turns: Steps at which a chain of another kind went on, with its name.
        reference: Energies of data, (N,); none draws no line.
    """

    images: Mapping[str, ArrayLike]
    energies: ArrayLike
    along: str
    turns: Sequence[tuple[int, str]] = ()
    reference: ArrayLike = ()


def live_chains(snapshot: ChainSnapshot, *, shown: int, each: bool) -> Figure:
    """Draw images of chains, and below them the energies so far.

    Args:
        snapshot: The chains.
        shown: Images per row at most.
        each: Draw a line for every chain instead of mean and band.
    """
    energies = np.asarray(snapshot.energies)
    lines = len(snapshot.images)
    with rc_context(STYLE):
        fig = figure(7.2, 2.0 + 0.75 * lines)
        heights = [0.75 * lines, 2.0] if lines else [2.0]
        *above, below = fig.add_gridspec(len(heights), 1, height_ratios=heights)
        if lines:
            draw_block(fig.add_subplot(above[0]), snapshot.images, shown, named=True)
        ax = fig.add_subplot(below)
        if len(snapshot.reference):
            draw_reference(ax, "data", snapshot.reference, REFERENCES[0])
        if each:
            ax.plot(energies, color=COLOURS[0], linewidth=0.7, alpha=0.7, marker="." if len(energies) < 2 else "")
        elif len(energies):
            draw_energies(ax, energies, COLOURS[0], label="chains")
        for step, name in snapshot.turns:
            ax.axvline(step, color="0.6", linewidth=0.8, linestyle=":")
            ax.text(step, 1.0, f" {name}", transform=ax.get_xaxis_transform(), fontsize=6.5, va="bottom")
        ax.set(
            xlabel=snapshot.along, ylabel="energy (nats)", yscale="log", xlim=(-0.2, max(10, len(energies) - 1) + 0.2)
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=6.5, frameon=False)
        return fig
