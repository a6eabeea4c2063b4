"""Rows that are kept: one csv file per notebook and profile, looked up by key.

A row is known by its key and its seed.  A row of a second machine stays beside the first and
does not count; its largest difference is shown.  Rows whose key today's code no longer makes
stay in the file, and no table shows them unless it is asked for `earlier` ones.

Numbers that are no metrics of a score (study.measured) lie beside them in files
`<notebook>-numbers.<profile>*.csv`, under the same rules.

`device` and `precision` are those of the training that a score uses, `machine` and `made` those of
the row itself.

Files of the profiles long and full lie beside the committed figures, those of the others
below the runs folder.  Further files `<notebook>.<profile>*.csv` beside them, as a GPU's,
join by lying there.

Imports: pandas, workspace.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oodlab import workspace

METRICS = ("auroc", "aupr_in", "aupr_out", "tnr_at_95tpr")  # of those of metrics.ood_row
COLUMNS = (
    *("method", "score", "in_set", "out_set", "seed", "step", "group", "n_in", "n_out"),
    *("auroc", "auroc_se", *METRICS[1:]),
    *("in_mean", "in_q10", "in_q50", "in_q90", "out_mean", "out_q10", "out_q50", "out_q90"),
    *("profile", "source", "stand_in_for", "device", "precision", "machine", "made"),
    *("seconds", "seconds_each", "training", "key"),
)
NUMBERED = (
    *("method", "in_set", "seed", "quantity", "value"),
    *("profile", "source", "stand_in_for", "device", "precision", "machine", "made"),
    *("seconds", "seconds_each", "training", "key"),
)
TEXTS = dict.fromkeys(
    (
        "method",
        "quantity",
        "score",
        "in_set",
        "out_set",
        "profile",
        "source",
        "stand_in_for",
        "device",
        "precision",
        "machine",
        "made",
        "seconds_each",
        "training",
        "key",
    ),
    str,
)
SAME = ("key", "seed", "machine", "quantity")  # what tells rows of a file apart, of those columns that it has
COMMITTED = ("long", "full")


def files(name: str, profile: str) -> list[Path]:
    """Return the files with rows of a study at a profile, committed ones first."""
    found: list[Path] = []
    for folder in workspace.rows_folders():
        found += sorted((folder / name).parent.glob(f"{(folder / name).name}.{profile}*.csv"))
    return found


def target(name: str, profile: str, *, stand_in: bool = False) -> Path:
    """Return the file that new rows go to; those of a stand-in's data are never committed."""
    folders = workspace.rows_folders()
    folder = folders[0] if profile in COMMITTED and not stand_in else folders[-1]
    return folder / f"{name}.{profile}.csv"


def read(name: str, profile: str, columns: tuple[str, ...] = COLUMNS) -> pd.DataFrame:
    """Return all kept rows of a study at a profile, those of older code and other machines among them.

    Raises:
        ValueError: A file is damaged.
    """
    frames = [_read(file, columns) for file in files(_titled(name, columns), profile)]
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


def write(
    name: str,
    profile: str,
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, ...] = COLUMNS,
    *,
    stand_in: bool = False,
) -> None:
    """Add rows to a study's file, in place of those of the same key, seed and machine."""
    file = target(_titled(name, columns), profile, stand_in=stand_in)
    with workspace.only_writer(file.parent):
        frame = pd.DataFrame(rows, columns=list(columns))
        if file.is_file():
            before = _read(file, columns)
            frame = pd.concat([before, frame], ignore_index=True) if len(before) else frame
        frame = frame.drop_duplicates([same for same in SAME if same in columns], keep="last")
        with workspace.atomic_file(file) as stream:
            stream.write(frame.to_csv(index=False, float_format="%.7g").encode())


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per key and seed, the first; `differs` is the largest difference of AUROC to another machine's."""
    spread = rows.groupby(["key", "seed"])["auroc"].agg(
        lambda values: values.max() - values.min() if len(values) > 1 else None
    )
    kept = rows.drop_duplicates(["key", "seed"], keep="first").copy()
    kept["differs"] = [spread.get((key, seed)) for key, seed in zip(kept["key"], kept["seed"], strict=True)]
    return kept


def machine() -> str:
    """Say what machine this is: processor and cores, no name of it."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores"


def today() -> str:
    """Return the date, as rows have it."""
    return datetime.date.today().isoformat()


def _titled(name: str, columns: tuple[str, ...]) -> str:
    return name if columns == COLUMNS else f"{name}-numbers"


def _finite(values: pd.Series, name: str) -> bool:
    """Say whether a column holds finite numbers; a standard error may be unknown."""
    if not pd.api.types.is_numeric_dtype(values):
        return False
    return bool(np.isfinite(values.dropna() if name == "auroc_se" else values).all())


def _read(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, dtype=TEXTS, keep_default_na=False, na_values={"auroc_se": [""]})
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} expects rows of a study, got a damaged file ({error}): take it from version control, or delete it."
        ) from error
    numbers = [name for name in columns if name not in TEXTS and name in frame.columns]
    strange = [name for name in numbers if not _finite(frame[name], name)]
    if strange:
        raise ValueError(
            f"{file} expects finite numbers, got others in {', '.join(strange)}: take it from version control, or delete it."
        )
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(
            f"{file} expects the columns of a study's rows, got none named {', '.join(missing)}: take it from version control, "
            "or delete it."
        )
    return frame[list(columns)]
