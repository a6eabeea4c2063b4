"""Data to carry to a machine that has none: the sets of some studies, packed into one folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from oodlab.data.search import search_path
from oodlab.study import Made, Study

LIMIT = 55 * 2**20  # bytes
WHOLE, OUTSIDE = ("train", "val", "test", "all"), ("test", "all")  # files of a set that a task has inside, or outside
FURTHER = ("mnist", "notmnist", "svhn", "omniglot", "segment", "sensorless", "emnist", "gtsrb", "textures", "celeba")


def pack(folder: Path, studies: Iterable[Study]) -> list[str]:
    """Copy the sets of studies and then further small ones from the folders of OODLAB_DATA, while there is room.

    Returns:
        A line for each set: what was packed, or why it was left out.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for task in (task for study in studies for task in study.tasks):
        wanted[task.inside] = WHOLE
        for one in task.outside:
            if not isinstance(one, Made):
                wanted.setdefault(one, OUTSIDE)
    said, used = [], 0
    for name, stems in {**wanted, **dict.fromkeys(FURTHER, WHOLE)}.items():
        files = _files(name, stems)
        size = sum(file.stat().st_size for file in files)
        if not files or used + size > LIMIT:
            said.append(f"left out {name}: " + (f"{size / 2**20:.1f} MiB do not fit" if files else "no files here"))
            continue
        used += size
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / name / file.name)
        said.append(f"packed {name}: {', '.join(file.name for file in files)}, {size / 2**20:.1f} MiB")
    return [*said, f"{used / 2**20:.1f} MiB in {folder}"]


def _files(name: str, stems: tuple[str, ...]) -> list[Path]:
    """Return a set's files of these splits, of the first folder that has any."""
    for root in search_path():
        found = [file for file in sorted((root / name).glob("*.npz")) if file.stem.partition("-part")[0] in stems]
        if found:
            return found
    return []
