"""Rows of a split: the fixed train/val/test rule, class hold-outs, seeded subsamples.

Permutations come from numpy.random.RandomState, whose stream is frozen: the
same seed names the same rows on every machine and under every numpy.

Imports: oodlab.checks.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

import numpy as np

from oodlab import checks

SPLIT_SEED = 1  # ebm's released code splits its tables 80/10/10 with numpy seed 1
SPLITS = ("train", "val", "train-val", "test", "all")

Classes = int | str | Sequence[int | str]


def tenths(y: np.ndarray) -> np.ndarray:
    """Assign N rows to tenths 0..9, at random with a fixed seed, so that every class is spread evenly.

    Args:
        y: Labels, (N,); if all are equal (e.g. -1), the assignment is a plain permutation.

    Returns:
        The tenth of each row, (N,) int64. Tenths differ by at most one row in
        size, over all rows and within each class.

    Since rows are assigned class by class, a table without its held-out class is
    split 80/10/10, too, and no row ever changes its part.
    """
    shuffled = np.random.RandomState(SPLIT_SEED).permutation(len(y))
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    dealt = np.empty(len(y), dtype=np.int64)
    dealt[by_class] = np.arange(len(y)) % 10
    return dealt


def part_of(split: str, stems: Collection[str]) -> tuple[str, range] | None:
    """Return which stored part a split is read from, and which tenths of its rows.

    Args:
        split: One of SPLITS.
        stems: The parts that are stored: train, val, test and/or all.

    Returns:
        (stem, tenths), or None if the stored parts cannot give this split.

    The rule. A stored part is taken whole. `all` gives 80/10/10: train is
    tenths 0-7, val 8, test 9. `train` is the whole training part; where there
    is no val of its own, `val` is tenth 9 of train and `train-val` (train minus
    val) the other nine: train on `train-val` when val selects anything.
    """
    everything = range(10)
    if split in stems:
        return split, everything
    if "all" in stems:
        parts = {"train": range(8), "train-val": range(8), "val": range(8, 9), "test": range(9, 10)}
        return "all", parts[split]
    if "train" in stems and split == "train-val":
        return "train", everything if "val" in stems else range(9)
    if "train" in stems and split == "val":
        return "train", range(9, 10)
    return None


def class_numbers(classes: Classes, class_names: tuple[str, ...], first: int) -> tuple[int, ...]:
    """Return classes, one or several by number or name, as sorted numbers; the first name has the number `first`."""
    several = (classes,) if isinstance(classes, (int, str, np.integer)) or not np.iterable(classes) else tuple(classes)
    numbers = set()
    for one in several:
        if isinstance(one, str):
            if one not in class_names:
                near = difflib.get_close_matches(one, class_names, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}?" if near else f"the names are {list(class_names)}."
                raise ValueError(f"load expects a class of the set, got {one!r}: {hint}")
            one = first + class_names.index(one)
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)):
            raise ValueError(
                f"load expects classes by number or name, got {one!r}: write for example without=(1, 'cat')."
            )
        numbers.add(int(one))
    return tuple(sorted(numbers))


def taken(
    y: np.ndarray,
    parts: range,
    *,
    labels: Sequence[int],
    without: Sequence[int] = (),
    only: Sequence[int] = (),
    n: int | None = None,
    seed: int = 0,
    balanced: bool = False,
) -> np.ndarray:
    """Return the numbers of the rows of a stored part that belong to a split and are selected from it.

    Args:
        y: Labels of the stored part.
        parts: Tenths of the stored part's rows that belong to the split, see part_of.
        labels, without, only, n, seed, balanced: The arguments of selection.
    """
    inside = np.flatnonzero(np.isin(tenths(y), parts))
    chosen = {"without": without, "only": only, "n": n, "seed": seed, "balanced": balanced}
    return inside[selection(y[inside], labels=labels, **chosen)]


def selection(
    y: np.ndarray,
    *,
    labels: Sequence[int],
    without: Sequence[int],
    only: Sequence[int],
    n: int | None,
    seed: int,
    balanced: bool,
) -> np.ndarray:
    """Return the rows of the chosen classes, or n of them drawn at random.

    Args:
        y: Labels, (N,); -1 means none.
        labels: The classes that the set has.
        without: Classes to leave out; not together with `only`.
        only: Classes to keep; empty keeps all.
        n: Number of rows to draw without replacement; None keeps all. With one
            seed, a smaller n draws a subset of a larger n's rows.
        seed: Seed of the draw.
        balanced: Draw equally many rows of each class; n = None then draws as many
            as the smallest class allows.

    Returns:
        Row numbers, increasing, (n,) int64.

    Raises:
        ValueError: the set lacks a chosen class, no row is left, or n is too large.
    """
    if without and only:
        raise ValueError(f"load expects without or only, got both ({without} and {only}): give one of them.")
    unknown = sorted((set(without) | set(only)) - set(labels))
    if unknown:
        has = f"its classes are {_listed(labels)}" if labels else "its items have no labels"
        raise ValueError(f"load expects classes of the set, got {unknown}: {has}.")
    if len(set(without)) >= len(labels) > 0:
        raise ValueError(
            f"load expects at most {len(labels) - 1} of the {len(labels)} classes in without, "
            f"got {len(set(without))}: no class would be left; hold out fewer."
        )
    keep = np.isin(y, only) if only else ~np.isin(y, without)
    rows = np.flatnonzero(keep)
    if not len(rows):
        chosen = f"without={without}, only={only}"
        raise ValueError(
            f"load expects items of the classes chosen, got none for {chosen}: this split has the "
            f"classes {_listed(sorted(set(y.tolist())))}; choose among these."
        )
    if n is None and not balanced:
        return rows

    checks.whole("load", "seed", seed, least=0, most=2**32 - 1)
    if n is not None:
        checks.whole("load", "n", n, least=1)
    present = np.unique(y[rows])
    groups = [rows[y[rows] == label] for label in present] if balanced else [rows]
    smallest = min(len(group) for group in groups)
    if n is None:
        n = smallest * len(groups)
    share, rest = divmod(n, len(groups))
    if rest:
        raise ValueError(
            f"load expects n to be a multiple of the {len(groups)} classes when balanced, got n={n}: "
            f"take {n - rest or len(groups)}."
        )
    if share > smallest:
        what = "items in the smallest class" if balanced else "items"
        raise ValueError(
            f"load expects n <= {smallest * len(groups)}, got {n}: after the class choice "
            f"this split has {smallest} {what}; lower n."
        )
    random = np.random.RandomState(seed)
    return np.sort(np.concatenate([random.permutation(group)[:share] for group in groups]))


def _listed(labels: Sequence[int]) -> str:
    """Return labels as text: consecutive labels as first..last, other labels one by one."""
    consecutive = len(labels) > 2 and list(labels) == list(range(labels[0], labels[-1] + 1))
    return f"{labels[0]}..{labels[-1]}" if consecutive else ", ".join(map(str, labels))
