"""Detection of one class held out, method by method, and images beside their reconstructions.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from oodlab.plotting.base import COLOURS, STYLE, figure


def held_out_aurocs(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw one panel per held-out class: a dot per seed, a bar at their mean, a diamond where the paper is.

    Args:
        rows: Each with method, held_out, auroc (one per seed) and reported (None where the paper has none).
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    classes = list(dict.fromkeys(row["held_out"] for row in rows))
    with rc_context(STYLE):
        fig = figure(1.2 + 1.55 * len(classes), 0.9 + 0.19 * len(methods))
        axes = fig.subplots(1, len(classes), sharex=True, sharey=True, squeeze=False)[0]
        for ax, held_out in zip(axes, classes, strict=True):
            for row in rows:
                if row["held_out"] != held_out:
                    continue
                y = methods.index(row["method"])
                colour = COLOURS[1] if row["method"].startswith("NAE") else COLOURS[0]
                ax.plot(row["auroc"], [y] * len(row["auroc"]), "o", color=colour, markersize=3.6, alpha=0.6, mew=0)
                ax.plot([np.mean(row["auroc"])], [y], "|", color=colour, markersize=9, mew=1.6)
                if row["reported"] is not None:
                    ax.plot([row["reported"]], [y], "D", color="0.25", mfc="none", markersize=4)
            ax.axvline(0.5, color="0.8", linewidth=0.8, zorder=0)
            ax.set(title=f"without {held_out}", xlim=(-0.02, 1.02), xlabel="AUROC", yticks=range(len(methods)))
            ax.grid(axis="x", color="0.93")
        axes[0].set_yticklabels(methods)
        axes[0].invert_yaxis()
        own = axes[0].plot([], [], "o", color=COLOURS[0], markersize=3.6, label="here, a dot per seed")
        nae = axes[0].plot([], [], "o", color=COLOURS[1], markersize=3.6, label="here, normalized")
        paper = axes[0].plot([], [], "D", color="0.25", mfc="none", markersize=4, label="paper")
        fig.legend(handles=[*own, *nae, *paper], loc="outside upper center", ncols=3, frameon=False, fontsize=7.5)
        return fig


def reconstructions(
    columns: Mapping[str, np.ndarray],
    rows: Mapping[str, Mapping[str, np.ndarray]],
    missed: Mapping[str, Mapping[str, Sequence[bool]]],
) -> Figure:
    """Draw images, and below each its reconstruction by every model.

    Args:
        columns: Images by set, (N, H, W) in [0, 1], the same N in each.
        rows: Reconstructions by model and set, shaped as the images.
        missed: By model and set, whether the model takes the image for the wrong kind: outlined.
    """
    names = ["input", *rows]
    n = len(next(iter(columns.values())))
    with rc_context(STYLE):
        fig = figure(0.75 + 0.42 * n * len(columns), 0.45 + 0.44 * len(names))
        grid = fig.add_gridspec(1, len(columns))
        for j, (name, images) in enumerate(columns.items()):
            axes = grid[j].subgridspec(len(names), n, wspace=0.04, hspace=0.04).subplots(squeeze=False)
            axes[0][n // 2].set_title(name)
            for i, row in enumerate(names):
                shown = images if i == 0 else rows[row][name]
                for k, ax in enumerate(axes[i]):
                    ax.imshow(shown[k], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                    ax.set(xticks=[], yticks=[])
                    wrong = i > 0 and missed[row][name][k]
                    ax.spines[:].set(
                        visible=True, color=COLOURS[1] if wrong else "0.7", linewidth=1.8 if wrong else 0.4
                    )
                if j == 0:
                    axes[i][0].set_ylabel(row, rotation=0, ha="right", va="center")
        return fig
