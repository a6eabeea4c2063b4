"""The batch on two cores, memory of scoring, and the cost of the import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from oodlab.batch.environment import cores

from .timing import Row, medians

GIB = 2**30

_CELL = """from dataclasses import replace
from oodlab import training
from oodlab.studies.nae.eight_gaussians.setting import SPACE, STUDY
recipe = replace(STUDY.at("quick").recipes["eight_gaussians", SPACE, "model"], steps=300)
training.train_or_load(recipe, seed={seed}, device="cpu")"""


def jobs_row() -> Row:
    """Four notebooks that train the same small model, one at a time against two, by the kit's own command."""
    with tempfile.TemporaryDirectory() as folder:
        notebooks = Path(folder) / "notebooks" / "bench"
        notebooks.mkdir(parents=True)
        for i in range(4):
            (notebooks / f"equal_{i}.ipynb").write_text(json.dumps(_notebook(seed=i)))

        def batch(jobs: int) -> float:
            command = [sys.executable, "-m", "oodlab", "figures", "--force", "--jobs", str(jobs)]
            environment = os.environ | {"OODLAB_RUNS": f"{folder}/runs"}
            started = time.perf_counter()
            run = subprocess.run(
                [*command, "--notebooks", str(notebooks.parent)], env=environment, capture_output=True, text=True
            )
            if run.returncode:
                raise RuntimeError(f"the benchmark's notebooks failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
            return time.perf_counter() - started

        batch(2)  # warms the file cache
        plain, kit = batch(1), batch(2)
    what = "four equal notebooks, --jobs 2 against --jobs 1"
    return Row(what, f"{cores()} cores", kit, plain, 1.6, "the same notebooks; each way timed once")


def _notebook(seed: int) -> dict[str, object]:
    def cell(source: str, *tags: str) -> dict[str, object]:
        common = {"cell_type": "code", "execution_count": None, "outputs": []}
        return {**common, "id": f"c{len(tags)}", "metadata": {"tags": list(tags)}, "source": source}

    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [cell('profile = "quick"', "parameters"), cell(_CELL.format(seed=seed))]
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def import_row() -> Row:
    """`import torch, oodlab` against `import torch`, each in an interpreter of its own."""
    ways = [[sys.executable, "-c", f"import {names}"] for names in ("torch, oodlab", "torch")]
    ours, theirs = medians(*(lambda way=way: subprocess.run(way, check=True) for way in ways), repeats=3)
    return Row("import torch, oodlab, against import torch", "one process each", ours, theirs, 0.9)


# ------------------------------------------------------------------------------------------ memory


def memory_rows() -> list[dict[str, object]]:
    """Peak memory of scoring beyond that of the loaded model and its inputs, each in a process of its own."""
    if not sys.platform.startswith("linux"):
        return [{"what": what, "at most": 2, "reached": "measured on Linux only"} for what in SCORED]
    rows = []
    for what in SCORED:
        command = [sys.executable, "-m", "tests.bench.whole", what]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        reached = "yes" if measured["GiB"] < 2 else "no"
        rows.append(
            {"what": what, "peak above model and inputs (GiB)": measured["GiB"], "at most": 2, "reached": reached}
        )
    return rows


def score_images() -> None:
    """Score 10^5 images by the log-density of WideResNet-10-2."""
    from oodlab import detectors
    from oodlab.models import JointEnergy, WideResNet

    detector = detectors.LogDensity(JointEnergy(WideResNet(channels=1, outputs=1)), event_shape=(1, 28, 28))
    _scored(detector, torch.rand(100_000, 1, 28, 28))


def score_table() -> None:
    """Score a table of 10^6 rows by the approximate mass of a flow."""
    from oodlab import detectors
    from oodlab.models import vector_realnvp

    flow = vector_realnvp(19, couplings=6, hidden=(100, 100))
    _scored(detectors.ApproximateMass(flow, event_shape=(19,)), torch.randn(1_000_000, 19))


SCORED = {
    "10^5 images of 28 x 28, log-density of WideResNet-10-2": score_images,
    "10^6 rows of 19, approximate mass of a flow": score_table,
}


def _scored(detector: object, x: torch.Tensor) -> None:
    detector.score_samples(x[:10])
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: it was that of the parent process, or of x
    detector.score_samples(x)
    print(json.dumps({"GiB": (_memory("VmHWM") - before) / GIB}))


def _memory(name: str) -> int:
    """Return what Linux says of this process's memory, in bytes: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


if __name__ == "__main__":
    SCORED[sys.argv[1]]()
