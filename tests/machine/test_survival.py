"""Killed runs resume and end with the same bits: eleven moments of a kill; survival.py tests more of them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
import survival

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[survival.Ground]:
    return survival.Ground(tmp_path_factory.mktemp("survival"))


@pytest.mark.parametrize(
    ("place", "signals"),
    [
        ("training, OMI", [SIGINT, SIGKILL]),
        ("training, PCD", [SIGTERM]),
        ("figures", [SIGKILL, SIGINT, SIGKILL, SIGTERM, SIGKILL]),
        ("side by side", [SIGINT]),
        ("batch", [SIGKILL, SIGTERM]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(number.name for number in value),
)
def test_a_killed_run_resumes_and_ends_with_the_same_bits(place: str, signals: list, ground: survival.Ground) -> None:
    hits = list(ground.survive(place, signals, random.Random(len(place))))
    assert any(hits), "every moment came after the end"
