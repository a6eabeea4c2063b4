"""Figures: one function per kind, all of them object-oriented (no pyplot, so threads may draw).

Every figure leaves through save_figure, which puts the caption below it and the
numbers behind it beside it.

Imports: workspace, grids.
"""

from __future__ import annotations

import base64
import html
import importlib.metadata
import io
import json
import math
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab import workspace
from oodlab.grids import GridDensity

# Okabe & Ito's palette: eight colours that colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
DENSITY_MAP = "viridis"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "savefig.dpi": 200,
}


class Setting(Protocol):
    """What a figure needs to know of the preset behind it."""

    name: str
    profile: str
    text: str
    hash: str
    shrinks: Mapping[str, str]


class Used(Protocol):
    """What a figure needs to know of a data set it used: a Split's info."""

    caption: str
    stand_in_for: str | None


@dataclass(frozen=True)
class Saved:
    """A figure on disk; a notebook shows it as an image."""

    png: Path
    json: Path

    def _repr_png_(self) -> bytes:
        return self.png.read_bytes()


@dataclass(frozen=True)
class Table:
    """Rows of a table, as HTML in a notebook and aligned text elsewhere.

    Attributes:
        rows: One mapping per row with the same keys, which are the column titles;
            floats are shown with `digits` decimals, None and NaN as a dash.
        digits: Decimals of floats.
    """

    rows: Sequence[Mapping[str, Any]]
    digits: int = 3

    def _cell(self, value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        return f"{value:.{self.digits}f}" if isinstance(value, float) else str(value)

    def _cells(self) -> list[list[str]]:
        return [list(self.rows[0]), *([self._cell(value) for value in row.values()] for row in self.rows)]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)

    def _repr_html_(self) -> str:
        head, *body = (
            "".join(f"<{tag} style='text-align:left'>{html.escape(cell)}</{tag}>" for cell in row)
            for tag, row in zip(["th"] + ["td"] * len(self.rows), self._cells(), strict=True)
        )
        return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of the house's style, inches."""
    with rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained", dpi=STYLE["figure.dpi"])
        fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
        return fig


def to_png(fig: Figure) -> bytes:
    """Return the figure as PNG bytes at screen resolution."""
    stream = io.BytesIO()
    with rc_context(STYLE):
        fig.savefig(stream, format="png", dpi=STYLE["figure.dpi"])
    return stream.getvalue()


def save_figure(
    fig: Figure,
    name: str,
    *,
    numbers: Mapping[str, Any],
    preset: Setting,
    seeds: Sequence[int],
    data: Sequence[Used],
    seconds: float,
    part: str = "",
    note: str = "",
    headline: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Saved:
    """Write a figure with its caption, and the numbers it draws, each whole or not at all.

    Args:
        fig: The figure; a caption is added below it.
        name: Experiment, `<paper>/<notebook>`; decides the path.
        numbers: What is drawn; finite numbers, text, lists and mappings.
        preset: The setting, at its profile.
        seeds: Seeds used.
        data: The info of each split used. A figure with a stand-in among them never
            replaces a committed one.
        seconds: Training time behind the numbers, summed over all trainings.
        part: Further figure of the same notebook: `<notebook>-<part>`.
        note: What the caption shall say of the drawing itself.
        headline: name, value, unit and reported (the paper's number or None) for summaries.
        parameters: The notebook's parameters.

    Returns:
        Where both files are.
    """
    folder = workspace.figures_folder()
    captions = [used.caption for used in data]
    stand_in = any(used.stand_in_for for used in data)
    if stand_in and folder == workspace.reference_figures():
        folder = workspace.runs_folder() / "figures"
    stem = folder / f"{name}{'-' + part if part else ''}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    seed_text = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    used = f"Data: {'; '.join(captions)}; {seed_text}."
    caption = " ".join(
        filter(None, [f"{preset.name}, profile {preset.profile}. {used}", note, preset.shrinks.get(preset.profile)])
    )
    record = {
        "figure": stem.relative_to(folder).as_posix(),
        "caption": caption,
        "numbers": numbers,
        "headline": headline,
        "profile": preset.profile,
        "parameters": dict(parameters or {}),
        "seeds": list(seeds),
        "data": captions,
        "stand_in": stand_in,
        "seconds": round(seconds, 1),
        "preset_hash": preset.hash,
        "preset": preset.text.splitlines(),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in ("oodlab", "torch", "numpy", "matplotlib")},
        },
    }
    lines = textwrap.wrap(caption, int(fig.get_figwidth() * 21))  # characters of this size that fit into an inch
    with rc_context(STYLE):
        fig.set_figheight(fig.get_figheight() + 0.13 * len(lines))  # the caption takes nothing from the panels
        fig.supxlabel("\n".join(lines), fontsize=6.5, color="0.35", x=0.01, ha="left")
        saved = Saved(Path(f"{stem}.png"), Path(f"{stem}.json"))
        with workspace.atomic_file(saved.png) as stream:
            fig.savefig(stream, format="png", dpi=STYLE["savefig.dpi"], metadata={"Software": None})
    workspace.write_json(saved.json, record)
    workspace.report("figure", png=str(saved.png), json=str(saved.json), headline=headline)
    return saved


