"""What a paper claims, as data, and the verdict of rows on it.

The rule.  A claim gives one signed number per seed (and partition), positive where it holds.
Reproduced: at least three seeds, all numbers positive, their mean above their standard
deviation (n - 1 in the denominator).  Partly: the mean is positive otherwise.  Not
reproduced: the mean is not positive.  Not tested: there are no rows.

Imports: pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED = "Reproduced", "Partly", "Not reproduced", "Not tested"
WORDS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED)
ENOUGH_SEEDS = 3


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    Attributes:
        sentence: The claim, as it would be true.
        number: number(rows of one profile) -> a signed number per seed, and partition where there are several:
            a Series whose index has a level "seed"; positive where the claim holds.
        where: Place in the paper, such as "table 4".
        measure: What the number is.
    """

    sentence: str
    number: Callable[[pd.DataFrame], pd.Series]
    where: str = ""
    measure: str = "Here"


@dataclass(frozen=True)
class Verdict:
    """What rows say of a claim.

    Attributes:
        claim: Claim.
        word: Reproduced, Partly, Not reproduced or Not tested.
        numbers: The signed numbers.
        seeds: Number of seeds among them.
        profile: Budget of the rows.
    """

    claim: Claim
    word: str
    numbers: pd.Series
    seeds: int
    profile: str

    @property
    def sentence(self) -> str:
        """The verdict in a sentence or two: the word, the claim and where it is made, the numbers, seeds and profile."""
        where = f" ({self.claim.where})" if self.claim.where else ""
        said = f"**{self.word}.** {self.claim.sentence.removesuffix('.')}{where}."
        if not len(self.numbers):
            return said
        each = ", ".join(f"{number:+.3f}" for number in self.numbers)
        mean = f"{self.numbers.mean():+.3f} in the mean of {each}" if len(self.numbers) > 1 else each
        return (
            f"{said} {self.claim.measure}: {mean}; {self.seeds} seed{'s' * (self.seeds != 1)}, profile {self.profile}."
        )


@dataclass(frozen=True)
class Verdicts:
    """What rows say of several claims; a notebook shows a line for each, the word first.

    Attributes:
        each: Verdicts, in the order of the claims.
    """

    each: tuple[Verdict, ...]

    @property
    def table(self) -> pd.DataFrame:
        """The verdicts as a table."""
        return pd.DataFrame(
            {
                "verdict": [one.word for one in self.each],
                "claim": [one.claim.sentence for one in self.each],
                "where": [one.claim.where for one in self.each],
                "mean": [one.numbers.mean() if len(one.numbers) else np.nan for one in self.each],
                "std": [one.numbers.std(ddof=1) if len(one.numbers) > 1 else np.nan for one in self.each],
                "seeds": [one.seeds for one in self.each],
                "profile": [one.profile for one in self.each],
            }
        )

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {one.sentence}" for one in self.each)


def decide(claim: Claim, rows: pd.DataFrame) -> Verdict:
    """Return the verdict of rows of one profile on a claim.

    Raises:
        ValueError: The rows are of several profiles, or the claim's numbers have no seeds.
        FloatingPointError: A number is not finite.
    """
    profiles = sorted(set(rows["profile"])) if len(rows) else []
    if len(profiles) > 1:
        raise ValueError(
            f"decide expects rows of one profile, got {', '.join(profiles)}: a verdict mixes no budgets; take the largest."
        )
    for column, own in _kinds(rows).items():
        if not np.isfinite(own).all():
            raise FloatingPointError(f"decide expects finite {column} for {claim.sentence!r}, got {own.tolist()}.")
    numbers = claim.number(rows).dropna() if len(rows) else pd.Series(dtype=float)  # of a seed without partner: none
    profile = profiles[0] if profiles else ""
    if not len(numbers):
        return Verdict(claim, NOT_TESTED, numbers, 0, profile)
    if "seed" not in numbers.index.names:
        raise ValueError(
            f"decide expects numbers by seed, got an index of {list(numbers.index.names)}: keep 'seed' where {claim.sentence!r} "
            "groups its rows."
        )
    if not np.isfinite(numbers).all():
        raise FloatingPointError(f"decide expects finite numbers of {claim.sentence!r}, got {numbers.tolist()}.")
    seeds = numbers.index.get_level_values("seed").nunique()
    mean = numbers.mean()
    if mean <= 0:
        word = NOT_REPRODUCED
    elif seeds >= ENOUGH_SEEDS and (numbers > 0).all() and mean > numbers.std(ddof=1):
        word = REPRODUCED
    else:
        word = PARTLY
    return Verdict(claim, word, numbers, seeds, profile)


def _kinds(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the numbers of both kinds of rows: AUROCs of scores, and values of measured quantities."""
    is_measured = rows["quantity"].notna() if "quantity" in rows else pd.Series(False, index=rows.index)
    kinds = {"AUROCs": rows.loc[~is_measured, "auroc"]} if (~is_measured).any() else {}
    return {**kinds, "values": rows.loc[is_measured, "value"]} if is_measured.any() else kinds


def verdicts(claims: Sequence[Claim], rows: pd.DataFrame) -> Verdicts:
    """Return the verdicts on some claims.

    Args:
        claims: Claims.
        rows: Rows as evaluate returns them, of one profile.
    """
    return Verdicts(tuple(decide(claim, rows) for claim in claims))


def overall(each: Sequence[Verdict]) -> str:
    """Return one word for several verdicts: the word that all have, Partly where they differ.

    Verdicts on claims that no rows test are left out; Not tested means that there are no others.
    """
    words = {one.word for one in each} - {NOT_TESTED}
    if not words:
        return NOT_TESTED
    return words.pop() if len(words) == 1 else PARTLY
