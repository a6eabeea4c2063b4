"""Densities that samplers lead to, beside the truth, and the negatives that they were trained with.

Imports: grids, plotting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.grids import GridDensity
from oodlab.plotting.base import COLOURS, STYLE, figure
from oodlab.plotting.plane import density_scale, draw_density


def learned_densities(
    truth: GridDensity,
    learned: Sequence[Sequence[tuple[str, GridDensity]]],
    nll: Mapping[str, Sequence[float]],
    true_nll: float,
) -> Figure:
    """Draw the true density beside rows of learned ones, and all negative log-likelihoods.

    Args:
        truth: True density.
        learned: Two rows of (title, density).
        nll: Negative log-likelihoods per run, one per seed, nats.
        true_nll: Entropy of the truth, nats.
    """
    columns = 1 + len(learned[0])
    with rc_context(STYLE):
        fig = figure(2.0 * columns + 0.6, 4.7)
        axes = fig.subplots(2, columns)
        draw_density(axes[0, 0], truth, title=f"truth\nNLL {true_nll:.2f} nats")
        for row, panels in zip(axes, learned, strict=True):
            for ax, (title, grid) in zip(row[1:], panels, strict=True):
                draw_density(ax, grid, title=f"{title}\nNLL {np.mean(nll[title]):.2f} nats" if title in nll else title)
        for ax in [*axes[0], *axes[1, 1:]]:
            ax.set_xlabel("$x_1$" if ax.get_subplotspec().is_last_row() else "")
        axes[0, 0].set_ylabel("$x_2$")
        draw_runs(axes[1, 0], nll, reference=true_nll, xlabel="NLL on the box (nats), a dot per seed")
        density_scale(fig, [*axes[0], *axes[1, 1:]])
        return fig


def draw_runs(ax: Axes, values: Mapping[str, Sequence[float]], *, reference: float, xlabel: str) -> None:
    """Draw one row of dots per run, one dot per seed, with a reference line."""
    names = list(values)[::-1]
    for i, name in enumerate(names):
        ax.plot(values[name], [i] * len(values[name]), "o", markersize=3.5, color=COLOURS[0], alpha=0.8)
    ax.axvline(reference, color=COLOURS[1], linewidth=1)
    drawn = [reference, *(number for numbers in values.values() for number in numbers)]
    margin = 0.06 * (max(drawn) - min(drawn))
    ax.set_xlim(min(drawn) - margin, max(drawn) + margin)
    ax.text(reference, len(names) - 0.35, "truth", color=COLOURS[1], ha="center", va="bottom", fontsize=7)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)


def negatives_by_sampler(
    truth: GridDensity,
    columns: Sequence[tuple[str, GridDensity, ArrayLike]],
    data: ArrayLike,
) -> Figure:
    """Draw learned densities above their negatives, one column per sampler.

    Args:
        truth: True density, behind the negatives.
        columns: (title, learned density, negatives) per sampler.
        data: Training points, drawn as crosses.
    """
    with rc_context(STYLE):
        fig = figure(2.0 * len(columns) + 0.8, 4.6)
        axes = fig.subplots(2, len(columns), sharex=True, sharey=True, squeeze=False)
        for (above, below), (title, grid, negatives) in zip(axes.T, columns, strict=True):
            draw_density(above, grid, title=title)
            draw_density(below, truth, points=negatives, crosses=data)
            below.set_xlabel("$x_1$")
        axes[0, 0].set_ylabel("learned density\n$x_2$")
        axes[1, 0].set_ylabel("negatives (dots), data (crosses)\nover the true density\n$x_2$")
        density_scale(fig, list(axes.flat))
        return fig


def first_negatives(truth: GridDensity, model: GridDensity, columns: Sequence[tuple[str, ArrayLike]]) -> Figure:
    """Draw where samplers take a network to before any training.

    Args:
        truth: True density.
        model: Density of the untrained network.
        columns: (title, negatives) per sampler, drawn over the model's density.
    """
    with rc_context(STYLE):
        fig = figure(2.0 * (2 + len(columns)) + 0.8, 2.7)
        axes = fig.subplots(1, 2 + len(columns), sharex=True, sharey=True)
        draw_density(axes[0], truth, title="data")
        draw_density(axes[1], model, title="untrained network")
        for ax, (title, negatives) in zip(axes[2:], columns, strict=True):
            draw_density(ax, model, title=title, points=negatives)
        for ax in axes:
            ax.set_xlabel("$x_1$")
        axes[0].set_ylabel("$x_2$")
        density_scale(fig, list(axes))
        return fig
