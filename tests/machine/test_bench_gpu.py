"""The script for a GPU machine runs from end to end without a GPU and without the packages of notebooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from oodlab import data
from oodlab.studies import studies
from oodlab.training.devices import PRECISIONS
from tests.bench import carry, gpu

CHECKOUT = Path(__file__).resolve().parents[2]
ABSENT = (
    *("jupyter", "jupyterlab", "jupyter_client", "papermill", "ipywidgets", "ipykernel", "IPython", "nbformat"),
    *("nbclient", "distributed", "dask", "selenium", "yaml"),
)
BLOCKED = f"""import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Absent())
"""  # not None in sys.modules: who looks there finds nothing, as where a package is absent


def test_the_gpu_script_runs_tests_and_trainings_without_notebook_packages_and_packs_the_rows(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)  # every process from here on begins with it
    paths = os.pathsep.join([str(tmp_path), str(CHECKOUT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OODLAB_DATA": "", "OODLAB_CACHE": str(tmp_path / "none")}
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.bench.gpu", str(out), "--device", "cpu", "--budget", "240"]
    ended = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr

    found = json.loads((out / "report.json").read_text())
    assert [one["status"] for one in found["tests"]] == [0], found["tests"]
    assert "skipped" in found["tests"][0]["said"]
    assert [one["what"] for one in found["skipped"]][:3] == [f"bench {name}_rows" for name in ("chain", "mass", "nae")]
    assert found["trainings"] and all(one["said"] == "done" for one in found["trainings"]), found["trainings"]
    assert len(list(out.iterdir())) <= 8
    assert max(file.stat().st_size for file in out.iterdir()) < 16 * 2**20
    with zipfile.ZipFile(out / "results.zip") as archive:
        assert "bench" in json.loads(archive.read("report.json"))
        (name,) = [name for name in archive.namelist() if name.startswith("rows/mass/epoch_curves.smoke.gpu-")]
        rows = pd.read_csv(archive.open(name))
    assert set(rows["device"]) == {"cpu"} and set(rows["precision"]) <= set(PRECISIONS) - {"auto"}

    said = carry.join(out, tmp_path / "figures", tmp_path / "checkpoints")
    assert (tmp_path / "figures" / name.removeprefix("rows/")).is_file()
    (first, *_) = (tmp_path / "checkpoints").glob("*/checkpoint.pt")
    assert str(first) in said and torch.load(first, weights_only=True)["step"] > 0
    assert carry.join(out, tmp_path / "figures", tmp_path / "checkpoints") == ["everything was here before"]
    with pytest.raises(FileNotFoundError, match=r"has no results\.zip"):
        carry.join(tmp_path, tmp_path / "figures", tmp_path / "checkpoints")


def test_the_packages_of_notebooks_cannot_be_imported_where_blocked(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    command = [sys.executable, "-c", "import papermill"]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert "ModuleNotFoundError" in ended.stderr


@pytest.mark.skipif(data.state("cifar10").kind != "present", reason="needs cifar10")
def test_a_set_that_has_no_room_travels_as_a_seeded_draw_that_rows_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = gpu.Training("mass/epoch_curves", "full", tasks=("cifar10",))
    said = carry.pack(tmp_path, [studies()["mass/epoch_curves"]])
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.npz")) <= carry.LIMIT
    assert any(line.startswith("left out cifar10:") for line in said), said
    monkeypatch.setenv("OODLAB_DATA", str(tmp_path))
    monkeypatch.setenv("OODLAB_CACHE", str(tmp_path / "none"))
    (task,) = gpu.chosen(job, "cuda").tasks
    assert task.name == "cifar10_subset" and len(task.load(n=100, seed=0).test) == 100
