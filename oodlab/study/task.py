"""What is inside a distribution and what is outside: sets, held-out classes, made inputs.  Knows no model.

Imports: checks, data, identity.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from oodlab import checks, data, identity
from oodlab.data import Split, SplitInfo, Stored
from oodlab.data.digests import differs, drawing, is_here, stored_in
from oodlab.data.search import find, how_to_get
from oodlab.data.sets import find_entry

HELD_OUT = "held out"


@dataclass(frozen=True)
class Made:
    """Inputs that are made, and lie outside.

    Attributes:
        name: What tables call them.
        draw: draw(n, shape, generator) -> stored values, (n, *shape); with `of_test` draw(test items, their labels) ->
            stored values, a set of as many items.
        prepared: Whether they are a model's inputs already, which no preprocessing touches.
        of_test: Whether they are made of the inside set's test items, as these are stored.
        n: Number that is drawn at most; None draws as many as there are test items of the inside set.
    """

    name: str
    draw: Callable[..., Tensor]
    prepared: bool = False
    of_test: bool = False
    n: int | None = None


@dataclass(frozen=True)
class Task:
    """One question: does an input belong to this set?

    Attributes:
        inside: Set whose training part is learned and whose test part is inside.
        outside: Sets whose test parts are outside, and made inputs.
        held_out: Classes of the inside set that training leaves out; their items are the outside set "held out".
        held_out_split: Split that these items are of: "test", or "all" where a set has no others: none is trained on.
        equal_sizes: Whether a row compares as many inside as outside items, drawn from the larger set: AUPR depends on the ratio.
        shape: (C, H, W) that all images are brought to, those of outside sets by way of the shape that the inside set is
            stored in; None keeps stored ones.
        train: Split that is trained on: "train-val" where validation selects anything.
        stand_in, stand_in_outside, stand_in_held_out: Embedded sets, and classes, that take the place of absent ones; a made
            input among them that of the same name.
        stand_in_for: Set that this task stands in for; empty for the task itself.
    """

    inside: str
    outside: tuple[str | Made, ...] = ()
    held_out: tuple[int | str, ...] = ()
    held_out_split: str = "test"
    equal_sizes: bool = False
    shape: tuple[int, int, int] | None = None
    train: str = "train"
    stand_in: str = "photo_patches"
    stand_in_outside: tuple[str | Made, ...] = ("digits",)
    stand_in_held_out: tuple[int | str, ...] = ()
    stand_in_for: str = ""

    identity_notes = ("stand_in", "stand_in_outside", "stand_in_held_out", "stand_in_for")

    def __post_init__(self) -> None:
        if isinstance(self.outside, str) or not (self.outside or self.held_out):
            raise ValueError(
                f"Task expects sets outside of {self.inside}, or held_out classes of it, got outside={self.outside!r}: write "
                "for example outside=('mnist', 'kmnist')."
            )
        for name in ("outside", "held_out", "stand_in_outside", "stand_in_held_out"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        names = [_known_as(self.inside), *(_known_as(one) for one in self.outside)]
        if len(set(names)) < len(names) and names[0] not in names[1:]:
            raise ValueError(f"Task expects every outside set once, got {', '.join(names[1:])}: leave one out.")
        if names[0] in names[1:]:
            raise ValueError(
                f"Task expects sets outside of {self.inside}, got it among them: its AUROC would be chance's; leave it out."
            )
        if self.shape is not None:
            checks.image_shape("Task", self.shape)

    @property
    def name(self) -> str:
        """What tables call the inside set."""
        held_out = f" without {'+'.join(map(str, self.held_out))}" if self.held_out else ""
        instead = f" for {self.stand_in_for}" if self.stand_in_for else ""
        return f"{self.inside}{held_out}{instead}"

    def training(self, *, n: int | None = None, seed: int = 0) -> Stored:
        """Name the training items: n of them at most, drawn with a seed."""
        return Stored(self.inside, self.train, without=self.held_out, n=n, seed=seed)

    def test(self, *, n: int | None = None, seed: int = 0) -> Stored:
        """Name the test items that are inside."""
        return Stored(self.inside, "test", without=self.held_out, n=n, seed=seed)

    def outsides(self, *, n: int | None = None, seed: int = 0) -> dict[str, Stored | Made]:
        """Name the items that are outside, by the name of their set."""
        found: dict[str, Stored | Made] = {}
        if self.held_out:
            found[HELD_OUT] = Stored(self.inside, self.held_out_split, only=self.held_out, n=n, seed=seed)
        for one in self.outside:
            found[one.name if isinstance(one, Made) else one] = (
                one if isinstance(one, Made) else Stored(one, "test", n=n, seed=seed)
            )
        return found

    @property
    def is_here(self) -> bool:
        """Whether the inside set's training and test parts are on this machine."""
        return is_here(self.inside, self.train) and is_here(self.inside, "test")

    def with_stand_ins(self) -> Task:
        """Return the task played with embedded sets, class numbers as they are."""
        replaced = {_known_as(one) for one in self.stand_in_outside}
        kept = (one for one in self.outside if isinstance(one, Made) and one.name not in replaced)
        return dataclasses.replace(
            self,
            inside=self.stand_in,
            held_out=self.stand_in_held_out,
            outside=(*self.stand_in_outside, *kept),
            stand_in_for=self.inside,
        )

    def here(self) -> Task:
        """Return what of the task can be played on this machine: absent outside sets are left out, or all stands in.

        Raises:
            FileNotFoundError: The inside set is here and nothing that is outside.
        """
        if not self.is_here:
            return self.with_stand_ins()
        present = tuple(one for one in self.outside if all(is_here(*part) for part in _parts(one)))
        if not (present or self.held_out):
            names = sorted({name for one in self.outside for name, _ in _parts(one)})
            ways = "; ".join(map(_how_to_get, names))
            raise FileNotFoundError(
                f"Task expects a set outside of {self.inside} on this machine, got none of {', '.join(names)}: {ways}."
            )
        return dataclasses.replace(self, outside=present)

    @property
    def sentence(self) -> str:
        """What is used on this machine, what stands in, what is left out, and what differs from the committed rows' data."""
        used = self.here()
        outside = [name for name, one in used.outsides().items() if isinstance(one, Stored)]
        made = [name for name, one in used.outsides().items() if isinstance(one, Made)]
        said = f"Inside: {used.name}"
        if used.stand_in_for:
            said += f", embedded stand-in for {used.stand_in_for} ({_how_to_get(used.stand_in_for)})"
        said += f"; outside: {', '.join(outside + made)}."
        left_out = [one for one in self.outside if one not in used.outside and not used.stand_in_for]
        absent = sorted({name for one in left_out for name, split in _parts(one) if not is_here(name, split)})
        if absent:
            said += f" Not on this machine and left out: {', '.join(absent)} (oodlab data {' '.join(absent)})."
        parts = {
            (used.inside, used.train),
            *((one.name, "test") for one in used.outsides().values() if isinstance(one, Stored)),
        }
        other = sorted({name for name, split in parts if differs(name, split)})
        if other:
            said += f" Other values here than behind the committed rows: {', '.join(other)}."
        return said

    def load(self, *, n: int | None = None, train_n: int | None = None, seed: int = 0) -> Inputs:
        """Return the task's inputs: n test items of each set at most and train_n training items, drawn with a seed.

        Raises:
            FileNotFoundError: A set is not on this machine; `here` leaves it out or lets another stand in.
        """
        return Inputs(self, n, train_n, seed)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Stored values and labels of a task, loaded when first asked for.

    Attributes:
        task: Task.
        n, train_n: Test items of each set, and training items, at most; None takes all.
        seed: Seed of their draws.
    """

    task: Task
    n: int | None
    train_n: int | None
    seed: int

    @functools.cached_property
    def train(self) -> Split:
        """Training items."""
        return self._shaped(self.task.training(n=self.train_n, seed=self.seed).load())

    @functools.cached_property
    def validation(self) -> Split:
        """Items of the training classes that are neither trained on nor tested."""
        return self._shaped(dataclasses.replace(self.task.training(n=self.train_n, seed=self.seed), split="val").load())

    @functools.cached_property
    def test(self) -> Split:
        """Test items that are inside."""
        return self._shaped(self._stored_test)

    @functools.cached_property
    def _stored_test(self) -> Split:
        return self.task.test(n=self.n, seed=self.seed).load()

    @functools.cached_property
    def outside(self) -> Mapping[str, Split]:
        """Items that are outside, by set; made ones have no labels."""
        named = self.task.outsides(n=self.n, seed=self.seed)
        return {
            name: self._made(one) if isinstance(one, Made) else self._shaped(self._as_inside(one.load()))
            for name, one in named.items()
        }

    @property
    def prepared(self) -> frozenset[str]:
        """Names of outside sets that no preprocessing touches."""
        return frozenset(one.name for one in self.task.outside if isinstance(one, Made) and one.prepared)

    def _as_inside(self, split: Split) -> Split:
        """Bring images of an outside set to the stored shape of the inside set: sets then lose the same by shrinking."""
        stored = tuple(self._stored_test.x.shape[1:])
        if self.task.shape is None or tuple(split.x.shape[1:]) == stored:
            return split
        return dataclasses.replace(split, x=data.as_shape(split.x, stored))

    def _shaped(self, split: Split) -> Split:
        if self.task.shape is None or split.x.shape[1:] == self.task.shape:
            return split
        record = f"{split.info.record} as {'x'.join(map(str, self.task.shape))}"
        return Split(data.as_shape(split.x, self.task.shape), split.y, dataclasses.replace(split.info, record=record))

    def _made(self, one: Made) -> Split:
        n = len(self.test) if self.n is None else self.n
        if one.of_test:
            x = one.draw(self._stored_test.x, self._stored_test.y)
            x, n = (x if self.task.shape is None else data.as_shape(x, self.task.shape)), len(x)
        else:
            n = n if one.n is None else min(n, one.n)
            x = one.draw(n, tuple(self.test.x.shape[1:]), torch.Generator().manual_seed(self.seed))
        info = SplitInfo(one.name, "test", "synthetic", f"{one.name}(n={n}, seed={self.seed})", (), n, n, None)
        return Split(x, torch.full((n,), -1), info)


@dataclass(frozen=True)
class Drawn:
    """A distribution that points are drawn from at will and whose density is known; nothing is outside of it.

    Attributes:
        inside: Name.
        draw: draw(n, generator) -> points, (n, *event).
        log_prob: Its log-density, nats, (B, *event) -> (B,).
    """

    inside: str
    draw: Callable[[int, torch.Generator], Tensor]
    log_prob: Callable[[Tensor], Tensor]

    outside: ClassVar[tuple[()]] = ()
    stand_in_for: ClassVar[str] = ""
    is_here: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.inside

    def here(self) -> Drawn:
        """Return the task itself: nothing of it can be absent."""
        return self

    def with_stand_ins(self) -> Drawn:
        """Return the task itself: nothing stands in."""
        return self

    @property
    def sentence(self) -> str:
        """What is used."""
        return f"Drawn at will: {self.inside}."

    def load(self, *, n: int | None = None, train_n: int | None = None, seed: int = 0) -> Sample:
        """Draw n fresh points and train_n others, none of which a training has seen.

        Raises:
            ValueError: A number is not given.
        """
        for name, value in {"n": n, "train_n": train_n}.items():
            checks.whole("Drawn.load", name, value, least=1)
        generator = torch.Generator().manual_seed(seed + 1_000_003)  # no training has this seed
        fit, test = self.draw(n + train_n, generator).split([train_n, n])
        return Sample(self, fit, test)


@dataclass(frozen=True, eq=False)
class Sample:
    """Fresh points of a known distribution.

    Attributes:
        task: Distribution.
        fit: Points that something may be fitted on, (N, *event).
        test: Other points, (M, *event).
    """

    task: Drawn
    fit: Tensor
    test: Tensor


def digest_of(one: Stored | Made | Drawn) -> str:
    """Return what tells these items from others: the digest of their set and how they are drawn, or what makes them."""
    if isinstance(one, Made | Drawn):
        return identity.digest(identity.describe(one), identity.code_of(one), *read_by(one))
    return identity.digest(identity.describe(one), one.digest, drawing())


def read_by(value: Any) -> list[str]:
    """Return the digests of the sets that a setting reads, and how it draws from them."""
    stored = list(stored_in(value))
    return [*(one.digest for one in stored), *([drawing()] if stored else [])]


def _parts(one: str | Made) -> list[tuple[str, str]]:
    """Return the sets that outside inputs are of, or are made from, each with its split."""
    return [(each.name, each.split) for each in stored_in(one)] if isinstance(one, Made) else [(one, "test")]


def _known_as(one: str | Made) -> str:
    """Return the name that a set has in the table, whatever alias it is called by."""
    if isinstance(one, Made):
        return one.name
    known = find_entry(one) if one.isidentifier() else None
    return known.name if known else one


def _how_to_get(name: str) -> str:
    known = find_entry(name)
    if known is None:
        return f"save {name} below a folder of OODLAB_DATA"
    return how_to_get(known) if find(known.name, "test") is None else f"oodlab data {name}"
