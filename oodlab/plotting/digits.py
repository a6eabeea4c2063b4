"""Images beside their reconstructions; how normalising went; what its negatives look like.

Imports: metrics, its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from oodlab import metrics
from oodlab.plotting.base import COLOURS, STYLE, figure
from oodlab.plotting.sets import HELD_OUT, explain_frames, frame

OMI = COLOURS[1]  # the colour of what is normalized, in every figure

LINEAR_GAP = 0.01  # largest gap of errors per pixel that is drawn linearly


def beside_reconstructions(
    columns: Mapping[str, np.ndarray],
    rows: Mapping[str, Mapping[str, np.ndarray]],
    missed: Mapping[str, Mapping[str, Sequence[bool]]],
) -> Figure:
    """Draw images, and below each its reconstruction by every model.

    Args:
        columns: Images by set, (N, H, W) in [0, 1].
        rows: Reconstructions by model and set, shaped as the images.
        missed: By model and set, whether the model takes the image for the wrong kind: framed.
    """
    names = ["input", *rows]
    total = sum(map(len, columns.values()))
    with rc_context(STYLE):
        fig = figure(0.75 + 0.42 * total + 0.1 * (len(columns) - 1), 0.65 + 0.44 * len(names))
        fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # images stand close
        widths = [
            width for images in columns.values() for width in [*[1.0] * len(images), 0.25]
        ]  # a gap behind each set
        grid = fig.add_gridspec(len(names), len(widths) - 1, width_ratios=widths[:-1], wspace=0.04, hspace=0.04)
        first = 0
        for name, images in columns.items():
            n = len(images)
            for i, row in enumerate(names):
                shown = images if i == 0 else rows[row][name]
                axes = [fig.add_subplot(grid[i, first + k]) for k in range(n)]
                for k, ax in enumerate(axes):
                    ax.imshow(shown[k], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                    frame(ax, wrong=i > 0 and missed[row][name][k])
                if i == 0:
                    axes[(n - 1) // 2].set_title(name.replace("_", "\n"), x=0.5 if n % 2 else 1.02)
                if first == 0:
                    axes[0].set_ylabel(row, rotation=0, ha="right", va="center")
            first += n + 1
        explain_frames(fig)
        return fig


@dataclass(frozen=True)
class NormalisingCourse:
    """How a training by negatives went, from the plain autoencoder on.

    Attributes:
        steps: Updates at which the errors were read.
        error_data, error_negatives: Mean reconstruction errors at them.
        probed: Updates after which validation images were scored.
        aurocs: AUROC of their errors, high = held-out images have the larger ones.
    """

    steps: Sequence[int] = ()
    error_data: Sequence[float] = ()
    error_negatives: Sequence[float] = ()
    probed: Sequence[int] = ()
    aurocs: Sequence[float] = ()

    @classmethod
    def of(cls, history: Sequence[Mapping[str, float]], probes: Sequence[Mapping[str, Any]]) -> NormalisingCourse:
        """Read it off a training's history and probes, whose values "in" and "out" are errors."""
        return cls(
            steps=[int(row["step"]) for row in history],
            error_data=[row["error_data"] for row in history],
            error_negatives=[row["error_negatives"] for row in history],
            probed=[probe["step"] for probe in probes],
            aurocs=[metrics.auroc(-probe["values"]["in"], -probe["values"]["out"]) for probe in probes],
        )

    @property
    def jump(self) -> float:
        """Mean change of the AUROC from look to look, in the second half of the training."""
        return float(np.abs(np.diff(self.aurocs[len(self.aurocs) // 2 :])).mean())

    @property
    def gaps(self) -> list[float]:
        """Error of data less that of negatives."""
        return [data - negatives for data, negatives in zip(self.error_data, self.error_negatives, strict=True)]


def normalising_courses(courses: Mapping[str, Mapping[str, Sequence[NormalisingCourse]]]) -> Figure:
    """Draw errors, their gap and the validation AUROC over updates, a row per inside set.

    Args:
        courses: By inside set and method, one per seed.
    """
    methods = list(dict.fromkeys(method for by_method in courses.values() for method in by_method))
    with rc_context(STYLE):
        fig = figure(7.2, 0.4 + 1.75 * len(courses))
        grid = fig.subplots(len(courses), 3, sharex=True, squeeze=False)
        for row, (axes, (inside, by_method)) in enumerate(zip(grid, courses.items(), strict=True)):
            for method, seeds in by_method.items():
                for course in seeds:
                    _draw_course(axes, course, _colour(method, methods))
            _label(axes)
            axes[0].set_title(inside, loc="left")
            if row < len(courses) - 1:  # the rows share their updates
                for ax in axes:
                    ax.set_xlabel("")
        handles = [
            *(Line2D([], [], color=_colour(method, methods), label=method) for method in methods),
            Line2D([], [], color="0.4", label="error of data"),
            Line2D([], [], color="0.4", linestyle=":", label="of negatives"),
        ]
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=7.5)
        return fig


def class_shares(rows: pd.DataFrame, held_out: Mapping[str, int]) -> Figure:
    """Draw the share of negatives that a classifier calls each class: a row per method, a column per inside set.

    Args:
        rows: As measured returns them, with a quantity "called <class>" for every class; a bar is the mean over
            seeds, a dot a seed.
        held_out: Class held out, by inside set; its bars have another colour.
    """
    shares = rows[rows["quantity"].str.startswith("called ")]
    shares = shares.assign(called=shares["quantity"].str.removeprefix("called ").astype(int))
    methods, classes = list(dict.fromkeys(shares["method"])), sorted(set(shares["called"]))
    known = {"color": COLOURS[0], "alpha": 0.75}
    with rc_context(STYLE):
        fig = figure(max(4.6, 0.9 + 2.1 * len(held_out)), 0.75 + 1.15 * len(methods))
        grid = fig.subplots(len(methods), len(held_out), squeeze=False, sharex=True, sharey=True)
        for axes, method in zip(grid, methods, strict=True):
            for ax, (inside, digit) in zip(axes, held_out.items(), strict=True):
                own = shares[(shares["method"] == method) & (shares["in_set"] == inside)]
                means = own.groupby("called")["value"].mean()
                bars = ax.bar(means.index, means, width=0.75, **known)
                for bar, called in zip(bars, means.index, strict=True):
                    bar.set(color=HELD_OUT if called == digit else known["color"])
                if own["seed"].nunique() > 1:
                    ax.plot(own["called"], own["value"], ".", color="0.2", markersize=3)
                top = max(means.get(digit, 0.0), 1 / len(classes))  # above its bar, and above the line
                said = f"{means.get(digit, 0.0):.1%}"
                ax.annotate(said, (digit, top), (0, 2), textcoords="offset points", **_ABOVE)
                ax.axhline(1 / len(classes), color="0.4", linestyle="--", linewidth=0.9)
                ax.set_xticks(classes)
        for ax, inside in zip(grid[0], held_out, strict=True):
            ax.set_title(inside)
        for ax in grid[-1]:
            ax.set_xlabel("called")
        for ax, method in zip(grid[:, 0], methods, strict=True):
            ax.set_ylabel(f"{method}\nshare of negatives")
        handles = [
            Patch(color=HELD_OUT, label="the digit held out"),
            Patch(**known, label="digits of the training"),
            Line2D([], [], color="0.4", linestyle="--", linewidth=0.9, label="all classes alike"),
        ]
        fig.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=7.5)
        return fig


_ABOVE = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": HELD_OUT}


@dataclass(frozen=True)
class NormalisingSnapshot:
    """What a panel knows in the middle of such a training; never changed afterwards.

    Attributes:
        course: So far.
        starts, negatives: Of the last update's visible chains, (B, H, W) in [0, 1]; None before the first.
        beside: Course of the base it is compared with, drawn in grey; None draws none.
    """

    course: NormalisingCourse
    starts: np.ndarray | None = None
    negatives: np.ndarray | None = None
    beside: NormalisingCourse | None = None


def live_normalising(snapshot: NormalisingSnapshot, *, shown: int, starts: bool) -> Figure:
    """Draw the course, and below it negatives, with the starts of their chains above them if wanted."""
    rows = {"starts": snapshot.starts if starts else None, "negatives": snapshot.negatives}
    rows = {name: images for name, images in rows.items() if images is not None}
    with rc_context(STYLE):
        fig = figure(7.2, 2.1 + 0.75 * len(rows))
        heights = [2.1, 0.75 * len(rows)] if rows else [2.1]
        top, *below = fig.add_gridspec(len(heights), 1, height_ratios=heights)
        axes = [fig.add_subplot(cell) for cell in top.subgridspec(1, 3)]
        if snapshot.beside is not None:
            _draw_course(axes, snapshot.beside, "0.65")
            axes[1].set_title("grey: the base", loc="left", color="0.5")
        _draw_course(axes, snapshot.course, OMI)
        _label(axes)
        axes[0].set_title("data —, negatives ···", loc="left")
        pictures = below[0].subgridspec(len(rows), shown).subplots(squeeze=False) if rows else []
        for in_row, (name, images) in zip(pictures, rows.items(), strict=True):
            for ax, image in zip(in_row, images, strict=False):
                ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            for ax in in_row:
                ax.set(xticks=[], yticks=[])
            in_row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        return fig


def _draw_course(axes: Sequence[Axes], course: NormalisingCourse, colour: str) -> None:
    errors, gap, auroc = axes
    errors.plot(course.steps, course.error_data, color=colour, linewidth=1)
    errors.plot(course.steps, course.error_negatives, color=colour, linewidth=1, linestyle=":")
    gap.plot(course.steps, course.gaps, color=colour, linewidth=1)
    auroc.plot(course.probed, course.aurocs, color=colour, linewidth=1, marker=".", markersize=3)


def _colour(method: str, methods: Sequence[str]) -> str:
    others = [name for name in methods if name != "NAE-OMI"]
    return OMI if method == "NAE-OMI" else COLOURS[2 + others.index(method)]


def _label(axes: Sequence[Axes]) -> None:
    errors, gap, auroc = axes
    errors.set(xlabel="update", ylabel="error per pixel", yscale="log")
    gap.set(xlabel="update", ylabel="gap: data − negatives")
    if gap.dataLim.y0 < -LINEAR_GAP:  # negatives that ran away have a hundred times the usual error
        gap.set_yscale("symlog", linthresh=LINEAR_GAP)
    auroc.set(xlabel="update", ylabel="validation AUROC", ylim=(-0.02, 1.02))
    gap.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    auroc.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
