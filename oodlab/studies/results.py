"""Results of all studies: the papers' printed numbers with ours beside them, and the verdicts on their claims.

Everything here is computed from the committed figures' records and the kept rows beside them;
nothing is trained, and no number or verdict is typed.

Imports: pandas, metrics, workspace, data's table of sets, study, the rooms' settings.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oodlab import metrics, workspace
from oodlab.data import digests
from oodlab.data.sets import find_entry
from oodlab.studies import studies
from oodlab.study import PROFILES, Study, Verdict, decide, earlier, overall, printed_numbers
from oodlab.study import rows as kept_rows
from oodlab.study.claims import WORDS

FOUND = ("our_method", "ours", "spread", "seeds", "profile", "source", "n_in", "n_out", "updates", "sets", "figure")
WHOLE, PART = "whole", "part"
FIELDS = ("table", "method", "setting", "in_set", "out_set", "metric")  # what a printed number is of
AGAIN = {("ebm", "table1"): "table5", ("ebm", "table6"): "table5"}  # table 1 has numbers of tables 5 and 6 once more


@dataclass(frozen=True)
class Drawn:
    """What is known of a study: its figures' records, and all rows behind them.

    Attributes:
        study: Study.
        records: Records of its committed figures, the main figure first.
        rows: Rows of scores and measured numbers, one per key, seed and profile; `figure` names the figure of a row.
    """

    study: Study
    records: tuple[dict[str, Any], ...]
    rows: pd.DataFrame

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Verdict on each claim, from the largest profile whose rows test it."""
        found = []
        sizes = [profile for profile in reversed(PROFILES) if profile in set(self.rows["profile"])]
        for claim in self.study.claims:
            each = [decide(claim, self.rows[self.rows["profile"] == profile]) for profile in sizes]
            found.append(next((one for one in each if one.seeds), decide(claim, self.rows[:0])))
        return tuple(found)

    @property
    def word(self) -> str:
        """One word for the whole study; see study.overall."""
        return overall(self.verdicts)


def drawn(figures: Path) -> list[Drawn]:
    """Return what is known of every study.

    Args:
        figures: Folder of the committed figures.
    """
    found = []
    for name, study in studies().items():
        place = figures / name
        files = [place.with_suffix(".json"), *sorted(place.parent.glob(f"{place.name}-*.json"), key=_stem)]
        records = tuple(json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file())
        found.append(Drawn(study, records, _rows(study, records, figures)))
    return found


def _stem(file: Path) -> str:
    return file.stem


def _rows(study: Study, records: Sequence[dict[str, Any]], figures: Path) -> pd.DataFrame:
    """Return the rows behind a study's figures, then those that are kept and in no figure."""
    frames = []
    for record in records:
        frame = _frame("\n".join(record["rows"]))
        frames.append(frame.assign(figure=record["figure"]))
    for profile in kept_rows.COMMITTED:
        for file in sorted((figures / study.name).parent.glob(f"{Path(study.name).name}*.{profile}*.csv")):
            frames.append(_frame(file.read_text(encoding="utf-8")).assign(figure=""))
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*kept_rows.COLUMNS, "figure"])
    rows = rows[rows["stand_in_for"] == ""]
    quantity = rows["quantity"].fillna("") if "quantity" in rows else ""
    rows = rows.assign(of=quantity).drop_duplicates(["key", "seed", "of", "source", "method"], keep="first")
    lone = rows[rows["figure"] == ""]
    old = {key for profile in set(lone["profile"]) for key in earlier(study.at(profile))["key"]}
    return rows[(rows["figure"] != "") | ~rows["key"].isin(old)].drop(columns="of").reset_index(drop=True)


def _frame(text: str) -> pd.DataFrame:
    """Read rows; texts stay texts, empty numbers are NaN."""
    head = next(csv.reader([text.partition("\n")[0]]))
    numbers = {name: [""] for name in head if name not in kept_rows.TEXTS}
    return pd.read_csv(io.StringIO(text), dtype=kept_rows.TEXTS, keep_default_na=False, na_values=numbers)


def overview(figures: Path | None = None) -> pd.DataFrame:
    """Return how the papers' claims fare: a line per study with its word, and how many claims have which verdict.

    Args:
        figures: Folder of the committed figures; None takes the checkout's.
    """
    folder = figures or workspace.reference_figures()
    if folder is None:
        raise ValueError(
            "overview expects a folder of figures, got none: an installed package has no committed ones; name the folder."
        )
    lines = []
    for one in drawn(folder):
        words = [verdict.word for verdict in one.verdicts]
        each = {word: words.count(word) for word in WORDS}
        lines.append({"notebook": one.study.name, "in a word": one.word, **each})
    return pd.DataFrame(lines).set_index("notebook")


