"""Print how fast the kit is against code written the plain way, and keep the numbers.

    python -m tests.bench [WORD ...]       rows whose names contain a word; default: all

Ratios of medians in one run (the notebooks are timed once); nothing else should run on
the machine meanwhile.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from oodlab import plotting, workspace
from oodlab.training.devices import cpu_bfloat16

from . import images, small, whole
from .timing import Row

BENCHES: dict[str, Callable[[], list[Row] | Row]] = {
    "image chain": images.chain_rows,
    "mass step": images.mass_rows,
    "nae step": images.nae_rows,
    "table chain": small.bookkeeping_row,
    "replay": small.replay_row,
    "batched": small.batched_row,
    "jobs": whole.jobs_row,
    "import": whole.import_row,
}

MEMORY = "memory"


def main(words: list[str]) -> int:
    """Run the benches named, print the tables; a full run writes them to the runs folder."""
    unknown = [word for word in words if not any(word in name for name in (*BENCHES, MEMORY))]
    if unknown:
        print(f"bench expects words of {', '.join((*BENCHES, MEMORY))}, got {', '.join(unknown)}.", file=sys.stderr)
        return 2

    def wanted(name: str) -> bool:
        return not words or any(word in name for word in words)

    memory = whole.memory_rows() if wanted(MEMORY) else []
    rows: list[Row] = []
    for name, bench in BENCHES.items():
        if wanted(name):
            print(f"{name} ...", file=sys.stderr, flush=True)
            found = bench()
            rows += found if isinstance(found, list) else [found]
    speed = [row.cells() for row in rows]
    for table in filter(None, (speed, memory)):
        print(plotting.Table(table, digits=3))
    print(machine())
    if not words:
        file = workspace.runs_folder() / "bench.json"
        workspace.write_json(file, {"machine": machine(), "speed": speed, "memory": memory})
        print(f"kept in {file}")
    return 0


def machine() -> dict[str, object]:
    """Return what the numbers were measured on."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "bfloat16 on CPU": cpu_bfloat16() or "none",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
