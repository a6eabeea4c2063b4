"""Measured numbers of trained models that are no scores: kept by key, refused when NaN or infinite, read by claims."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from oodlab.study import Budget, Claim, Drawn, Measured, Method, Recipe, Study, Trained, decide, measured
from oodlab.training import Adam, Fresh


def plane(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 2, generator=generator)


def plane_log_prob(x: torch.Tensor) -> torch.Tensor:
    return -x.square().sum(dim=1) / 2 - math.log(2 * math.pi)


def _plane_methods(budget: Budget, source: str) -> list[Method]:
    def recipes(task: Drawn) -> dict[str, Recipe]:
        batches = Fresh(task.draw, 8)
        model = functools.partial(nn.Linear, 2, 2)
        return {"line": Recipe("mass/plane/line", model, SquaredToZero(), batches, Adam(lr=1e-2), steps=3)}

    return [Method("line", recipes)]


@dataclass(frozen=True)
class SquaredToZero:
    def __call__(self, model: nn.Module, x: torch.Tensor, y: None = None, **run: object) -> dict[str, torch.Tensor]:
        loss = model(x).square().mean()
        return {"loss": loss, "error": loss.detach()}


def weight_and_points(given: Measured) -> dict[str, float]:
    weight = float(given.models["line"].weight.detach().square().sum())
    return {"weight": weight, "points": len(given.test), "mean": float(given.prepare(given.test).mean())}


def broken(given: Measured) -> dict[str, float]:
    return {"weight": float("nan")}


@pytest.fixture
def plane_study() -> Study:
    return Study(
        "mass/plane",
        (Drawn("normal", plane, plane_log_prob),),
        _plane_methods,
        {name: Budget(seeds=2, test_items=50, fit_items=20) for name in ("smoke", "full")},
    )


def test_measured_numbers_are_kept_and_looked_up_without_training_again(
    plane_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    smoke = plane_study.at("smoke")
    first = measured(smoke, None, weight_and_points)
    assert list(first["quantity"]) == ["weight", "points", "mean"] * 2 and not first["kept"].any()
    assert first.loc[first["quantity"] == "points", "value"].tolist() == [50, 50]
    assert (first["device"] != "").all() and first["training"].nunique() == 1

    monkeypatch.setattr(Trained, "results", lambda *_: pytest.fail("a kept number asks for no training"))
    again = measured(smoke, None, weight_and_points)
    assert again["kept"].all()
    np.testing.assert_allclose(again["value"], first["value"], rtol=1e-6)  # seven digits are kept


def test_measured_refuses_numbers_that_are_not_finite(plane_study: Study) -> None:
    with pytest.raises(FloatingPointError, match=r"finite numbers of line on normal, seed 0, got others for weight"):
        measured(plane_study.at("smoke"), None, broken)


def test_a_claim_reads_rows_and_measured_numbers_together(plane_study: Study) -> None:
    numbers = measured(plane_study.at("smoke"), None, weight_and_points)
    rows = pd.concat([pd.DataFrame({"auroc": [0.5], "seed": [0], "profile": ["smoke"]}), numbers])
    claim = Claim("c", lambda rows: rows[rows["quantity"] == "points"].set_index("seed")["value"])
    assert decide(claim, rows).word == "Partly" and decide(claim, rows).seeds == 2


@pytest.mark.parametrize(("column", "kind"), [("auroc", "AUROCs"), ("value", "values")])
@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_claim_refuses_missing_or_infinite_aurocs_and_measured_numbers(
    plane_study: Study, column: str, kind: str, lost: float
) -> None:
    numbers = measured(plane_study.at("smoke"), None, weight_and_points)
    rows = pd.concat([pd.DataFrame({"auroc": [0.5], "seed": [0], "profile": ["smoke"]}), numbers], ignore_index=True)
    rows.loc[rows[column].first_valid_index(), column] = lost
    with pytest.raises(FloatingPointError, match=f"decide expects finite {kind} for 'c'"):
        decide(Claim("c", lambda rows: rows.set_index("seed")["value"]), rows)
