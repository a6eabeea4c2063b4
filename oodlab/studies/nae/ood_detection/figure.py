"""How errors of several sets are distributed; which images a threshold gets wrong.

Imports: metrics, plotting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike

from oodlab import metrics
from oodlab.plotting.base import STYLE, figure
from oodlab.plotting.sets import KNOWN, LIMIT, Look, explain_frames, frame, set_looks

BINS = 50
ROOM = 1.3  # height of a panel by that of its bars: the legend stands above them
IMAGE_ORDERS = ("nearest to the threshold", "wrong, the worst first")


def error_histograms(errors: Mapping[str, Mapping[str, Mapping[str, ArrayLike]]]) -> Figure:
    """Draw how the errors of several sets are distributed, a row per in-distribution set, a panel per model.

    Args:
        errors: By in-distribution set, model and set of images, (N,) positive; the in-distribution set is the first.
    """
    columns = max(map(len, errors.values()))
    looks = set_looks(out for models in errors.values() for sets in models.values() for out in list(sets)[1:])
    with rc_context(STYLE):
        fig = figure(1.4 + 2.9 * columns, 2.1 * len(errors))
        grid = fig.subplots(len(errors), columns, sharey="row", squeeze=False)
        for axes, (name, models) in zip(grid, errors.items(), strict=True):
            everything = np.concatenate([np.asarray(e) for sets in models.values() for e in sets.values()])
            # one scale for all models; a log scale has no place for an error of 0
            edges = np.geomspace(everything[everything > 0].min(), everything.max() * 1.001, BINS + 1)
            for ax, (model, sets) in zip(axes, models.items(), strict=False):
                for title, values in sets.items():
                    _histogram(ax, values, edges, KNOWN if title == next(iter(sets)) else looks[title], title)
                ax.set(xscale="log", title=f"{model}, trained on {name}", xlabel="reconstruction error per pixel")
            axes[0].set_ylabel("share of images per bar")
            for ax in axes[len(models) :]:
                ax.set_axis_off()
            axes[len(models) - 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7)
        return fig


def _histogram(ax: Axes, values: ArrayLike, edges: np.ndarray, look: Look, label: str) -> None:
    values = np.asarray(values)
    shares = np.full(len(values), 1 / len(values))
    ax.hist(values, edges, weights=shares, histtype="stepfilled", color=look["color"], alpha=0.15)
    ax.hist(values, edges, weights=shares, histtype="step", linewidth=1, label=label, **look)


@dataclass(frozen=True)
class DetectionSnapshot:
    """What a panel knows of trained detectors; never changed afterwards.

    Attributes:
        in_set: Name of the in-distribution set.
        scores: By detector and set, (N,), high = in-distribution.
        images: By set, (N, C, H, W) in [0, 1], in the order of the scores.
        reconstructions: By detector and set, shaped as the images; only of detectors that have them.
    """

    in_set: str
    scores: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    reconstructions: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def live_detection(snapshot: DetectionSnapshot, *, out_set: str, tpr: float, which: str, shown: int) -> Figure:
    """Draw per detector the scores of both sets with the threshold, and images with their reconstructions below them.

    An orange frame is around what the detector takes for the wrong kind.

    Args:
        snapshot: Scores and images of the detectors.
        out_set: OOD set; the first one where the snapshot does not have it.
        tpr: Share of the in-distribution set that the threshold accepts.
        which: One of IMAGE_ORDERS: the images that are shown.
        shown: Images per set.
    """
    outs = [name for name in snapshot.images if name != snapshot.in_set]
    with rc_context(STYLE):
        fig = figure(7.4, max(0.6, 0.3 + 1.65 * len(snapshot.scores)))
        if not snapshot.scores:
            fig.text(0.5, 0.5, "nothing is trained yet", ha="center", va="center", color="0.4")
            return fig
        out = out_set if out_set in outs else outs[0]
        fig.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.02)
        rows = fig.subfigures(len(snapshot.scores), 1, squeeze=False)[:, 0]
        for row, (name, scores) in zip(rows, snapshot.scores.items(), strict=True):
            left, *right = row.subfigures(1, 3, width_ratios=[1, 1, 1])
            pair = {key: np.asarray(scores[key]) for key in (snapshot.in_set, out)}
            threshold = metrics.threshold_at_tpr(pair[snapshot.in_set], tpr)
            _draw_scores(left.subplots(), name, pair, set_looks(outs)[out], threshold, tpr)
            for cell, (key, values) in zip(right, pair.items(), strict=True):
                inside, accepted = key == snapshot.in_set, values >= threshold
                wrong = int((accepted != inside).sum())
                cell.suptitle(f"{key}: {wrong} of {len(values)} {'rejected' if inside else 'accepted'}", fontsize=7.5)
                chosen = chosen_images(values, threshold, inside=inside, which=which)[:shown]
                made = snapshot.reconstructions.get(name, {}).get(key)
                _draw_images(cell, snapshot.images[key], made, chosen, accepted != inside, columns=shown)
        explain_frames(fig)
        return fig


def chosen_images(scores: np.ndarray, threshold: float, *, inside: bool, which: str) -> np.ndarray:
    """Return which images of a set to look at first.

    Args:
        scores: (N,), high = in-distribution.
        threshold: Accepted is what is not below it.
        inside: Whether these are in-distribution images.
        which: One of IMAGE_ORDERS.

    Returns:
        Indices: all, by their distance from the threshold; or the wrong ones only, the farthest beyond it first.
    """
    order = np.argsort(np.abs(scores - threshold), kind="stable")
    if which == IMAGE_ORDERS[0]:
        return order
    return order[::-1][(scores[order[::-1]] >= threshold) != inside]


def _draw_scores(ax: Axes, name: str, pair: Mapping[str, np.ndarray], look: Look, threshold: float, tpr: float) -> None:
    inside, outside = pair.values()
    low, high = np.quantile(np.concatenate([inside, outside]), (0.01, 0.99))
    edges = np.linspace(low, max(high, low + 1e-9), BINS // 2 + 1)  # the outermost bars hold what lies beyond
    for (key, values), of in zip(pair.items(), (KNOWN, look), strict=True):
        _histogram(ax, np.clip(values, edges[0], edges[-1]), edges, of, key)
    ax.axvline(np.clip(threshold, edges[0], edges[-1]), ymax=1 / ROOM, **LIMIT)
    rejected = metrics.tnr_at_tpr(inside, outside, tpr=tpr)
    auroc = metrics.auroc(inside, outside)
    ax.set_title(f"{name}: AUROC {auroc:.3f}\n{rejected:.0%} of OOD images rejected", loc="left", fontsize=7.5)
    ax.set(xlabel="score (high = in-distribution)", yticks=[])
    ax.locator_params(axis="x", nbins=4)
    ax.set_ylim(top=ROOM * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize=6.5, loc="upper left", ncols=2)


def _draw_images(
    fig: SubFigure,
    images: np.ndarray,
    made: np.ndarray | None,
    chosen: np.ndarray,
    wrong: np.ndarray,
    *,
    columns: int,
) -> None:
    """Draw images in the first row, their reconstructions in the second."""
    axes = fig.subplots(2, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, name in zip(axes[:, 0], ("input", "made of it"), strict=True):
        ax.set_ylabel(name, fontsize=6.5)
    for column, i in zip(axes.T, chosen, strict=False):
        for ax, of in zip(column, (images, made), strict=True):
            if of is None:
                continue
            ax.set_axis_on()
            ax.imshow(np.moveaxis(of[i], 0, -1).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            frame(ax, wrong=bool(wrong[i]))
