"""Every notebook of the checkout: committed clean, built to one outline, and runs at profile smoke."""

from __future__ import annotations

import ast
import json
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from oodlab import workspace
from oodlab.batch.command import main
from oodlab.batch.notebook import find, name_of, read
from oodlab.batch.record import recorded
from oodlab.studies import studies
from oodlab.study import Drawn

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(path for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
DRAWING = find(FOLDER)  # with a study: index and template draw no figures
MOST_CODE_LINES = 80


def label(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def code_of(path: Path) -> list[str]:
    """Return the code cells as plain Python: lines like %pip become calls."""
    cells = nbformat.read(path, as_version=4).cells
    return [TransformerManager().transform_cell(cell.source) for cell in cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=label)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    raw = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(raw)
    assert (raw["nbformat"], raw["nbformat_minor"] >= 5) == (4, True), "cell ids need format 4.5"
    assert raw["metadata"]["kernelspec"]["name"] == "python3"
    assert "papermill" not in raw["metadata"]
    assert "widgets" not in raw["metadata"]
    assert len({cell["id"] for cell in raw["cells"]}) == len(raw["cells"])
    for cell in raw["cells"]:
        assert "papermill" not in cell["metadata"]
        assert "injected-parameters" not in cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "clear the outputs: they are not committed"
            assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=label)
def test_a_notebook_defines_no_functions_or_classes(path: Path) -> None:
    for source in code_of(path):
        for node in ast.walk(ast.parse(source)):
            defines = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            assigns = isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
            assert not defines, ast.unparse(node)
            assert not (assigns and isinstance(node.value, ast.Lambda)), ast.unparse(node)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=label)
def test_a_notebook_is_short(path: Path) -> None:
    lines = [line.strip() for source in code_of(path) for line in source.splitlines()]
    assert sum(bool(line) and not line.startswith("#") for line in lines) <= MOST_CODE_LINES


STUDIES = [FOLDER / f"{name}.ipynb" for name in studies()]


@pytest.mark.parametrize("path", [*STUDIES, FOLDER / "template.ipynb"], ids=label)
def test_a_study_notebook_has_prose_before_every_code_cell_and_at_its_end(path: Path) -> None:
    """Lines of prose have at most 100 columns, and the parameters are the study's own."""
    cells = nbformat.read(path, as_version=4).cells
    assert all(len(line) <= 100 for cell in cells for line in cell.source.splitlines())
    for before, cell in pairwise(cells):
        of_the_start = "parameters" in cell.metadata.get("tags", [])  # below the imports
        assert cell.cell_type == "markdown" or before.cell_type == "markdown" or of_the_start, cell.source
    known = studies().get(name_of(path)) if path in STUDIES else None
    drawn = known is not None and all(isinstance(task, Drawn) for task in known.tasks)  # there are no sets to choose
    own = {"source": known is None or len(known.sources) > 1, "dataset": not drawn}
    wanted = {"profile", "seed", "device", *(name for name, has in own.items() if has)}
    assert wanted <= set(read(path).parameters)


@pytest.mark.parametrize("path", DRAWING, ids=label)
def test_a_notebook_declares_its_parameters_figures_and_cost(path: Path) -> None:
    notebook = read(path)  # refuses what is not a literal, or not exactly one parameters cell
    assert {"profile", "seed", "device"} <= set(notebook.parameters)
    assert all(parameter.comment for parameter in notebook.parameters.values()), "a comment for each"
    assert notebook.title != path.stem
    assert notebook.figures
    assert set(notebook.estimate) == set(notebook.parameters["profile"].choices)
    for cost in notebook.estimate.values():
        assert set(cost) == {"seconds", "megabytes"}
        assert cost["seconds"] > 0


@pytest.mark.parametrize("path", DRAWING, ids=label)
def test_a_notebook_runs_at_profile_smoke(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("OODLAB_RUNS", str(tmp_path))
    monkeypatch.delenv("OODLAB_FIGURES", raising=False)

    status = main(["figures", name_of(path), "--profile", "smoke", "--notebooks", str(FOLDER)])

    assert status == 0, capsys.readouterr().out
    figures = recorded(name_of(path))["smoke"]["figures"]
    assert figures
    for figure in figures:
        png, numbers = Path(figure["png"]), Path(figure["json"])
        assert png.is_relative_to(workspace.runs_folder())  # never the committed set
        assert png.read_bytes().startswith(b"\x89PNG")
        assert json.loads(numbers.read_text(encoding="utf-8"))
    if name_of(path) in studies():
        records = [json.loads(Path(figure["json"]).read_text(encoding="utf-8")) for figure in figures]
        listed = {f"{one['key']}-seed{one['seed']}" for record in records for one in record["trainings"]}
        assert listed == {folder.name for folder in (tmp_path / "checkpoints").iterdir()}, "what ran, and nothing else"


@pytest.mark.parametrize("name", ["index.ipynb", "template.ipynb"])
def test_the_gallery_and_template_notebooks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both notebooks draw no figures, so their cells run in the test's process."""
    monkeypatch.setenv("OODLAB_PROGRESS", str(tmp_path / "events.jsonl"))  # as in a batch: no panel
    namespace: dict[str, object] = {}
    for source in code_of(FOLDER / name):
        exec(source, namespace)
