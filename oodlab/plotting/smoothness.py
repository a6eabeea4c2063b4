"""Images in rows, and how a model's log-density of several sets is distributed.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.plotting.base import COLOURS, STYLE, figure

DATA_COLOUR = "0.15"


def image_rows(rows: Mapping[str, ArrayLike], *, low: float = -1.0, high: float = 1.0, columns: int = 8) -> Figure:
    """Draw sets of images, one row each.

    Args:
        rows: Images by title, each (N, C, H, W) with C of 1 or 3; the first `columns` are drawn.
        low, high: Values drawn black and white; what lies beyond is cut off.
        columns: Images per row at most.
    """
    with rc_context(STYLE):
        fig = figure(0.62 * columns + 1.6, 0.66 * len(rows) + 0.1)
        axes = fig.subplots(len(rows), columns, squeeze=False)
        for line, (title, images) in zip(axes, rows.items(), strict=True):
            shown = ((np.asarray(images)[:columns] - low) / (high - low)).clip(0, 1)
            for ax in line:
                ax.set_axis_off()
            for ax, image in zip(line, shown, strict=False):
                ax.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            line[0].text(-0.15, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=7.5)
        return fig


def log_density_panels(panels: Mapping[str, Mapping[str, ArrayLike]], *, data: str = "") -> Figure:
    """Draw how log-densities are distributed, one panel per model, one curve per set of images.

    Args:
        panels: Log-densities (N,) by title and set, nats.
        data: Name of the set drawn in grey: in-distribution images beside the others.
    """
    import seaborn

    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    with rc_context(STYLE):
        fig = figure(3.4 * columns, 2.2 * lines)
        axes = fig.subplots(lines, columns, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        for ax, (title, sets) in zip(axes.flat, panels.items(), strict=False):
            hues = iter(COLOURS)
            for name, values in sets.items():
                colour = DATA_COLOUR if name == data else next(hues)
                values = np.asarray(values)
                width = {"element": "step", "stat": "density", "bins": 30, "alpha": 0.25, "linewidth": 0}
                if np.ptp(values) > 0:  # a constant has no density
                    seaborn.histplot(x=values, ax=ax, color=colour, kde=True, label=name, **width)
            ax.set(title=title, xlabel="log-density $f$ (nats, up to a constant)", ylabel="share of images per nat")
            ax.legend(frameon=False, fontsize=6.5)
        return fig
