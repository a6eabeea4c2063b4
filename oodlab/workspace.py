"""Places that the kit writes to, and how: folders, whole-or-nothing files, progress events.

Nothing here knows what is written. Five environment variables steer it, all
set by the batch runner and free for anyone to set:

OODLAB_RUNS      folder for checkpoints, own rows, figures and executed notebooks
OODLAB_FIGURES   folder for figures; the runner names the committed set only
                 for runs that may replace it
OODLAB_ROWS      folder for kept rows, in place of the committed ones and one's own
OODLAB_PROGRESS  file that receives one JSON line per event
OODLAB_ANEW      finished trainings are done again instead of loaded

Imports: the standard library.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows has no such locks: two writers are told apart by digests only
    fcntl = None

ABANDONED = 3600  # seconds without a write after which a half-written file has no writer any more

_UMASK = os.umask(0)  # it can only be read by setting it, which threads that write must not see
os.umask(_UMASK)


def checkout() -> Path | None:
    """Return the folder of the source checkout, or None when the package is installed elsewhere."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file() else None


def runs_folder() -> Path:
    """Return the absolute folder for a user's own results; it need not exist yet."""
    named = os.environ.get("OODLAB_RUNS")
    return Path(named).resolve() if named else (checkout() or Path.cwd()) / "runs"


def reference_figures() -> Path | None:
    """Return the folder of the committed figures, or None outside a checkout."""
    here = checkout()
    return here / "figures" if here else None


def figures_folder() -> Path:
    """Return the folder that figures go to: $OODLAB_FIGURES, else the user's own."""
    named = os.environ.get("OODLAB_FIGURES")
    return Path(named).resolve() if named else runs_folder() / "figures"


def rows_folders() -> list[Path]:
    """Return the folders with kept rows: of a checkout the committed ones, then the user's own; or $OODLAB_ROWS alone."""
    named = os.environ.get("OODLAB_ROWS")
    if named:
        return [Path(named).resolve()]
    return [folder for folder in (reference_figures(), runs_folder() / "rows") if folder]


def permitted(folder: Path, *, stand_in: bool) -> Path:
    """Return where a figure for this folder goes: one of a stand-in's data never replaces a committed one."""
    return runs_folder() / "figures" if stand_in and folder == reference_figures() else folder


def in_batch() -> bool:
    """Say whether the batch runner started this process: no widgets, sparse text."""
    return bool(os.environ.get("OODLAB_PROGRESS"))


def trains_anew() -> bool:
    """Say whether finished trainings are done again instead of loaded."""
    return bool(os.environ.get("OODLAB_ANEW"))


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is whole.

    A crash, a full disk or a second writer leaves the old file or the new one,
    never a part: the bytes go to a neighbour of their own, reach the disk, and
    are renamed. What a killed writer left there is removed by the next one that
    finds it untouched for an hour (a live writer, on whatever machine, is faster).

    Raises:
        OSError: The file cannot be written; the message names it and what to do.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_UMASK)  # mkstemp's 0600 would hide the file from a group
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Let a failure to write below say which file it was, and what to do.

    Raises:
        OSError: The file system refuses; the message has the path and the advice.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error.strerror}); what was there is as it was. Free space, or make the folder "
            "writable, or name another one (OODLAB_RUNS, OODLAB_FIGURES, OODLAB_CACHE), and run again",
        ) from error


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait until no other process writes below this in a folder, for files that belong together.

    The lock is on the folder itself: it leaves no file, and ends with its process.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Remove what writers of this file left behind when they were killed."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with contextlib.suppress(FileNotFoundError):  # another writer is cleaning too
            ours = re.fullmatch(r"[a-z0-9_]{8}", file.name.removeprefix(f".{path.name}."))  # as mkstemp names them
            if ours and time.time() - file.stat().st_mtime > ABANDONED:
                file.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; non-finite numbers are refused (ValueError)."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as file:
        file.write(text.encode() + b"\n")


def source_hash(*parts: str) -> str:
    """Return a hash of the package's source: of the named files and folders, or of all of it."""
    package = Path(__file__).resolve().parent
    chosen = [package / part for part in parts] or [package]
    files = {file for path in chosen for file in ([path] if path.is_file() else path.rglob("*.py"))}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def report(event: str, **fields: Any) -> None:
    """Append one event to the runner's progress file; without a runner, do nothing."""
    name = os.environ.get("OODLAB_PROGRESS")
    if name:
        line = json.dumps({"event": event, **fields}, ensure_ascii=False)
        with explained(Path(name)), open(name, "a", encoding="utf-8") as file:
            file.write(line + "\n")  # one short write: lines never interleave


def events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Read the events appended to a progress file since `offset`.

    Returns:
        The events of the whole lines found, and the offset to go on from. A line that
        is no JSON object, as a killed process leaves it, is passed over.
    """
    if not path.exists():
        return [], offset
    with open(path, "rb") as file:
        file.seek(offset)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    found = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    return found, offset + len(whole)
