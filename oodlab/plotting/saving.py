"""How a figure leaves: with its caption below it and the numbers behind it beside it.

Imports: workspace, its own folder.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import platform
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from matplotlib import rc_context
from matplotlib.figure import Figure

from oodlab import workspace
from oodlab.plotting.base import STYLE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Saved:
    """A figure on disk; a notebook shows it as an image."""

    png: Path
    json: Path

    def _repr_png_(self) -> bytes:
        return self.png.read_bytes()


class Studied(Protocol):
    """What a figure needs to know of the study behind it."""

    name: str
    profile: str

    def behind(self, rows: pd.DataFrame) -> Mapping[str, Any]:
        """Return the trainings behind rows by key."""


def save_figure(fig: Figure, study: Studied, rows: pd.DataFrame, *, part: str = "", note: str = "") -> Saved:
    """Write a figure of a study with a short caption, and beside it the rows it draws and what made them.

    Args:
        fig: Figure; a caption is added below it.
        study: Study at its profile.
        rows: Rows that are drawn, or behind what is drawn, as evaluate returns them.
        part: Further figure of the same notebook: `<notebook>-<part>`.
        note: Sentence of the caption on the drawing itself.

    Returns:
        Where both files are. A figure with a stand-in among its sets never replaces a committed one.
    """
    stand_in = bool(rows["stand_in_for"].astype(bool).any())
    folder = workspace.permitted(workspace.figures_folder(), stand_in=stand_in)
    stem = folder / f"{study.name}{'-' + part if part else ''}"
    seeds = sorted({int(seed) for seed in rows["seed"]})
    profiles, sources = (", ".join(dict.fromkeys(rows[name])) for name in ("profile", "source"))
    sets, items = _sets(rows), _items(rows)
    caption = (
        f"{study.name}, profile {profiles}, source {sources}, seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}; {'; '.join(filter(None, [sets, items]))}. {note}"
    ).strip()
    trainings = _trainings(study, rows)
    printed = rows[rows["printed"].notna()] if "printed" in rows else rows[:0]
    headline = None
    if len(printed):
        first = printed.iloc[0]
        metric = first["printed_metric"]
        metric = "aupr_in" if metric == "aupr" else metric  # in-distribution is a paper's positive class
        if metric in first:  # a number of the paper's that the rows have, too
            name = f"{first['printed_metric'].upper()} of {first['score']}, {first['method']}, {first['in_set']} → {first['out_set']}"
            headline = {"name": name, "value": float(first[metric]), "unit": "", "reported": float(first["printed"])}
    record = {
        "figure": stem.relative_to(folder).as_posix(),
        "caption": caption,
        "rows": rows.to_csv(index=False, float_format="%.7g").splitlines(),
        "headline": headline,
        "profile": study.profile,
        "source": sources,
        "seeds": seeds,
        "data": sets,
        "stand_in": stand_in,
        "seconds": round(sum(one["seconds"] for one in trainings), 1),
        "trainings": trainings,
        "versions": _versions(),
    }
    return _write(fig, stem, record, caption)


def _sets(rows: pd.DataFrame) -> str:
    """Say which sets are inside and, where any are, outside."""
    outs = rows["out_set"] if "out_set" in rows else [None] * len(rows)
    pairs: dict[str, dict[str, None]] = {}
    for inside, out in zip(rows["in_set"], outs, strict=True):
        pairs.setdefault(inside, {}).update({out: None} if isinstance(out, str) else {})
    return "; ".join(f"{inside} → {', '.join(outside)}" if outside else inside for inside, outside in pairs.items())


def _items(rows: pd.DataFrame) -> str:
    """Say how many test items of a set there are at most, where rows say it."""
    if not len(rows):
        return "no rows"
    most = rows["n_in"].max() if "n_in" in rows else float("nan")
    return f"{int(most):,} test items of a set at most" if most == most else ""


def _trainings(study: Studied, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return every training behind the rows, each once: recipe, key, seed, seconds, and where its rows were made."""
    recipes = study.behind(rows)
    found = {}
    for row in rows[rows["training"].astype(bool)].to_dict("records"):
        for key, seconds in zip(row["training"].split("+"), row["seconds_each"].split("+"), strict=True):
            recipe = recipes.get(key)
            found[key, row["seed"]] = {
                "name": recipe.name if recipe else "",
                "recipe": recipe.text.splitlines() if recipe else [],
                "key": key,
                "seed": int(row["seed"]),
                "seconds": float(seconds),
                **{name: row[name] for name in ("profile", "device", "precision", "machine", "made")},
            }
    return list(found.values())


def _versions() -> dict[str, str]:
    packages = ("oodlab", "torch", "numpy", "matplotlib")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def _write(fig: Figure, stem: Path, record: Mapping[str, Any], caption: str) -> Saved:
    """Add the caption, and write picture and record, each whole or not at all."""
    lines = textwrap.wrap(caption, int(fig.get_figwidth() * 21))  # characters of this size that fit into an inch
    with rc_context(STYLE):
        fig.set_figheight(fig.get_figheight() + 0.13 * len(lines))  # the caption takes nothing from the panels
        fig.supxlabel("\n".join(lines), fontsize=6.5, color="0.35", x=0.01, ha="left")
        picture = io.BytesIO()
        fig.savefig(picture, format="png", dpi=STYLE["savefig.dpi"], metadata={"Software": None})
    saved = Saved(Path(f"{stem}.png"), Path(f"{stem}.json"))
    sealed = {**record, "sha256": digests(record, picture.getvalue())}
    with workspace.only_writer(stem.parent):  # a second run of the same figure leaves its own pair, not half of it
        with workspace.atomic_file(saved.png) as stream:
            stream.write(picture.getvalue())
        workspace.write_json(saved.json, sealed)
    workspace.report("figure", png=str(saved.png), json=str(saved.json), headline=record["headline"])
    return saved


def digests(record: Mapping[str, Any], picture: bytes) -> dict[str, str]:
    """Return the SHA-256 of a figure's picture and of its record, without the digests themselves.

    Raises:
        ValueError: A number of the record is not finite.
    """
    own = {key: value for key, value in record.items() if key != "sha256"}
    read_back = json.loads(json.dumps(own, allow_nan=False))  # its keys are texts, its tuples lists
    text = json.dumps(read_back, sort_keys=True)
    return {"png": hashlib.sha256(picture).hexdigest(), "record": hashlib.sha256(text.encode()).hexdigest()}


def read_figure(file: Path) -> tuple[dict[str, Any], bytes]:
    """Read a figure's record and the picture beside it, and compare their digests where there are any.

    Args:
        file: The JSON that save_figure wrote.

    Raises:
        ValueError: The record is damaged, or the two are not of one drawing; the message says what to do.
    """
    try:
        picture, record = file.with_suffix(".png").read_bytes(), json.loads(file.read_text(encoding="utf-8"))
        wanted = record.get("sha256")
        for key in ("figure", "headline", "profile", "seconds"):
            record[key]
        found = digests(record, picture)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error}): draw its figure again.") from error
    if wanted not in (None, found):  # figures drawn before there were digests have none
        wrong = (
            " and ".join(key for key in found if found[key] != wanted.get(key))
            if isinstance(wanted, dict)
            else "digests"
        )
        raise ValueError(
            f"{file} is damaged, or beside the picture of another drawing ({wrong} differ): draw its figure again."
        )
    return record, picture
