"""Generated results are up to date with what is committed; READMEs are short, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from oodlab import data, metrics
from oodlab.batch.command import described
from oodlab.plotting.saving import read_figure
from oodlab.studies import results, studies
from oodlab.study import Claim, Verdict, overall

ROOT = Path(__file__).resolve().parents[2]
OTHERS = (".", "runs", "build", "shared")  # folders that are not the project's
READMES = sorted(file for file in ROOT.rglob("README.md") if not file.relative_to(ROOT).as_posix().startswith(OTHERS))


@pytest.fixture(scope="module")
def known() -> list[results.Drawn]:
    return results.drawn(ROOT / "figures")


@pytest.fixture(scope="module")
def table(known: list[results.Drawn]) -> pd.DataFrame:
    return results.beside(known)


def test_the_committed_results_are_those_of_the_committed_figures_and_rows() -> None:
    for file, text in results.files(ROOT, described(ROOT / "notebooks")).items():
        assert file.read_text(encoding="utf-8") == text, f"{file.relative_to(ROOT)} is stale: run `oodlab results`"


def test_every_printed_number_has_a_line_and_the_largest_profile_stands_first(table: pd.DataFrame) -> None:
    what = ["paper", *results.FIELDS]
    lines = table.groupby(what, dropna=False, sort=False)
    printed = {tuple(getattr(one, name) for name in what) for one in metrics.all_reported()}
    assert {place for place, _ in lines} == printed
    sizes = {"quick": 0, "long": 1, "full": 2}
    for place, group in lines:
        order = group["profile"].dropna().map(sizes)
        assert order.is_monotonic_decreasing, place
        assert len(group) == 1 or group["ours"].notna().all(), place


def test_a_number_is_the_mean_of_the_rows_of_its_figure(table: pd.DataFrame, known: list[results.Drawn]) -> None:
    rows = next(one.rows for one in known if one.study.name == "nae/holdout_digits")
    own = rows[(rows["score"] == "NAE-OMI") & (rows["in_set"] == "mnist without 9") & (rows["profile"] == "long")]
    last = own[own["step"] == own["step"].max()]["auroc"]
    line = table[(table["table"] == "table1") & (table["method"] == "NAE-OMI") & (table["out_set"] == "mnist_only_9")]
    line = line[line["figure"] == "nae/holdout_digits"].iloc[0]
    assert line["ours"] == pytest.approx(last.mean()) and line["seeds"] == len(last) == 3
    assert line["spread"] == pytest.approx(last.std(ddof=1)) and line["sets"] == "whole"


def test_numbers_on_a_part_of_a_set_are_marked_and_counted_apart(table: pd.DataFrame) -> None:
    ours = table[table["ours"].notna()]
    assert set(ours.loc[ours["in_set"] == "sensorless", "sets"]) == {"part"}, "2,200 of 58,509 rows"
    assert set(ours.loc[ours["out_set"] == "kmnist", "sets"]) == {"whole"}
    printed, whole, parts = results.counts(table)
    assert printed == len(metrics.all_reported()) == 1516
    places = ours.drop_duplicates(["paper", *results.FIELDS])
    assert whole + parts == len(places) and whole and parts


def test_a_number_that_a_paper_prints_in_two_tables_has_ours_in_both(table: pd.DataFrame) -> None:
    """Tables 1 and 5 of ebm both print the AUPR of CD without labels on kmnist."""
    both = table[(table["paper"] == "ebm") & (table["method"] == "CD") & (table["out_set"] == "kmnist")]
    both = both[(both["in_set"] == "fashion_mnist") & (both["setting"] == "")]
    assert set(both["table"]) == {"table1", "table5"} and both["ours"].nunique() == 1


def test_a_number_that_is_computed_from_several_rows_stands_beside_its_own_table_only(
    table: pd.DataFrame, known: list[results.Drawn]
) -> None:
    """Table 3 of ebm prints relative changes of the same sets under the same names, for other reasons."""
    ebm = table[(table["paper"] == "ebm") & (table["in_set"] == "fashion_mnist") & (table["method"] == "CD")]
    rows = next(one.rows for one in known if one.study.name == "ebm/gamma_sweep")
    (claim,) = [
        one for one in studies()["ebm/gamma_sweep"].claims if "natural outside sets, CD, fashion" in one.sentence
    ]
    line = ebm[(ebm["table"] == "table2") & ebm["out_set"].str.startswith("natural")].iloc[0]
    assert line["ours"] == pytest.approx(claim.number(rows).mean())
    assert ebm.loc[ebm["table"] == "table3", "ours"].isna().all()


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["Reproduced", "Reproduced", "Not tested"], "Reproduced"),
        (["Not reproduced", "Not reproduced"], "Not reproduced"),
        (["Reproduced", "Not reproduced"], "Partly"),
        (["Partly"], "Partly"),
        (["Not tested"], "Not tested"),
        ([], "Not tested"),
    ],
)
def test_the_word_of_a_study_is_that_of_all_tested_claims_or_partly(words: list[str], word: str) -> None:
    claim = Claim("c", lambda rows: rows)
    assert overall([Verdict(claim, one, pd.Series(dtype=float), 0, "") for one in words]) == word


def test_every_study_has_claims_and_a_committed_figure(known: list[results.Drawn]) -> None:
    assert [one.study.name for one in known] == list(studies())
    for one in known:
        assert one.study.claims and one.records, one.study.name


def test_every_committed_figure_comes_from_real_data_at_quick_or_more() -> None:
    files = sorted((ROOT / "figures").rglob("*.json"))
    assert files
    for file in files:
        record, _ = read_figure(file)
        assert record["profile"] in ("quick", "long", "full") and not record["stand_in"], file


def test_the_main_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8192


@pytest.mark.parametrize("readme", READMES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_every_file_a_readme_links_to_or_shows_exists(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text) + re.findall(r'<img src="([^"]+)"', text)
    for link in links:
        assert (readme.parent / link).exists(), link


def test_the_readme_of_the_data_has_every_set_with_its_licence() -> None:
    text = (ROOT / "oodlab/data/README.md").read_text(encoding="utf-8")
    for entry in data.table():
        assert re.search(rf"\| `{entry.name}` \|.*\| {re.escape(entry.licence)} \|", text), entry.name
