"""How a figure leaves: with its caption below it and the numbers behind it beside it.

Imports: workspace, its own folder.
"""

from __future__ import annotations

import importlib.metadata
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from matplotlib import rc_context
from matplotlib.figure import Figure

from oodlab import workspace
from oodlab.plotting.base import STYLE


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
    captions = [used.caption for used in data]
    stand_in = any(used.stand_in_for for used in data)
    folder = workspace.permitted(workspace.figures_folder(), stand_in=stand_in)
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
