"""Imports between the package's modules point one way, and `import oodlab` loads no heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "oodlab"

LOWER = {
    "metrics",
    "grids",
    "graphs",
    "workspace",
    "data",
    "samplers",
    "models",
    "objectives",
    "training",
    "detectors",
    "identity",
    "study",
}
ALLOWED = {  # module or folder: what it may import of the package, besides checks
    "checks": set(),
    "metrics": set(),
    "grids": set(),
    "graphs": set(),
    "samplers": {"graphs"},
    "workspace": set(),
    "identity": set(),
    "data": {"workspace", "identity"},
    "models": {"data", "samplers"},
    "objectives": {"models", "samplers"},
    "training": {"workspace", "identity", "data", "graphs", "samplers"},
    "detectors": {"data", "models"},
    "study": {"workspace", "identity", "data", "models", "metrics", "training", "detectors"},
    "studies": {*LOWER, "plotting", "widgets"},
    "plotting": {"metrics", "grids", "workspace"},
    "widgets": {*LOWER, "plotting"} - {"study"},
    "batch": {"workspace", "identity", "data", "study", "studies", "training"},
    "__main__": {"batch"},
}
DRAWS = {"figure", "panel", "drawing", "ship"}  # files of the studies that may draw and show; a setting may not
NOTHING_LOCAL = {
    "plotting.base",
    "models.nets",
    "batch.progress",
}  # leaves within their folder, as their headers say
HEAVY = (
    "torchvision",
    "sklearn",
    "matplotlib",
    "seaborn",
    "pandas",
    "scipy",
    "papermill",
    "nbformat",
    "ipywidgets",
    "distributed",
)


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Yield the dotted names of the package's modules that a source imports, at any depth of the code.

    A name imported from a package may be a module of it: both are said.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            parts = ["oodlab", *module.split(".")]
            base = parts[: len(parts) - node.level + (1 if is_package else 0)]
            base = ".".join([*base, node.module] if node.module else base)
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("oodlab.") for name in names if name.split(".")[0] == "oodlab")


def wrong_arrows(module: str, imported: Iterator[str]) -> list[str]:
    """Return what a module must not import; a module missing from the table may import nothing."""
    room, *_, own = module.split(".")[0], *module.split(".")
    allowed = ALLOWED.get(room, set()) | {"checks"} | ({room} if module not in NOTHING_LOCAL else set())
    if room == "studies" and own not in DRAWS:
        allowed -= {"plotting", "widgets"}
    return [f"{module} imports {name}" for name in imported if name.split(".")[0] not in allowed]


def modules() -> Iterator[tuple[str, Path]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def test_every_import_follows_the_table_of_allowed_imports() -> None:
    wrong = []
    for module, file in modules():
        if module:  # the package itself may name everything; what it loads is another test
            found = imports(file.read_text(encoding="utf-8"), module, is_package=file.name == "__init__.py")
            wrong += wrong_arrows(module, found)
    assert not wrong


def test_every_module_is_in_the_table_of_allowed_imports() -> None:
    rooms = {module.split(".")[0] for module, _ in modules() if module}
    assert rooms <= set(ALLOWED), "a new module needs its allowed imports in the table above"


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports are read from the source, at any depth of the code; a package is the file its names come from."""
    sources = dict(modules())
    names = set(sources)
    arrows: dict[str, set[str]] = {}
    for module, file in sources.items():
        found = imports(file.read_text(encoding="utf-8"), module, is_package=file.name == "__init__.py")
        arrows[module] = {name if name in names else name.rpartition(".")[0] for name in found} - {module}
    left = {module for module in names if sources[module].name != "__init__.py"}
    while left:
        lowest = {module for module in left if not arrows[module] & left}
        assert lowest, f"a circle among {sorted(left)}"
        left -= lowest


def test_the_table_of_allowed_imports_has_no_cycle() -> None:
    """The allowed imports put the package's modules into an order."""
    arrows = {(a, b) for a, others in ALLOWED.items() for b in others}
    rooms = set(ALLOWED)
    while rooms:
        lowest = {room for room in rooms if not any(a == room and b in rooms for a, b in arrows)}
        assert lowest, f"a circle among {sorted(rooms)}"
        rooms -= lowest


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("models.flows", "from oodlab.objectives import reconstruction"),
        ("models.flows", "from ..training import fit"),
        ("metrics", "import oodlab.data"),
        ("samplers.parts", "from .. import models"),
        ("data.sets", "from oodlab import metrics"),
        ("detectors", "def late():\n    from oodlab.plotting import save_figure"),
        ("plotting.base", "from oodlab.plotting import flows"),
        ("studies.nae.samples.setting", "from oodlab import plotting"),
        ("studies.nae.images", "from oodlab.widgets import kept"),
        ("novelty", "from oodlab import metrics"),
    ],
)
def test_an_import_against_the_allowed_direction_is_reported(module: str, line: str) -> None:
    assert wrong_arrows(module, imports(line, module)) == [f"{module} imports {next(imports(line, module))}"]


@pytest.mark.parametrize("name", ["oodlab", "oodlab.training, oodlab.objectives, oodlab.detectors, oodlab.metrics"])
def test_importing_the_core_loads_no_heavy_library(name: str) -> None:
    script = f"import sys, {name}; print(*[m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
