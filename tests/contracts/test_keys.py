"""Keys of the trainings and rows of `long`: where one changes, committed rows must be computed again, for hours.

A change that is meant: `python tests/contracts/test_keys.py` writes the table anew, and the rows are to be made again.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from oodlab import identity, workspace
from oodlab.studies import studies
from oodlab.study import Drawn
from oodlab.study.evaluate import _wanted

TABLE = Path(__file__).with_name("keys.csv")
COLUMNS = ("study", "source", "task", "method", "trainings", "rows")


def keys() -> Iterator[dict[str, str]]:
    """Yield the keys of every method: of its trainings by role, and a digest of those of its rows."""
    for name, study in studies().items():
        for source in study.sources:
            chosen = study.at("long", source=source)
            for task in chosen.tasks:
                for method in chosen.on(task):
                    trainings = [f"{role} {recipe.key}" for role, recipe in method.trainings(task).items()]
                    rows = (
                        [] if isinstance(task, Drawn) else sorted({one.key for one in _wanted(chosen, task, (method,))})
                    )
                    row = identity.digest(*rows)[:16] if rows else ""
                    yield dict(
                        zip(COLUMNS, (name, source, task.name, method.name, ", ".join(trainings), row), strict=True)
                    )


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have no files of any set on this machine: the committed digests stand for them."""
    monkeypatch.delenv("OODLAB_DATA", raising=False)
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path))


def test_no_training_and_no_row_of_long_has_changed_its_key(no_data: None) -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        before = list(csv.DictReader(file))
    now = list(keys())
    changed = [" / ".join(list(one.values())[:4]) for one in now if one not in before]
    assert not changed, f"committed rows of these are lost; if that is meant, see this file's head: {changed}"
    assert now == before


def test_every_committed_row_belongs_to_trainings_of_profile_long() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        known = {key for row in csv.DictReader(file) for key in row["trainings"].replace(",", "").split()}
    for file in sorted(workspace.reference_figures().rglob("*.long*.csv")):
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        behind = {key for joined in rows["training"] for key in joined.split("+") if key}
        assert behind <= known, file


if __name__ == "__main__":
    os.environ.pop("OODLAB_DATA", None)
    os.environ["OODLAB_CACHE"] = "no such folder"
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(keys())
    sys.stdout.write(f"{TABLE}\n")
