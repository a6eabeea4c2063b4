"""How reconstruction errors of known images and of outliers are distributed.

Imports: plotting.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.plotting.base import STYLE, figure
from oodlab.plotting.sets import KNOWN, LIMIT, set_looks


def error_distributions(
    errors: Mapping[str, Mapping[str, ArrayLike]], limits: Mapping[str, float], *, known: str
) -> Figure:
    """Draw which share of each set has errors up to a value, one panel per model.

    At the limit, dashed and grey, a curve stands at the share of its set that the model accepts: of outliers, at the
    share missed.

    Args:
        errors: By model and set, (N,) each, >= 0; an error of 0 lies left of the axis.
        limits: Largest accepted error by model.
        known: Name of the set of known images, drawn in black.
    """
    positive = np.concatenate([np.asarray(x)[np.asarray(x) > 0] for sets in errors.values() for x in sets.values()])
    low, high = positive.min() / 1.3, positive.max() * 1.3
    looks = set_looks(name for sets in errors.values() for name in sets if name != known)
    with rc_context(STYLE):
        fig = figure(3.1 * len(errors) + 1.2, 2.6)
        axes = fig.subplots(1, len(errors), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (model, sets) in zip(axes, errors.items(), strict=True):
            for name, values in sets.items():
                x = np.sort(np.asarray(values))
                y = np.arange(len(x) + 1) / len(x)
                style = KNOWN | {"linewidth": 2} if name == known else looks[name] | {"linewidth": 1.2}
                ax.plot([low, *x, high], [*y, 1], drawstyle="steps-post", label=name, **style)
            ax.axvline(limits[model], label="limit", **LIMIT)
            ax.set(
                title=model, xscale="log", xlim=(low, high), ylim=(-0.02, 1.02), xlabel="reconstruction error per pixel"
            )
            ax.grid(color="0.93")
        axes[0].set_ylabel("share of the set up to this error")
        handles, names = axes[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside right center", frameon=False, fontsize=7.5)
        return fig
