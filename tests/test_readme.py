"""What the README says of results is what the committed figures say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDS = sorted((ROOT / "figures").rglob("*.json"))


@pytest.mark.parametrize("file", [f for f in RECORDS if "-" not in f.stem], ids=lambda file: file.stem)
def test_the_row_of_a_figure_has_all_its_numbers(file: Path) -> None:
    record = json.loads(file.read_text(encoding="utf-8"))
    (row,) = [line for line in README.splitlines() if line.startswith("|") and f"`{record['figure']}`" in line]
    for line in record["numbers"]["table"]:
        assert f"{line['NLL (nats)']:.2f}" in row, line


def test_every_committed_figure_comes_from_real_data_at_a_full_profile() -> None:
    assert RECORDS
    for file in RECORDS:
        record = json.loads(file.read_text(encoding="utf-8"))
        assert record["profile"] in ("quick", "paper") and not record["stand_in"], file
        assert file.with_suffix(".png").exists()


def test_every_file_the_readme_names_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
