"""The live figure of image and table panels: curves, score histograms with a threshold, images around it.

Imports: metrics, its own folder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from oodlab import metrics
from oodlab.plotting.base import COLOURS, STYLE, figure

AROUND = 8  # images shown per set, those nearest to the threshold
IN_COLOUR, OUT_COLOURS = COLOURS[0], COLOURS[1:]


@dataclass(frozen=True)
class ScoreSnapshot:
    """What a panel knows in the middle of a training; never changed afterwards.

    Attributes:
        in_set: Name of the in-distribution set.
        scores: Per score and set, (N,), high = in-distribution; every score has in_set.
        steps: Updates at which the scores were taken so far.
        aurocs: Per score and OOD set, the AUROC at each of them.
        images: Per set, (N, C, H, W) in [0, 1], in the order of the scores; empty for tables.
    """

    in_set: str
    scores: Mapping[str, Mapping[str, np.ndarray]]
    steps: Sequence[int]
    aurocs: Mapping[str, Mapping[str, Sequence[float]]]
    images: Mapping[str, np.ndarray] = field(default_factory=dict)


def live_scores(snapshot: ScoreSnapshot, *, score: str, tpr: float, bins: int, only_outside: bool = False) -> Figure:
    """Draw AUROC curves, histograms with the threshold at this TPR, and the images around it.

    Args:
        snapshot: State of the training.
        score: Name of the score.
        tpr: Share of the in-distribution set that the threshold accepts.
        bins: Bars of the histograms.
        only_outside: Leave the in-distribution set out of the histograms, to see the others' order.
    """
    scores = snapshot.scores[score]
    inside = scores[snapshot.in_set]
    threshold = metrics.threshold_at_tpr(inside, tpr)
    colours = dict(zip(scores, [IN_COLOUR, *OUT_COLOURS], strict=False))
    rows = len(snapshot.images)
    with rc_context(STYLE):
        fig = figure(7.2, 2.7 + 0.72 * rows)
        grid = fig.add_gridspec(1 + rows, 1, height_ratios=[2.7, *[0.72] * rows])
        left, right = (fig.add_subplot(cell) for cell in grid[0].subgridspec(1, 2))
        for name, values in snapshot.aurocs[score].items():
            left.plot(snapshot.steps, values, marker=".", color=colours[name], label=name)
        left.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
        left.set(xlabel="update", ylabel="AUROC", ylim=(-0.02, 1.02))
        left.legend(fontsize=6.5, frameon=False)
        drawn = {name: x for name, x in scores.items() if not (only_outside and name == snapshot.in_set)}
        everything = np.concatenate(list(drawn.values()))
        lowest, low, high, highest = np.quantile(everything, [0.005, 0.25, 0.75, 0.995])
        reach = 3 * max(high - low, 1e-9)  # the outermost bars collect what lies beyond
        low, high = max(lowest, low - reach), min(highest, high + reach)
        edges = np.linspace(low, max(high, low + 1e-9), bins + 1)
        for name, values in drawn.items():
            shown = np.clip(values, edges[0], edges[-1])
            right.hist(shown, edges, density=True, alpha=0.45, color=colours[name], label=name)
        right.axvline(np.clip(threshold, edges[0], edges[-1]), color="black", linewidth=1)
        rates = [
            f"{name} {metrics.fpr_at_tpr(inside, values, tpr=tpr, positive='in'):.2f}"
            for name, values in scores.items()
            if name != snapshot.in_set
        ]
        readout = f"threshold {threshold:.4g}: TPR {tpr:.2f}, FPR {', '.join(rates)}"
        right.set_title(textwrap.fill(readout, 52), loc="left", fontsize=7)
        right.set(
            xlabel=f"{score}\nhigh = in-distribution; outermost bars: and beyond", ylabel="density of test inputs"
        )
        right.locator_params(axis="x", nbins=5)
        right.legend(fontsize=6.5, frameon=False)
        if rows:
            fig.supxlabel("inputs nearest to the threshold; blue frame: accepted, orange: rejected", fontsize=7)
        for row, (name, pictures) in enumerate(snapshot.images.items(), 1):
            nearest = np.argsort(np.abs(scores[name] - threshold), kind="stable")[:AROUND]
            nearest = nearest[np.argsort(scores[name][nearest], kind="stable")]
            for ax, i in zip(fig.add_subfigure(grid[row]).subplots(1, AROUND), nearest, strict=False):
                picture = np.moveaxis(pictures[i], 0, -1)
                ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                accepted = scores[name][i] >= threshold
                ax.set(xticks=[], yticks=[])
                ax.set_title(f"{scores[name][i]:.4g}", fontsize=6, pad=2)
                for spine in ax.spines.values():
                    spine.set(visible=True, color=IN_COLOUR if accepted else COLOURS[1], linewidth=1.5)
                if i == nearest[0]:
                    ax.set_ylabel(name, fontsize=6.5)
        return fig
