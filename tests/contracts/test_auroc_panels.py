"""Panels of AUROCs: where the dots, bars and diamonds of the rows are drawn."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from oodlab import plotting


def rows(*given: tuple) -> pd.DataFrame:
    """Return rows of (score, in_set, out_set, seed, step, auroc, printed), a method's own score each."""
    frame = pd.DataFrame(given, columns=["score", "in_set", "out_set", "seed", "step", "auroc", "printed"])
    return frame.assign(method=frame["score"])


ROWS = rows(
    ("AE", "mnist without 9", "held out", 0, 5, 0.5, 0.537),
    ("AE", "mnist without 9", "held out", 1, 5, 0.6, 0.537),
    ("NAE-OMI", "mnist without 9", "held out", 0, 0, 0.4, math.nan),
    ("NAE-OMI", "mnist without 9", "held out", 0, 7, 0.8, 0.934),
    ("NAE-OMI", "mnist without 9", "held out", 1, 7, 0.9, 0.934),
    ("GLOW", "mnist without 9", "held out", 0, 0, math.nan, 0.426),
    ("AE", "mnist without 1", "held out", 0, 5, 0.1, math.nan),
)


def points(ax, marker: str) -> list[tuple[float, float]]:
    return [
        (round(float(x), 6), float(y))
        for line in ax.lines
        if line.get_marker() == marker
        for x, y in zip(*line.get_data(), strict=True)
    ]


def test_auroc_panels_draw_a_dot_per_seeds_last_auroc_and_a_diamond_per_printed_number() -> None:
    nine, one = plotting.auroc_panels(ROWS).axes
    assert [ax.get_title() for ax in (nine, one)] == ["mnist without 9", "mnist without 1"]
    assert [label.get_text() for label in nine.get_yticklabels()] == ["AE", "NAE-OMI", "GLOW"]
    assert points(nine, "o") == [(0.5, 0), (0.6, 0), (0.8, 1), (0.9, 1)]
    assert points(nine, "|") == [(0.55, 0), (0.85, 1)]
    assert points(nine, "D") == [(0.537, 0), (0.934, 1), (0.426, 2)]
    assert (points(one, "o"), points(one, "D")) == ([(0.1, 0)], [])


def test_outside_sets_have_a_panel_each_and_inside_sets_a_row_with_its_own_lines() -> None:
    several = rows(
        ("AE", "mnist", "noise", 0, 5, 0.9, 0.8),
        ("AE", "mnist", "half", 0, 5, 0.7, math.nan),
        ("IGEBM", "cifar10", "svhn", 0, 5, 0.2, math.nan),
    )
    fig = plotting.auroc_panels(several, panel="out_set")
    drawn = [ax for ax in fig.axes if ax.axison]
    assert [ax.get_title() for ax in drawn] == ["noise", "half", "svhn"]
    assert [drawn[0].get_ylabel(), drawn[2].get_ylabel()] == ["trained on mnist", "trained on cifar10"]
    assert [[label.get_text() for label in drawn[i].get_yticklabels()] for i in (0, 2)] == [["AE"], ["IGEBM"]]
    assert points(drawn[0], "D") == [(0.8, 0)]


def test_inside_sets_beyond_five_get_panels_in_a_second_row() -> None:
    many = rows(*(("AE", f"mnist without {digit}", "held out", 0, 5, 0.5, math.nan) for digit in range(7)))
    fig = plotting.auroc_panels(many)
    assert fig.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 5)
    assert sum(ax.axison for ax in fig.axes) == 7


def test_the_legend_of_auroc_panels_explains_only_the_marks_drawn() -> None:
    def said(some: pd.DataFrame) -> list[str]:
        return [text.get_text() for text in plotting.auroc_panels(some).legends[0].get_texts()]

    assert said(ROWS[-1:]) == ["ours, a dot per seed", "mean over seeds"]
    assert said(ROWS) == ["ours, a dot per seed", "ours, normalised", "mean over seeds", "paper"]


def test_auroc_panels_refuses_an_unknown_value_of_panel() -> None:
    with pytest.raises(ValueError, match="auroc_panels expects panel"):
        plotting.auroc_panels(ROWS, panel="sets")
