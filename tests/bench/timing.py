"""How the benchmarks time: ways take turns in one process, medians are compared.

A row says what was compared, where, how fast each way was, the ratio (above 1: the
kit is faster), what the kit promises, and how far the results are apart.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from oodlab.training.devices import cpu_bfloat16

REPEATS = 7


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: The computation.
        where: Processor or GPU, and what of it was used.
        kit: Seconds of the kit's way, None where it was not run.
        plain: Seconds of the plain way.
        least: The ratio the kit aims at, None for a report.
        accuracy: How far the kit's result is from the plain one's, in words.
    """

    what: str
    where: str
    kit: float | None = None
    plain: float | None = None
    least: float | None = None
    accuracy: str = ""

    @property
    def ratio(self) -> float | None:
        """Seconds plain / seconds of the kit."""
        return None if self.kit is None else self.plain / self.kit

    def cells(self) -> dict[str, object]:
        """Return the row of the table."""
        reached = "" if None in (self.ratio, self.least) else "yes" if self.ratio >= self.least else "no"
        return {
            "what": self.what,
            "where": self.where,
            "kit (ms)": None if self.kit is None else self.kit * 1e3,
            "plain (ms)": None if self.plain is None else self.plain * 1e3,
            "ratio": self.ratio,
            "at least": self.least,
            "reached": reached,
            "accuracy": self.accuracy,
        }


def medians(*ways: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Return the median seconds of each way; they take turns, so drift of the machine hits all."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats + 1):
        for way, own in zip(ways, times, strict=True):
            started = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            own.append(time.perf_counter() - started)
    return [statistics.median(own[1:]) for own in times]  # the first warms up


def devices() -> list[torch.device]:
    """Return the CPU, and the GPU where there is one."""
    return [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def where(device: torch.device) -> str:
    """Name what computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads, {cpu_bfloat16() or 'no bfloat16'}"


def no_gpu(what: str, least: float) -> Row:
    """Return the row of a comparison that needs a GPU, on a machine without."""
    return Row(what, "CUDA: skipped, no GPU here", least=least)


@contextlib.contextmanager
def on_one_thread() -> Iterator[None]:
    """Compute as the kit trains small dense networks: on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
