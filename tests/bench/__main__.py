"""Print how fast the kit is against code written the plain way, and keep the numbers.

    python -m tests.bench [WORD ...]       rows whose names contain a word; default: all

Ratios of medians in one run; nothing else should run on the machine meanwhile.
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


def main(words: list[str]) -> None:
    """Run the benches named, print the tables and write them to the runs folder."""
    rows: list[Row] = []
    for name, bench in BENCHES.items():
        if not words or any(word in name for word in words):
            print(f"{name} ...", file=sys.stderr, flush=True)
            found = bench()
            rows += found if isinstance(found, list) else [found]
    speed = [row.cells() for row in rows]
    print(plotting.Table(speed, digits=4))
    memory = whole.memory_rows() if not words or "memory" in words else []
    if memory:
        print(plotting.Table(memory, digits=2))
    file = workspace.runs_folder() / "bench.json"
    workspace.write_json(file, {"machine": machine(), "speed": speed, "memory": memory})
    print(f"{machine()}\nkept in {file}")


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
    main(sys.argv[1:])
