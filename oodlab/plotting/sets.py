"""What figures of known images and OOD sets share: a look per set, a frame around what a model gets wrong.

Imports: its own folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodlab.plotting.base import COLOURS

Look = dict[str, Any]  # arguments of a line

KNOWN: Look = {"color": "0.15", "linestyle": "-"}  # the set trained on; an OOD set has a hue
HELD_OUT = COLOURS[3]  # colour of a class left out of training
LIMIT: Look = {"color": "0.4", "linestyle": "--", "linewidth": 1}  # up to where a detector accepts

_HUES = COLOURS[:6]  # without yellow, too pale for a line, and black
_LOOKS = [{"color": hue, "linestyle": dashes} for dashes in ("-", "--", ":") for hue in _HUES]
_SETS = ("constant_gray", "half", "chimera", "omniglot", "fashion_mnist", "noise", "blank", "celeba", "svhn")
_WRONG = COLOURS[1]


def set_looks(outs: Iterable[str]) -> dict[str, Look]:
    """Return hue and dashes by OOD set: for those of the image studies the same in every figure, for others what is left.

    Args:
        outs: All OOD sets of a figure; halves and chimeras may name the set that they are cut from.
    """
    kinds = {name: name.split("_")[0] if name.startswith(("half_", "chimera_")) else name for name in outs}
    looks = {name: _LOOKS[_SETS.index(kind)] for name, kind in kinds.items() if kind in _SETS}
    left = [look for look in _LOOKS if look not in looks.values()] or _LOOKS
    others = [name for name in kinds if name not in looks]
    return looks | {name: left[i % len(left)] for i, name in enumerate(others)}


def frame(ax: Axes, *, wrong: bool) -> None:
    """Put a frame around an image: thick and orange where a model takes it for the wrong kind."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=_WRONG if wrong else "0.7", linewidth=1.8 if wrong else 0.4)


def explain_frames(fig: Figure) -> None:
    """Say above the images what an orange frame is."""
    look = {"marker": "s", "linestyle": "", "markersize": 7, "mfc": "none", "mec": _WRONG, "mew": 1.8}
    told = Line2D([], [], label="wrong: an OOD image accepted, or a known one rejected", **look)
    fig.legend(handles=[told], loc="outside upper center", frameon=False, fontsize=7.5)
