"""Gaussians that linear autoencoders learn, and how likely they make the data.

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

COURSE_COLOURS = ("0.15", COLOURS[4], COLOURS[5], "0.6")  # of ways to train; the others are of temperatures
TOP = 0.25  # density of the last colour; the data's Gaussian peaks at 0.22


def draw_ellipse(ax: Axes, covariance: ArrayLike, *, label: str = "") -> None:
    """Draw where N(0, covariance) is two standard deviations from its mean."""
    angle = np.linspace(0, 2 * np.pi, 200)
    x = 2 * np.linalg.cholesky(np.asarray(covariance)) @ np.stack([np.cos(angle), np.sin(angle)])
    ax.plot(*x, "--", color="white", linewidth=0.9, label=label)


def gaussian_panels(panels: Sequence[tuple[str, GridDensity]], covariance: ArrayLike, *, columns: int = 3) -> Figure:
    """Draw densities of the plane, each with the two-deviations ellipse of the data over it.

    Args:
        panels: (title, density).
        covariance: Covariance of the data, (2, 2).
        columns: Panels per row.
    """
    rows = -(-len(panels) // columns)
    with rc_context(STYLE):
        fig = figure(2.1 * columns + 0.7, 2.55 * rows)
        axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, (title, grid) in zip(axes.flat, panels, strict=True):
            draw_density(ax, grid, title=title, top=TOP)
            draw_ellipse(ax, covariance)
        for ax in axes[-1]:
            ax.set_xlabel("$x_1$")
        for ax in axes[:, 0]:
            ax.set_ylabel("$x_2$")
        density_scale(fig, list(axes.flat))
        return fig


def linear_likelihoods(
    curves: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]],
    entropy: float,
    picked: Mapping[str, tuple[Sequence[float], Sequence[bool]]],
    courses: Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]],
) -> Figure:
    """Draw what the size of the latent space costs, which directions are kept, and how sampled negatives get there.

    Args:
        curves: By temperature setting: the closed form's NLL for D_z = 1, 2, ..., and for each D_z
            those of trainings, nats.
        entropy: Entropy of the data's Gaussian, nats.
        picked: By fixed temperature setting: ratios of the data's variances to T D / 2, and
            whether a training with D_z = 1 kept them.
        courses: By method, per seed: updates and the NLL above the least, nats; drawn from 1e-6 upwards.
    """
    with rc_context(STYLE):
        fig = figure(9.6, 2.9)
        by_latent, gains, by_update = fig.subplots(1, 3)
        colour_of = dict(zip(curves, COLOURS, strict=False))
        by_latent.axhline(entropy, color="0.6", linewidth=0.8)
        for i, (title, (closed_form, trained)) in enumerate(curves.items()):
            latent = np.arange(1, len(closed_form) + 1)
            by_latent.plot(latent, closed_form, color=colour_of[title], linewidth=1.2, label=title)
            for at, values in zip(latent, trained, strict=True):
                shifted = [at + 0.07 * (i - 1.5)] * len(values)
                by_latent.plot(shifted, values, "o", color=colour_of[title], markersize=3, alpha=0.6, markeredgewidth=0)
        look = {"color": "0.4", "fontsize": 7, "textcoords": "offset points", "va": "top"}
        by_latent.annotate("entropy of the data", (0.75, entropy), (0, -4), **look)
        by_latent.margins(y=0.12)
        by_latent.set(xlabel="latent dimensions $D_z$", ylabel="NLL (nats)", xticks=latent)
        by_latent.set(title="lines: closed form; dots: trainings", xlim=(0.7, latent[-1] + 0.3))
        by_latent.legend(frameon=False, fontsize=7)
        ratio = np.geomspace(0.01, 20, 200)
        gains.plot(ratio, (ratio - 1 - np.log(ratio)) / 2, color="0.6", linewidth=1)
        for title, (ratios, kept) in picked.items():
            for r, is_kept in zip(ratios, kept, strict=True):
                face = colour_of[title] if is_kept else "white"
                look = {"color": colour_of[title], "markerfacecolor": face, "markersize": 5}
                gains.plot(r, (r - 1 - np.log(r)) / 2, "o", **look)
        gains.set(xscale="log", xlabel="ratio $r$ of a variance to $T D/2$", ylabel="gain of keeping it (nats)")
        gains.set_title("filled: what $D_z = 1$ kept")
        for colour, (title, seeds) in zip(COURSE_COLOURS, courses.items(), strict=False):
            for i, (steps, excess) in enumerate(seeds):
                above = np.maximum(excess, 1e-6)
                by_update.plot(steps, above, color=colour, linewidth=1, label=title if i == 0 else None)
        by_update.set(yscale="log", xlabel="update", ylabel="NLL above the least (nats)", title="$D_z = 2$, $T$ free")
        by_update.legend(frameon=False, fontsize=7)
        for ax in (by_latent, gains, by_update):
            ax.grid(color="0.93")
            ax.set_axisbelow(True)
        return fig


def live_gaussian(grid: GridDensity, covariance: ArrayLike, *, title: str) -> Figure:
    """Draw one learned Gaussian over the data's for a panel."""
    with rc_context(STYLE):
        fig = figure(4.3, 4.0)
        ax = fig.subplots()
        draw_density(ax, grid, title=title, top=TOP, shown=5.2)
        draw_ellipse(ax, covariance)
        ax.set(xlabel="$x_1$", ylabel="$x_2$")
        density_scale(fig, [ax])
        return fig
