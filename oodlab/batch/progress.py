"""Progress of a batch on the terminal: one line per running notebook, and aligned tables.

All lines and cells are plain text.

Imports: the standard library.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TextIO


class Progress:
    """One line per running job, rewritten in place on a terminal, sparse elsewhere.

    Args:
        stream: Stream that the lines go to.
        every: Seconds between two lines of one job where lines cannot be rewritten.
        clock: Source of the time in seconds.
    """

    def __init__(self, stream: TextIO, *, every: float = 15, clock: Callable[[], float] = time.monotonic):
        self.stream = stream
        self.every = every
        self.clock = clock
        self._live = stream.isatty()
        self._drawn = 0  # lines of the block that the next update replaces
        self._printed: dict[str, float] = {}  # job -> when its last line was printed

    def update(self, lines: Mapping[str, str]) -> None:
        """Show the state of the running jobs: name -> line."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a wrapped line could not be taken back
            self._write("".join(line[:width] + "\n" for line in lines.values()), drawn=len(lines))
            return
        for name, line in lines.items():
            if self.clock() - self._printed.get(name, -self.every) >= self.every:
                self._printed[name] = self.clock()
                self._write(line + "\n")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._write(line + "\n")

    def _write(self, text: str, drawn: int = 0) -> None:
        """Replace the block drawn last by the text, of which `drawn` lines are the next block."""
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        if back or text:
            self.stream.write(back + text)
            self.stream.flush()
        self._drawn = drawn


def minutes(seconds: float) -> str:
    """Write a duration as m:ss, or h:mm:ss from an hour on."""
    whole, rest = divmod(int(seconds), 60)
    return f"{whole}:{rest:02d}" if whole < 60 else f"{whole // 60}:{whole % 60:02d}:{rest:02d}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> str:
    """Align cells of text under their heads.

    Args:
        head: Names of the columns.
        rows: One sequence of texts per row, as long as head.
        right: Names of the columns to align to the right.
    """
    everything = [head, ["-" * len(name) for name in head], *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]
    lines = []
    for row in everything:
        cells = zip(head, row, widths, strict=True)
        padded = [cell.rjust(width) if name in right else cell.ljust(width) for name, cell, width in cells]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
