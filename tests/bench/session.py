"""A call with a budget of time: what is left of it, processes within it, and what was found, on disk at every moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oodlab import workspace

SHARES = {"tests": 0.4, "bench": 0.6}  # of the budget, when each part is to be over; the rest is trained
LAST = 15  # seconds kept to end everything in
CHECKOUT = Path(__file__).resolve().parents[2]


class Session:
    """What a call has found so far, on disk at every moment."""

    def __init__(self, out: Path, budget: float, device: str, jobs: int) -> None:
        self.out, self.budget, self.device, self.jobs, self.started = out, budget, device, jobs, time.monotonic()
        self.found: dict[str, Any] = {"tests": [], "bench": [], "trainings": [], "skipped": []}
        self.one_writes, self.one_packs = threading.Lock(), threading.Lock()
        out.mkdir(parents=True, exist_ok=True)

    def left(self, part: str = "") -> float:
        """Return the seconds until a part, or everything, is to be over."""
        return SHARES.get(part, 1.0) * (self.budget - LAST) - (time.monotonic() - self.started)

    def say(self, text: str, file: str = "log.txt") -> None:
        """Append text to a file, and print what goes to the log."""
        if file == "log.txt":
            text = f"{time.monotonic() - self.started:6.1f} s  {text}"
            print(text, flush=True)
        with open(self.out / file, "a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def keep(self, part: str, what: str, said: str, **entry: Any) -> None:
        """Add an entry to a part of the report, and a line to the log."""
        self.say(f"{part}: {what}: {said}")
        with self.one_writes:
            self.found[part].append({"what": what, "said": said, **entry})
            workspace.write_json(self.out / "report.json", self.found)

    def run(self, arguments: Sequence[str], limit: float, **environment: str) -> tuple[int | None, str]:
        """Run a Python command from the checkout; return its status (None: its time was used) and what it printed."""
        paths = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            printed = process.communicate(timeout=max(1.0, limit))[0]
            return process.returncode, printed
        process.send_signal(signal.SIGINT)  # interrupted, tests and trainings say how far they came
        with contextlib.suppress(subprocess.TimeoutExpired):
            return None, process.communicate(timeout=LAST / 3)[0]
        process.kill()
        return None, process.communicate()[0]


def last(printed: str, lines: int = 60) -> str:
    """Return the last lines of an output."""
    return "\n".join(printed.splitlines()[-lines:])


def outcome(status: int | None) -> str:
    """Say how a process ended."""
    return "done" if status == 0 else "its time was used" if status is None else f"FAILED with status {status}"
