"""How a model's log-density of several sets is distributed.

Imports: plotting.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.plotting.base import STYLE, figure
from oodlab.plotting.sets import KNOWN, set_looks


def log_density_panels(
    panels: Mapping[str, Mapping[str, ArrayLike]], printed: Mapping[str, Mapping[str, float]], *, data: str
) -> Figure:
    """Draw how log-densities are distributed, a panel per title: a histogram per set, and the peaks that the paper prints.

    Args:
        panels: Quantiles of log-densities by set, by title, nats, rising, of evenly spaced shares from 0 to 1: between two
            neighbours lie as many images as between any others, and that is a bar. Bars are scaled to each set's highest one.
        printed: Positions of the paper's peaks by set, by the same titles; hollow diamonds above the bars.
        data: Name of the inside set.
    """
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    looks = set_looks(dict.fromkeys(name for sets in panels.values() for name in sets if name != data))
    with rc_context(STYLE):
        fig = figure(3.4 * columns, 2.2 * lines)
        axes = fig.subplots(lines, columns, squeeze=False)
        for ax, (title, sets) in zip(axes.flat, panels.items(), strict=False):
            for place, (name, values) in enumerate(sets.items()):
                colour = (KNOWN if name == data else looks[name])["color"]
                edges = np.asarray(values)
                bars = 1 / np.maximum(np.diff(edges), 1e-9)  # of equal images a bar would have no width
                ax.stairs(bars / bars.max(), edges, fill=True, color=colour, alpha=0.25)
                ax.stairs(bars / bars.max(), edges, color=colour, linewidth=1, label=name)
                peak = printed.get(title, {}).get(name)
                if peak is not None:  # each set at its own height: the paper's peaks lie close together
                    ax.plot(peak, 1.12 + 0.11 * place, "D", mfc="none", mec=colour, markersize=5)
            ax.plot([], [], "D", mfc="none", mec="0.4", markersize=5, label="paper, peak")
            ax.set(title=title, xlabel="log-density $f$ (nats, up to a constant)", yticks=[], ylim=(0, 1.7))
            ax.legend(frameon=False, fontsize=6.5, loc="upper left", bbox_to_anchor=(1, 1))
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        for ax in axes[:, 0]:
            ax.set_ylabel("images, scaled")
        return fig
