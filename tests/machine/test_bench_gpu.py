"""The script for a GPU machine runs from end to end without a GPU and without the packages of notebooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd

from oodlab.training.devices import PRECISIONS

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
    with zipfile.ZipFile(out / "rows.zip") as archive:
        (name,) = [name for name in archive.namelist() if name.startswith("mass/epoch_curves.smoke.gpu-")]
        rows = pd.read_csv(archive.open(name))
    assert set(rows["device"]) == {"cpu"} and set(rows["precision"]) <= set(PRECISIONS) - {"auto"}


def test_the_packages_of_notebooks_cannot_be_imported_where_blocked(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    command = [sys.executable, "-c", "import papermill"]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert "ModuleNotFoundError" in ended.stderr
