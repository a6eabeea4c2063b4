"""The papers' studies: the path of a notebook is the path of its room.

Imports: the rooms' settings, when asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oodlab.study import Study


def studies() -> dict[str, Study]:
    """Return all studies by name, `<paper>/<notebook>`."""
    rooms = sorted(file.parent for file in Path(__file__).parent.glob("*/*/setting.py"))
    settings = [importlib.import_module(f"{__name__}.{room.parent.name}.{room.name}.setting") for room in rooms]
    return {setting.STUDY.name: setting.STUDY for setting in settings}
