"""environment.yml (conda) and pyproject.toml (pip) require the same packages and versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def split(requirement: str) -> tuple[str, str]:
    """Return name and version condition without spaces."""
    name, condition = re.fullmatch(r"([\w.-]+)\s*(.*)", requirement).groups()
    return name, condition.replace(" ", "")


@pytest.fixture
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def environment() -> dict[str, str]:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return dict(split(item) for item in listed if isinstance(item, str))


def test_conda_and_pip_ask_for_the_same_packages_and_versions(project: dict, environment: dict[str, str]) -> None:
    wanted = {CONDA_NAMES.get(name, name): condition for name, condition in map(split, project["dependencies"])}
    given = {name: condition for name, condition in environment.items() if name not in ("python", "pip")}
    assert given == wanted
    assert all(condition.startswith(">=") and "," not in condition for condition in wanted.values())  # lower bounds


def test_conda_and_pip_ask_for_the_same_python(project: dict, environment: dict[str, str]) -> None:
    assert environment["python"] == project["requires-python"].replace(" ", "")


def test_conda_installs_this_checkout_and_nothing_else_by_pip() -> None:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert [item for item in listed if not isinstance(item, str)] == [{"pip": ["-e ."]}]


@pytest.mark.parametrize("own", ["", "ACTIVE"])
def test_the_openmp_wait_policy_is_passive_unless_the_user_sets_another(own: str) -> None:
    """OpenMP reads the wait policy when torch loads OpenMP, so the package sets the policy before."""
    script = "import oodlab, os, sys; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": own} if own else {}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", own or "PASSIVE"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "export OMP_WAIT_POLICY ?= PASSIVE" in makefile
