"""An out-of-distribution task on images: one set inside, several outside, on any machine.

Imports: oodlab.checks, oodlab.data.loading, search, sets, split, transforms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from oodlab import checks
from oodlab.data.loading import load
from oodlab.data.search import Choice, choose, find, how_to_get
from oodlab.data.sets import entry
from oodlab.data.split import Split
from oodlab.data.transforms import as_shape


@dataclass(frozen=True)
class Task:
    """Test images of an OOD task, all of one shape.

    Attributes:
        in_set: The in-distribution set that is used, for training by name.
        test: Its test images.
        outs: OOD images by set.
        sentence: What is used, what stands in and what is left out; for print.
    """

    in_set: str
    test: Split
    outs: dict[str, Split]
    sentence: str


def task(
    in_set: str,
    out_sets: Sequence[str],
    *,
    stand_in: str = "photo_patches",
    stand_in_outs: Sequence[str] = ("digits",),
    shape: tuple[int, int, int],
    n: int,
    seed: int = 0,
) -> Task:
    """Load the test images of an OOD task; embedded sets stand in where files are missing.

    The rule looks at files only, as `choose` does. Without files of the
    in-distribution set the whole task is played with the stand-ins; with them, an
    OOD set without files is left out by name.

    Args:
        in_set: Set of the in-distribution images; its train and test parts must be there.
        out_sets: Sets of OOD images, test parts.
        stand_in, stand_in_outs: Embedded sets.
        shape: (C, H, W) that all images are brought to.
        n: Images per set at most, drawn with `seed`.
        seed: Of the draw.

    Raises:
        ValueError: An unknown set, or the in-distribution set among the OOD sets.
        FileNotFoundError: No OOD set is on this machine although the in-distribution set is.
    """
    checks.whole("task", "n", n, least=1)
    checks.whole("task", "seed", seed, least=0, most=2**32 - 1)
    checks.image_shape("task", shape)
    if isinstance(out_sets, str) or not out_sets:
        raise ValueError(f"task expects several OOD sets, got {out_sets!r}: write for example ('mnist', 'kmnist').")
    for name in (in_set, *out_sets, stand_in, *stand_in_outs):
        if len(entry(name).shape) != 3:
            raise ValueError(
                f"task expects sets of images, got {name!r}: its items have the shape {entry(name).shape}."
            )
    inside = choose(in_set, stand_in)
    names = list(dict.fromkeys(entry(name).name for name in out_sets))
    if entry(in_set).name in names:
        raise ValueError(
            f"task expects OOD sets other than the in-distribution set, got {in_set} among them: its score would be the "
            "chance's; leave it out."
        )
    if entry(stand_in).name in {entry(name).name for name in stand_in_outs}:
        raise ValueError(f"task expects stand-in OOD sets other than {stand_in}, got it among them: name another.")
    if inside.stand_in_for:
        outs: list[str | Choice] = [Choice(entry(name).name, ", ".join(names), "") for name in stand_in_outs]
        missing = []
    else:
        outs = [name for name in names if entry(name).embedded or find(name, "test") is not None]
        missing = [name for name in names if name not in outs]
        if not outs:
            ways = "; ".join(how_to_get(entry(name)) for name in missing)
            raise FileNotFoundError(f"task expects an OOD set on this machine, got none of {', '.join(names)}: {ways}.")
    loaded = {name if isinstance(name, str) else name.name: _test(name, shape, n, seed) for name in outs}
    sentence = f"{inside.sentence} OOD: {', '.join(loaded)}."
    if missing:
        sentence += f" Not on this machine and left out: {', '.join(missing)} (oodlab data {' '.join(missing)})."
    return Task(inside.name, _test(inside, shape, n, seed), loaded, sentence)


def _test(name: str | Choice, shape: tuple[int, int, int], n: int, seed: int) -> Split:
    whole = load(name, "test", download=False)
    split = load(name, "test", n=n, seed=seed, download=False) if n < len(whole) else whole
    x = as_shape(split.x, shape)
    if x is split.x:
        return split
    record = f"{split.info.record} as {'x'.join(map(str, shape))}"
    return Split(x, split.y, dataclasses.replace(split.info, record=record))