# ------------------------------------------------------------------------ beside the printed numbers


def beside(known: Sequence[Drawn]) -> pd.DataFrame:
    """Return every number that a paper prints, with ours where there is one.

    A number has a line for each profile, source and method (our_method, with its score) that has the same
    quantity, the largest profile first, and one empty line where there is none. ours is the mean over seeds, spread their standard
    deviation (n - 1), n_in and n_out the test items, updates those of the training; `sets` is "part"
    where a set on disk has fewer items than the complete one.
    """
    ours: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in known:
        for place, found in _ours(one):
            ours.setdefault(place, []).append(found)
    lines = []
    for number in metrics.all_reported():
        found = sorted(
            ours.get(_place(number), []), key=lambda line: (-PROFILES.index(line["profile"]), line["source"])
        )
        printed = {
            **{name: getattr(number, name) for name in ("paper", *FIELDS)},
            "printed": f"{number.bound}{number.value:g}",
            "printed_std": number.std,
        }
        lines += [{**printed, **line} for line in found or [{}]]
    table = pd.DataFrame(lines, columns=[*lines[0], *(name for name in FOUND if name not in lines[0])])
    whole = ("seeds", "n_in", "n_out", "updates")
    return table.astype(dict.fromkeys(whole, "Int64"))


def counts(table: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many numbers are printed, how many have ours beside them, and how many ours on a part of a set."""
    number = table.groupby(["paper", *FIELDS], dropna=False, sort=False)["sets"]
    best = number.agg(lambda sets: WHOLE if WHOLE in set(sets) else PART if PART in set(sets) else "")
    printed = len(metrics.all_reported())
    return printed, int((best == WHOLE).sum()), int((best == PART).sum())


def _place(number: metrics.Reported) -> tuple[str, ...]:
    """Return what a printed number is of; a number that a paper prints in two tables has one place."""
    table = AGAIN.get((number.paper, number.table), number.table)
    return (number.paper, table, *(getattr(number, name) for name in FIELDS[1:]))


def _ours(one: Drawn) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the place of a printed number, and ours."""
    rows = one.rows
    if "score" not in rows:
        return
    rows = rows[rows["score"].notna()]
    for (profile, source), own in rows.groupby(["profile", "source"], sort=False):
        study = one.study.at(profile, source=source)
        numbers = printed_numbers(study, own)
        own = own.assign(place=[_place(number) if number else None for number in numbers])
        for (place, method, score), group in own[own["place"].notna()].groupby(
            ["place", "method", "score"], sort=False
        ):
            metric = "aupr_in" if place[-1] == "aupr" else place[-1]  # in-distribution is a paper's positive class
            if metric not in group:
                continue
            if group["seed"].duplicated().any():
                raise ValueError(
                    f"{study.name} expects one number per seed beside {' '.join(place)}, got {len(group)} of "
                    f"{group['seed'].nunique()} seeds: its printed() names the number for several rows."
                )
            title = method if score in method else f"{method}: {score}"
            yield place, _line(group.set_index("seed")[metric], group, title)
        for number, numbers in study.derived(own):
            yield _place(number), _line(numbers, own[own["in_set"].str.startswith(number.in_set)], "")


def _line(numbers: pd.Series, rows: pd.DataFrame, title: str) -> dict[str, Any]:
    """Return what the table says of our number: its mean over seeds, and the rows behind it."""
    pairs = rows[["in_set", "out_set"]].drop_duplicates().itertuples(index=False)
    return {
        "our_method": title,
        "ours": numbers.mean(),
        "spread": numbers.std(ddof=1) if len(numbers) > 1 else np.nan,
        "seeds": len(numbers),
        **{name: rows[name].iloc[0] for name in ("profile", "source", "figure")},
        **{name: rows[name].max() for name in ("n_in", "n_out")},
        "updates": rows["step"].max(),
        "sets": PART if any(_of_part(*pair) for pair in pairs) else WHOLE,
    }


def _of_part(in_set: str, out_set: str) -> bool:
    """Say whether the committed rows of a pair of sets were made on a part of one of them, by the table of digests."""
    inside = in_set.partition(" without ")[0]
    stored = digests.committed()
    return any(
        one["set"] in (inside, out_set) and int(one["n"]) < find_entry(one["set"]).sizes[one["part"]]
        for one in stored
        if one["set"] == inside or one["part"] in ("test", "all")
    )


# ------------------------------------------------------------------------------- figures/README.md


def gallery(known: Sequence[Drawn], table: pd.DataFrame) -> str:
    """Return the text of figures/README.md: each study's pictures, verdicts with their numbers, and caveats."""
    printed, ours, parts = counts(table)
    lines = [
        "# Figures and results",
        "",
        "Written by `oodlab results` from the figures' records and the kept rows; do not edit.",
        "",
        f"**{ours:,} of {printed:,} printed numbers have ours beside them** in [`results.csv`](results.csv): the same "
        "method, sets and metric, at whatever size; profile, updates, test items and seeds stand in its columns. "
        f"{parts:,} more have ours on a part of a set (`sets` is `part`).",
        "",
        "A verdict is computed from one signed number per seed, positive where the claim holds. Reproduced: at least three "
        "seeds, all positive, mean above their standard deviation. Partly: the mean is positive otherwise. Not reproduced: "
        "it is not. Not tested: no rows. A study's word is that of all its claims, Partly where they differ.",
    ]
    for one in known:
        lines += ["", *_section(one)]
    return "\n".join(lines) + "\n"


def _section(one: Drawn) -> list[str]:
    study = one.study
    lines = [f"## [{study.name}](../notebooks/{study.name}.ipynb): {one.word}", ""]
    for record in one.records:
        picture = f"{record['figure']}.png"
        lines += [f"![{record['figure']}]({picture})", "", f"*{record['caption']}*", ""]
    lines += ["| verdict | claim | where | number | mean | by seed | profile |", "|---|---|---|---|---|---|---|"]
    for verdict in one.verdicts:
        claim, numbers = verdict.claim, verdict.numbers
        mean = f"{numbers.mean():+.3g}" if len(numbers) else ""
        spread = f" ± {numbers.std(ddof=1):.2g}" if len(numbers) > 1 else ""
        each = ", ".join(f"{number:+.3g}" for number in numbers) if len(numbers) <= 6 else f"{len(numbers)} numbers"
        seeds = f"{each}; {verdict.seeds} seed{'s' * (verdict.seeds != 1)}" if len(numbers) else ""
        cells = (verdict.word, claim.sentence, claim.where, claim.measure, mean + spread, seeds, verdict.profile)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    sizes = {(record["profile"], record["source"]): None for record in one.records}
    caveats = []
    for profile, source in sizes:
        source = source if source in study.sources else study.sources[0]
        shrinks = study.at(profile, source=source).shrinks
        caveats += [f"`{profile}` is not the paper's size: {shrinks}."] if shrinks else []
    caveats += study.unstated
    return [*lines, "", "Caveats:", "", *(f"- {caveat}" for caveat in dict.fromkeys(caveats))]


# ------------------------------------------------------------------------------------ all three files


BEGIN, END = "<!-- notebooks: written by `oodlab results` -->", "<!-- end -->"


def notebooks_table(known: Sequence[Drawn], described: Sequence[tuple[str, str, str]]) -> str:
    """Return the README's table of notebooks.

    Args:
        known: What is known of every study.
        described: Name, title and time at quick of each notebook, in the table's order.
    """
    by_name = {one.study.name: one for one in known}
    lines = ["| | question | minutes at `quick` | the papers' claims |", "|---|---|---|---|"]
    for name, title, time in described:
        one = by_name[name]
        picture = f'<img src="figures/{one.records[0]["figure"]}.png" width="150">' if one.records else ""
        lines.append(f"| {picture} | [`{name}`](notebooks/{name}.ipynb) {title} | {time} | {one.word} |")
    return "\n".join(lines)


def files(root: Path, described: Sequence[tuple[str, str, str]]) -> dict[Path, str]:
    """Return what the generated files hold, by path: figures/results.csv, figures/README.md, README.md.

    Args:
        root: Folder of the checkout.
        described: Name, title and time at quick of each notebook, in the order of the README's table.
    """
    known = drawn(root / "figures")
    table = beside(known)
    readme = (root / "README.md").read_text(encoding="utf-8")
    if BEGIN not in readme or END not in readme:
        raise ValueError(
            f"README.md expects the lines {BEGIN} and {END} around its table of notebooks, got none: add them."
        )
    before, after = readme.partition(BEGIN)[0], readme.partition(END)[2]
    return {
        root / "figures/results.csv": table.to_csv(index=False, float_format="%.6g"),
        root / "figures/README.md": gallery(known, table),
        root / "README.md": f"{before}{BEGIN}\n{notebooks_table(known, described)}\n{END}{after}",
    }
