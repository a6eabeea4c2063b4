"""Checkpoint files: written whole, read only by the run they belong to.

Imports: workspace.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from oodlab import workspace

CHECKPOINT = "checkpoint.pt"


def snapshot_file(folder: Path, step: int) -> Path:
    """Return the file of the weights after a step."""
    return folder / f"snapshot-{step}.pt"


def read_snapshot(file: Path, identity: str) -> dict[str, torch.Tensor]:
    """Read the weights that a run had after a step; errors as of read_checkpoint."""
    return read_checkpoint(file, identity)["model"]


def write_checkpoint(file: Path, state: dict[str, Any], identity: str) -> None:
    """Write a run's state whole or not at all, under what it is.

    Raises:
        OSError: It cannot be written: the disk is full, the folder not writable.
    """
    content = io.BytesIO()  # torch hides the reason why a file refuses its bytes
    torch.save({"identity": identity, "versions": {"torch": str(torch.__version__)}, **state}, content)
    with workspace.atomic_file(file) as stream:
        stream.write(content.getbuffer())


def read_checkpoint(file: Path, identity: str) -> dict[str, Any]:
    """Read a run's state.

    Raises:
        ValueError: The file is broken, by a single bit even, or belongs to another identity.
        OSError: It cannot be opened.
    """
    try:
        with zipfile.ZipFile(file) as parts:  # torch.load compares no checksums
            broken = parts.testzip()
        if broken:
            raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")
        state = torch.load(file, map_location="cpu", weights_only=True)
        made_with = state["identity"]
    except OSError:
        raise
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise ValueError(
            f"checkpoint {file} cannot be read ({type(error).__name__}: {error}): it is damaged; delete it to start anew, or "
            "put a copy back."
        ) from error
    if made_with != identity:
        raise ValueError(
            f"checkpoint {file} expects the recipe it was made with, got another one:\n{_differences(made_with, identity)}"
            "\nuse another folder, or delete the file to start anew."
        )
    return state


def _differences(old: str, new: str) -> str:
    before, after = set(old.splitlines()), set(new.splitlines())
    lines = [f"  checkpoint: {line.strip()}" for line in old.splitlines() if line not in after]
    lines += [f"  now:        {line.strip()}" for line in new.splitlines() if line not in before]
    return "\n".join(lines[:10])
