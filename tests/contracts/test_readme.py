"""Results stated in the README agree with the committed figures."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDS = sorted((ROOT / "figures").rglob("*.json"))


def numbers_in(value: object) -> Iterator[float]:
    """Yield every number of a record, wherever it stands."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def rows_of(record: dict) -> pd.DataFrame:
    return pd.read_csv(io.StringIO("\n".join(record["rows"])))


def row_of(figure: str) -> str:
    (row,) = [line for line in README.splitlines() if line.startswith("|") and f"`{figure}`" in line]
    return row


@pytest.mark.parametrize("figure", sorted({f.stem.split("-")[0] for f in RECORDS}))
def test_every_result_in_a_row_of_the_readme_is_in_the_records_of_its_figures(figure: str) -> None:
    records = [json.loads(f.read_text(encoding="utf-8")) for f in RECORDS if f.stem.split("-")[0] == figure]
    name = f"{records[0]['figure'].split('-')[0]}"
    ours = row_of(name).split("|")[-3]
    tables = [rows_of(record).to_dict("records") for record in records]
    tables += [record["headline"] for record in records]
    known = list(numbers_in(tables))
    said = re.findall(r"(?<![\d.])[-−]?\d+\.\d+", ours)
    assert said, f"the row of {name} states no result"
    for text in said:
        decimals = len(text.split(".")[1])
        wanted = float(text.replace("−", "-"))
        assert any(round(number, decimals) == wanted for number in known), f"{text} of {name}"


def test_the_readmes_row_of_the_eight_gaussians_has_every_method() -> None:
    record = json.loads((ROOT / "figures/nae/eight_gaussians.json").read_text(encoding="utf-8"))
    rows = rows_of(record)
    for row in rows[rows["quantity"] == "NLL"].itertuples():
        assert f"{row.value:.2f}" in row_of("nae/eight_gaussians"), (row.method, row.seed)


def test_every_committed_figure_comes_from_real_data_at_a_full_profile() -> None:
    assert RECORDS
    for file in RECORDS:
        record = json.loads(file.read_text(encoding="utf-8"))
        assert record["profile"] in ("quick", "long", "full") and not record["stand_in"], file
        assert file.with_suffix(".png").exists()


def test_every_file_the_readme_names_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
