"""The benchmarks, which no test runs whole, load with today's package and use names that it has."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHES = sorted(Path(__file__).parents[1].joinpath("bench").glob("*.py"))


@pytest.mark.parametrize("file", BENCHES, ids=lambda file: file.stem)
def test_every_file_of_the_benchmarks_can_be_imported(file: Path) -> None:
    importlib.import_module(f"bench.{file.stem}" if file.stem != "__init__" else "bench")