# ------------------------------------------------------------------------------ kinds of figures


def draw_density(
    ax: Axes,
    grid: GridDensity,
    *,
    title: str = "",
    top: float = 0.15,
    shown: float = 4.5,
    points: ArrayLike | None = None,
    crosses: ArrayLike | None = None,
) -> None:
    """Draw a density on a plane with points over it.

    Args:
        ax: Where to draw.
        grid: The density.
        title: Above the panel.
        top: Density of the last colour; larger values share it.
        shown: Half the side of the part shown.
        points: Samples drawn as dots, (n, 2).
        crosses: Samples drawn as crosses, (n, 2).
    """
    edge = float(grid.axis[-1]) * len(grid.axis) / (len(grid.axis) - 1)  # pixels are centred on grid points
    ax.imshow(
        grid.density.numpy(),
        extent=(-edge, edge, -edge, edge),
        origin="lower",
        vmin=0,
        vmax=top,
        cmap=DENSITY_MAP,
        interpolation="bilinear",
    )
    if crosses is not None:
        x = np.asarray(crosses)
        ax.plot(x[:, 0], x[:, 1], "x", color="white", markersize=3, markeredgewidth=0.6, alpha=0.8)
    if points is not None:
        x = np.asarray(points)
        ax.plot(x[:, 0], x[:, 1], "o", color=COLOURS[1], markersize=2.6, markeredgecolor="white", markeredgewidth=0.3)
    ax.set(xlim=(-shown, shown), ylim=(-shown, shown), xticks=[-4, 0, 4], yticks=[-4, 0, 4], aspect="equal")
    ax.set_title(title)


def density_scale(fig: Figure, axes: Sequence[Axes]) -> None:
    """Add the colour scale that all density panels share."""
    bar = fig.colorbar(axes[0].images[0], ax=list(axes), shrink=0.8, aspect=30, extend="max", pad=0.01)
    bar.set_label("density (probability per unit area)")


def learned_densities(
    truth: GridDensity,
    learned: Sequence[Sequence[tuple[str, GridDensity]]],
    nll: Mapping[str, Sequence[float]],
    true_nll: float,
) -> Figure:
    """Draw the true density beside rows of learned ones, and all negative log-likelihoods.

    Args:
        truth: True density.
        learned: Two rows of (title, density).
        nll: Negative log-likelihoods per run, one per seed, nats.
        true_nll: Entropy of the truth, nats.
    """
    columns = 1 + len(learned[0])
    with rc_context(STYLE):
        fig = figure(2.0 * columns + 0.6, 4.7)
        axes = fig.subplots(2, columns)
        draw_density(axes[0, 0], truth, title=f"truth\nNLL {true_nll:.2f} nats")
        for row, panels in zip(axes, learned, strict=True):
            for ax, (title, grid) in zip(row[1:], panels, strict=True):
                draw_density(ax, grid, title=f"{title}\nNLL {np.mean(nll[title]):.2f} nats" if title in nll else title)
        for ax in [*axes[0], *axes[1, 1:]]:
            ax.set_xlabel("$x_1$" if ax.get_subplotspec().is_last_row() else "")
        axes[0, 0].set_ylabel("$x_2$")
        draw_runs(axes[1, 0], nll, reference=true_nll, xlabel="NLL on the box (nats), a dot per seed")
        density_scale(fig, [*axes[0], *axes[1, 1:]])
        return fig


def draw_runs(ax: Axes, values: Mapping[str, Sequence[float]], *, reference: float, xlabel: str) -> None:
    """Draw one row of dots per run, one dot per seed, with a reference line."""
    names = list(values)[::-1]
    for i, name in enumerate(names):
        ax.plot(values[name], [i] * len(values[name]), "o", markersize=3.5, color=COLOURS[0], alpha=0.8)
    ax.axvline(reference, color=COLOURS[1], linewidth=1)
    ax.text(reference, len(names) - 0.35, "truth", color=COLOURS[1], ha="center", va="bottom", fontsize=7)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)


