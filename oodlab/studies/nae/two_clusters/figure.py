"""Autoencoders of the plane with the curve their decoder can reach.

Imports: grids, plotting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.grids import GridDensity
from oodlab.plotting.base import COLOURS, STYLE, figure
from oodlab.plotting.plane import density_scale, draw_density

TOP = 0.2  # density of the last colour; two squares of side 2 have 0.125
ERRORS = (1e-3, 1e1)
ERROR_MAP = "magma"


@dataclass(frozen=True)
class Reconstructions:
    """What an autoencoder of the plane makes of it.

    Attributes:
        title: Above its panels.
        grid: Its density.
        error: Reconstruction error on the grid, (n, n).
        manifold: Decoded codes along a line, (m, 2).
    """

    title: str
    grid: GridDensity
    error: ArrayLike
    manifold: ArrayLike


def manifold_panels(models: Sequence[Reconstructions], points: ArrayLike) -> Figure:
    """Draw density above reconstruction error, one column per autoencoder, with its manifold and data points.

    Args:
        models: The autoencoders.
        points: Data, (n, 2).
    """
    with rc_context(STYLE):
        fig = figure(3.1 * len(models) + 0.9, 6.2)
        axes = fig.subplots(2, len(models), sharex=True, sharey=True, squeeze=False)
        for (above, below), model in zip(axes.T, models, strict=True):
            draw_density(above, model.grid, title=model.title, top=TOP)
            _draw_error(below, model)
            for ax, colour in ((above, "white"), (below, COLOURS[5])):
                _draw_manifold(ax, model.manifold, colour)
            x = np.asarray(points)
            below.plot(x[:, 0], x[:, 1], "x", color="white", markersize=3, markeredgewidth=0.6, alpha=0.8)
            below.set_xlabel("$x_1$")
        axes[0, 0].set_ylabel("learned density\n$x_2$")
        axes[1, 0].set_ylabel("reconstruction error, data (crosses)\n$x_2$")
        density_scale(fig, list(axes[0]))
        _error_scale(fig, list(axes[1]))
        return fig


def live_manifold(
    model: Reconstructions, *, show: str, points: ArrayLike | None = None, starts: ArrayLike | None = None
) -> Figure:
    """Draw one autoencoder for a panel: its density or its error, the manifold, and chain ends with their paths.

    Args:
        model: The autoencoder.
        show: "density" or "error".
        points, starts: Ends and starts of chains, (B, 2) each.
    """
    with rc_context(STYLE):
        fig = figure(4.3, 4.0)
        ax = fig.subplots()
        if show == "density":
            draw_density(ax, model.grid, title=model.title, top=TOP, shown=5.2)
        else:
            _draw_error(ax, model, shown=5.2)
            ax.set_title(model.title)
        if points is not None and starts is not None:
            ends, begins = np.asarray(points), np.asarray(starts)
            paths = np.stack([begins, ends])
            ax.plot(paths[:, :, 0], paths[:, :, 1], color="white", linewidth=0.4, alpha=0.5)
            look = {"markersize": 2.6, "markeredgecolor": "white", "markeredgewidth": 0.3}
            ax.plot(ends[:, 0], ends[:, 1], "o", color=COLOURS[1], **look)
        _draw_manifold(ax, model.manifold, "white" if show == "density" else COLOURS[5])
        ax.set(xlabel="$x_1$", ylabel="$x_2$")
        density_scale(fig, [ax]) if show == "density" else _error_scale(fig, [ax])
        return fig


def _draw_manifold(ax: Axes, manifold: ArrayLike, colour: str) -> None:
    x = np.asarray(manifold)
    ax.plot(x[:, 0], x[:, 1], color=colour, linewidth=1.1)


def _draw_error(ax: Axes, model: Reconstructions, *, shown: float = 4.5) -> None:
    axis = model.grid.axis
    edge = float(axis[-1]) * len(axis) / (len(axis) - 1)  # pixels are centred on grid points
    error = np.maximum(np.asarray(model.error), 1e-12)  # a logarithmic scale has no zero
    ax.imshow(error, extent=(-edge, edge, -edge, edge), origin="lower", norm=LogNorm(*ERRORS), cmap=ERROR_MAP)
    ax.set(xlim=(-shown, shown), ylim=(-shown, shown), xticks=[-4, 0, 4], yticks=[-4, 0, 4], aspect="equal")


def _error_scale(fig: Figure, axes: Sequence[Axes]) -> None:
    bar = fig.colorbar(axes[0].images[0], ax=list(axes), shrink=0.8, aspect=30, extend="both", pad=0.01)
    bar.set_label("squared error per dimension")
