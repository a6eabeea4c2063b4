"""Densities of the plane.

Imports: grids, its own folder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.grids import GridDensity
from oodlab.plotting.base import COLOURS, DENSITY_MAP, STYLE, figure


def draw_density(
    ax: Axes,
    grid: GridDensity,
    *,
    title: str = "",
    top: float = 0.15,
    shown: float = 4.5,
    points: ArrayLike | None = None,
    crosses: ArrayLike | None = None,
) -> None:
    """Draw a density on a plane with points over it.

    Args:
        ax: Axes to draw on.
        grid: The density.
        title: Above the panel.
        top: Density of the last colour; larger values share it.
        shown: Half the side of the part shown.
        points: Samples drawn as dots, (n, 2).
        crosses: Samples drawn as crosses, (n, 2).
    """
    edge = float(grid.axis[-1]) * len(grid.axis) / (len(grid.axis) - 1)  # pixels are centred on grid points
    ax.imshow(
        grid.density.numpy(),
        extent=(-edge, edge, -edge, edge),
        origin="lower",
        vmin=0,
        vmax=top,
        cmap=DENSITY_MAP,
        interpolation="bilinear",
    )
    if crosses is not None:
        x = np.asarray(crosses)
        ax.plot(x[:, 0], x[:, 1], "x", color="white", markersize=3, markeredgewidth=0.6, alpha=0.8)
    if points is not None:
        x = np.asarray(points)
        ax.plot(x[:, 0], x[:, 1], "o", color=COLOURS[1], markersize=2.6, markeredgecolor="white", markeredgewidth=0.3)
    ax.set(xlim=(-shown, shown), ylim=(-shown, shown), xticks=[-4, 0, 4], yticks=[-4, 0, 4], aspect="equal")
    ax.set_title(title)


def density_scale(fig: Figure, axes: Sequence[Axes]) -> None:
    """Add the colour scale that all density panels share."""
    bar = fig.colorbar(axes[0].images[0], ax=list(axes), shrink=0.8, aspect=30, extend="max", pad=0.01)
    bar.set_label("density (probability per unit area)")


def live_density(
    grid: GridDensity, *, top: float, points: ArrayLike | None = None, starts: ArrayLike | None = None
) -> Figure:
    """Draw one density for a panel, with chain ends as dots and thin lines from their starts."""
    with rc_context(STYLE):
        fig = figure(4.3, 4.0)
        ax = fig.subplots()
        draw_density(ax, grid, top=top, shown=5.2, points=points)
        if points is not None and starts is not None:
            ends, begins = np.asarray(points), np.asarray(starts)
            ax.plot(
                np.stack([begins[:, 0], ends[:, 0]]),
                np.stack([begins[:, 1], ends[:, 1]]),
                color="white",
                linewidth=0.4,
                alpha=0.5,
            )
        ax.set(xlabel="$x_1$", ylabel="$x_2$")
        density_scale(fig, [ax])
        return fig
