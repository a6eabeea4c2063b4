"""Scores over the updates of trainings, one line per method.

Imports: its own folder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from oodlab.plotting.aurocs import PAPER
from oodlab.plotting.base import COLOURS, STYLE, figure

LINES = ("-", "--", ":", "-.")
CONTROL = {"color": "0.35", "linestyle": (0, (1, 3)), "linewidth": 1.2}


def courses(rows: pd.DataFrame, scores: Sequence[str], measures: Mapping[str, str], *, control: str = "") -> Figure:
    """Draw AUROCs and other means over updates: a column per pair of sets, a row per score and per measure.

    Args:
        rows: Rows as evaluate returns them; of several seeds the mean is drawn, and each seed as a dot at the end.
        scores: Scores whose AUROC is drawn.
        measures: Label by score whose mean over the inside set is drawn, with its sign turned.
        control: Method that learns nothing, drawn as a level line.

    A method's name "<kind>, <way>" gives its colour by kind and its line by way.
    """
    pairs = list(rows[["in_set", "out_set"]].drop_duplicates().itertuples(index=False, name=None))
    methods = [name for name in dict.fromkeys(rows["method"]) if name != control]
    looks = _looks(methods)
    with rc_context(STYLE):
        width = max(4.0, 2.7 * len(pairs) + 0.4)
        fig = figure(width, 1.75 * (len(scores) + len(measures)) + 0.9)
        axes = fig.subplots(len(scores) + len(measures), len(pairs), squeeze=False, sharex="col", sharey="row")
        for column, (inside, outside) in zip(axes.T, pairs, strict=True):
            own = rows[(rows["in_set"] == inside) & (rows["out_set"] == outside)]
            for ax, score in zip(column, (*scores, *measures), strict=True):
                value = "in_mean" if score in measures else "auroc"
                _draw(ax, own[own["score"] == score], value, looks, control)
                if value == "auroc":
                    ax.axhline(0.5, color="0.75", linewidth=0.8, zorder=0)
                    ax.set_ylim(-0.04, 1.04)
            column[0].set_title(f"{inside} → {outside}")
            column[-1].set_xlabel("updates")
            column[-1].xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for ax, score in zip(axes[:, 0], (*scores, *measures), strict=True):
            ax.set_ylabel(textwrap.fill(measures.get(score, f"AUROC of {score}"), 24))
        handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
        if control in set(rows["method"]):
            handles.append(Line2D([], [], label=control, **CONTROL))
        if rows.loc[rows["score"].isin(scores), "printed"].notna().any():
            handles.append(Line2D([], [], label="paper, at its end", **PAPER))
        columns = int(width / 1.8)  # an entry is as wide
        fig.legend(
            handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=7.5, handlelength=2.8
        )
        return fig


def _looks(methods: Sequence[str]) -> dict[str, dict[str, object]]:
    kinds = list(dict.fromkeys(name.split(", ")[0] for name in methods))
    ways = list(dict.fromkeys(", ".join(name.split(", ")[1:]) for name in methods))
    if len(ways) == 1:  # no kinds: every method has a colour of its own
        return {name: {"color": COLOURS[i % len(COLOURS)], "linestyle": "-"} for i, name in enumerate(methods)}
    return {
        name: {
            "color": COLOURS[kinds.index(name.split(", ")[0]) % len(COLOURS)],
            "linestyle": LINES[ways.index(", ".join(name.split(", ")[1:])) % len(LINES)],
        }
        for name in methods
    }


def _draw(ax: Axes, rows: pd.DataFrame, value: str, looks: Mapping[str, Mapping[str, object]], control: str) -> None:
    sign = -1 if value == "in_mean" else 1
    for name, look in looks.items():
        own = rows[rows["method"] == name]
        if own.empty:  # an unclipped line without points has no place, and the layout none for the axes
            continue
        means = sign * own.groupby("step")[value].mean()
        ax.plot(means.index, means.to_numpy(), linewidth=1.3, **look)
        last = own[own["step"] == own["step"].max()]
        ax.plot(last["step"], sign * last[value], ".", color=look["color"], markersize=4, clip_on=False)
    level = rows[rows["method"] == control]
    if len(level):
        ax.axhline(sign * level[value].mean(), **CONTROL)
    if value == "auroc":
        known = rows.loc[rows["printed"].notna(), "printed"].unique()
        if len(known):
            ax.plot([rows["step"].max()] * len(known), known, **PAPER)
