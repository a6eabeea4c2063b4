"""What travels to a machine that has no data, and what comes back from it.

There: the sets of some studies, packed into one folder.  Back: one archive of rows and the
report, and trainings that are small enough.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from oodlab import data, workspace
from oodlab.data.search import search_path
from oodlab.study import Made, Study

LIMIT = 55 * 2**20  # bytes
WHOLE, OUTSIDE = ("train", "val", "test", "all"), ("test", "all")  # files of a set that a task has inside, or outside
SUBSET = "_subset"  # end of the name of a set that is a draw of another
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
            if files and f"{name}{SUBSET}" in {entry.name for entry in data.table()}:
                size = _subset(folder, name)
                used += size
                said.append(f"packed {name}{SUBSET}: a seeded draw, {size / 2**20:.1f} MiB")
            continue
        used += size
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / name / file.name)
        said.append(f"packed {name}: {', '.join(file.name for file in files)}, {size / 2**20:.1f} MiB")
    return [*said, f"{used / 2**20:.1f} MiB in {folder}"]


def _subset(folder: Path, name: str) -> int:
    """Write a seeded draw of a set as a set of its own name, and return its size in bytes."""
    entry = data.entry(f"{name}{SUBSET}")
    (folder / entry.name).mkdir(parents=True, exist_ok=True)
    size = 0
    for part, n in entry.sizes.items():
        drawn = data.load(name, part, n=n, seed=0, download=False)
        file = folder / entry.name / f"{part}.npz"
        np.savez_compressed(file, x=drawn.x.movedim(1, 3).numpy(), y=drawn.y.numpy())
        size += file.stat().st_size
    return size


def _files(name: str, stems: tuple[str, ...]) -> list[Path]:
    """Return a set's files of these splits, of the first folder that has any."""
    for root in search_path():
        found = [file for file in sorted((root / name).glob("*.npz")) if file.stem.partition("-part")[0] in stems]
        if found:
            return found
    return []


# ------------------------------------------------------------------------------------- the way back


LARGEST, MOST = 15 * 2**20, 4  # bytes of a training that comes back, and how many come
ROWS, TRAINED = "results.zip", "training-*.zip"


def bring_back(rows: Path, checkpoints: Path, out: Path, stamp: str) -> None:
    """Put new rows and the report into one archive, and the latest small trainings beside it.

    Args:
        rows: Folder of rows; files that end in .kept.csv were there before.
        checkpoints: Folder of trainings.
        out: Folder that comes back, with report.json.
        stamp: Part of the names of the rows' files, so that they join others.
    """
    members = {f"rows/{file.parent.name}/{file.stem}.gpu-{stamp}.csv": file for file in _new(rows)}
    _zip(out / ROWS, {**members, "report.json": out / "report.json"})
    folders = [file.parent for file in sorted(checkpoints.glob("*/*.pt"), key=_written, reverse=True)]
    small = [folder for folder in dict.fromkeys(folders) if sum(map(_size, folder.iterdir())) <= LARGEST][:MOST]
    for file in out.glob(TRAINED):
        if file.stem.removeprefix("training-") not in {folder.name for folder in small}:
            file.unlink()
    for folder in small:
        _zip(out / f"training-{folder.name}.zip", {f"{folder.name}/{file.name}": file for file in folder.iterdir()})


def join(out: Path, figures: Path, checkpoints: Path) -> list[str]:
    """Let rows that came back join the kept ones, and trainings those of the runs folder; existing files stay.

    Returns:
        A line for each file that was written.

    Raises:
        FileNotFoundError: The folder has no results.zip.
    """
    if not (out / ROWS).is_file():
        raise FileNotFoundError(
            f"--join expects a folder that `make gpu` has written, got {out}: it has no {ROWS}; name the folder given as OUT."
        )
    said = []
    with zipfile.ZipFile(out / ROWS) as archive:
        for name in archive.namelist():
            if name.startswith("rows/"):
                said += _write(figures / name.removeprefix("rows/"), archive.read(name))
    for file in sorted(out.glob(TRAINED)):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                said += _write(checkpoints / name, archive.read(name))
    return said or ["everything was here before"]


def _new(rows: Path) -> list[Path]:
    return [file for file in sorted(rows.glob("*/*.csv")) if not file.stem.endswith(".kept")]


def _zip(file: Path, members: Mapping[str, Path]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            with contextlib.suppress(FileNotFoundError):  # another process may just replace it
                archive.writestr(name, member.read_bytes())
    with workspace.atomic_file(file) as stream:
        stream.write(content.getbuffer())


def _write(file: Path, content: bytes) -> list[str]:
    if file.exists():
        return []
    file.parent.mkdir(parents=True, exist_ok=True)
    with workspace.atomic_file(file) as stream:
        stream.write(content)
    return [str(file)]


def _size(file: Path) -> int:
    return file.stat().st_size


def _written(file: Path) -> float:
    return file.stat().st_mtime