def negatives_by_sampler(
    truth: GridDensity,
    columns: Sequence[tuple[str, GridDensity, ArrayLike]],
    data: ArrayLike,
) -> Figure:
    """Draw learned densities above their negatives, one column per sampler.

    Args:
        truth: True density, behind the negatives.
        columns: (title, learned density, negatives) per sampler.
        data: Training points, drawn as crosses.
    """
    with rc_context(STYLE):
        fig = figure(2.0 * len(columns) + 0.8, 4.6)
        axes = fig.subplots(2, len(columns), sharex=True, sharey=True, squeeze=False)
        for (above, below), (title, grid, negatives) in zip(axes.T, columns, strict=True):
            draw_density(above, grid, title=title)
            draw_density(below, truth, points=negatives, crosses=data)
            below.set_xlabel("$x_1$")
        axes[0, 0].set_ylabel("learned density\n$x_2$")
        axes[1, 0].set_ylabel("negatives (dots), data (crosses)\nover the true density\n$x_2$")
        density_scale(fig, list(axes.flat))
        return fig


def first_negatives(truth: GridDensity, model: GridDensity, columns: Sequence[tuple[str, ArrayLike]]) -> Figure:
    """Draw where samplers take a network to before any training.

    Args:
        truth: True density.
        model: Density of the untrained network.
        columns: (title, negatives) per sampler, drawn over the model's density.
    """
    with rc_context(STYLE):
        fig = figure(2.0 * (2 + len(columns)) + 0.8, 2.7)
        axes = fig.subplots(1, 2 + len(columns), sharex=True, sharey=True)
        draw_density(axes[0], truth, title="data")
        draw_density(axes[1], model, title="untrained network")
        for ax, (title, negatives) in zip(axes[2:], columns, strict=True):
            draw_density(ax, model, title=title, points=negatives)
        for ax in axes:
            ax.set_xlabel("$x_1$")
        axes[0].set_ylabel("$x_2$")
        density_scale(fig, list(axes))
        return fig


def live_density(
    grid: GridDensity, *, top: float, points: ArrayLike | None = None, starts: ArrayLike | None = None
) -> Figure:
    """Draw one density for a panel, with chain ends as dots and thin lines from their starts."""
    with rc_context(STYLE):
        fig = figure(4.3, 4.0)
        ax = fig.subplots()
        draw_density(ax, grid, top=top, shown=5.2, points=points)
        if points is not None and starts is not None:
            ends, begins = np.asarray(points), np.asarray(starts)
            ax.plot(
                np.stack([begins[:, 0], ends[:, 0]]),
                np.stack([begins[:, 1], ends[:, 1]]),
                color="white",
                linewidth=0.4,
                alpha=0.5,
            )
        ax.set(xlabel="$x_1$", ylabel="$x_2$")
        density_scale(fig, [ax])
        return fig


@dataclass(frozen=True)
class Gallery:
    """Every figure below a folder with its caption, headline and a link to its notebook.

    Attributes:
        folder: Written by save_figure.
    """

    folder: Path

    def _repr_html_(self) -> str:
        title = "Committed figures" if self.folder == workspace.reference_figures() else "Your own runs"
        files = [file for file in self.folder.rglob("*.json") if file.with_suffix(".png").exists()]
        entries = [f"<h2>{title}</h2>"]
        for file in sorted(files, key=lambda file: file.as_posix().removesuffix(".json")):
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                entries.append(f"<p>{html.escape(str(file))} is damaged: draw its figure again.</p>")
                continue
            picture = base64.b64encode(file.with_suffix(".png").read_bytes()).decode()
            name, headline = html.escape(record["figure"]), record["headline"]
            notebook = f"{record['figure'].split('-')[0]}.ipynb"
            if (workspace.checkout() or Path()).joinpath("notebooks", notebook).exists():
                name = f"<a href='{notebook}'>{name}</a>"
            number = f"{headline['name']}: {headline['value']:.3g} {headline['unit']}. " if headline else ""
            entries.append(
                f"<h3>{name}, profile {record['profile']}</h3>"
                f"<img src='data:image/png;base64,{picture}' style='max-width:900px;width:100%'>"
                f"<p>{html.escape(number)}{record['seconds']:.0f} s of training in all.</p>"
            )
        empty = f"<p>No figure in {html.escape(self.folder.name)} yet: run <code>make figures</code>.</p>"
        return "".join(entries) if files else empty


def gallery() -> list[Gallery]:
    """Return the galleries of the committed figures and of the user's own, as far as there are any."""
    folders = [workspace.reference_figures(), workspace.runs_folder() / "figures"]
    return [Gallery(folder) for folder in folders if folder is not None and folder.is_dir()]
