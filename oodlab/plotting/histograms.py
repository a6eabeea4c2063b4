"""Histograms of scores, a panel per title.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from oodlab.plotting.base import STYLE, figure
from oodlab.plotting.sets import KNOWN, set_looks


def histograms(
    panels: Mapping[str, Mapping[str, ArrayLike]], *, columns: int, label: str, log_scale: bool = False
) -> Figure:
    """Draw a panel per title with one histogram per set, each of area 1, on one axis of values; the inside set first.

    Args:
        panels: Values by set, by title; titles fill the rows of the figure from the left.
        columns: Panels in a row.
        label: Name and unit of the values.
        log_scale: Whether the axis of the values is logarithmic.
    """
    import seaborn

    rows = -(-len(panels) // columns)
    with rc_context(STYLE):
        fig = figure(2.5 * columns + 0.2, 1.75 * rows + 0.4)
        axes = fig.subplots(rows, columns, squeeze=False, sharex=True)
        insides = {next(iter(sets)) for sets in panels.values()}
        looks = set_looks(dict.fromkeys(name for sets in panels.values() for name in sets if name not in insides))
        for ax, (title, sets) in zip(axes.flat, panels.items(), strict=False):
            for name, values in sets.items():
                seaborn.histplot(
                    np.asarray(values), ax=ax, bins=30, log_scale=log_scale, stat="density", element="step", alpha=0.25,
                    color=(KNOWN if name in insides else looks[name])["color"], label=name,
                )  # fmt: skip
            ax.set(title=title, ylabel="", yticks=[])
            if log_scale:
                ax.xaxis.set_major_locator(LogLocator(numticks=5))
                ax.xaxis.set_minor_formatter(NullFormatter())
            else:
                ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.legend(frameon=False, fontsize=6.5)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for ax in axes[-1]:
            ax.set_xlabel(label)
        return fig
