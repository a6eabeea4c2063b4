"""How a training by negatives went, and what its negatives look like on the way.

Imports: metrics, its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodlab import metrics
from oodlab.plotting.base import COLOURS, STYLE, figure

OMI = COLOURS[1]  # the colour of what is normalized, in every figure
LINEAR_GAP = 0.01  # largest gap of errors per pixel that is drawn linearly


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


@dataclass(frozen=True)
class NormalisingSnapshot:
    """What a panel knows in the middle of such a training; never changed afterwards.

    Attributes:
        course: So far.
        starts, negatives: Both ends of the last update's visible chains, (B, H, W) in [0, 1]; None before the first.
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
