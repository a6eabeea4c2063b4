"""What a paper's setting is, as one frozen object, and how its budget shrinks.

A Preset describes one training, an Experiment one notebook: the trainings it
compares and its own settings.  Both hold classes and partials, never strings to
look up.  `sources` says where each number comes from; what the paper leaves open
is listed in `unstated` with our choice; what released code does differently is a
preset of its own.

Imports: checks, data, identity, training.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from oodlab import checks, identity
from oodlab.data import Stored
from oodlab.training import Batches
from oodlab.training.recipe import Recipe

PROFILES = ("smoke", "quick", "paper")
_NOTES = ("sources", "unstated", "profiles", "shrinks")

T = TypeVar("T")


@dataclass(frozen=True)
class Preset(Recipe):
    """A recipe whose parts are builders, with its budgets and the source of each number.

    Attributes:
        objective: Builds the objective for a model.
        batches: Builds the source of batches.
        start: The training whose final weights this one begins with, of the same model;
            None begins with fresh ones.
        profile: Which budget the fields describe.
        sources: Source of each number, by field or `field.argument`.
        unstated: What the paper leaves open, with our choice.
        profiles: Changed fields per profile; a mapping changes arguments of a partial.
    """

    start: Preset | None = None
    profile: str = "paper"
    sources: Mapping[str, str] = field(default_factory=dict)
    unstated: tuple[str, ...] = ()
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    identity_notes = ("name", "start", "profile", *_NOTES)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", {"start": self.start} if self.start else {})
        object.__setattr__(self, "begins_with", "start" if self.start else "")
        super().__post_init__()

    def begin(self, model: nn.Module, needs: Mapping[str, nn.Module]) -> Callable[..., Any]:
        """Build the objective for the model."""
        return self.objective(model)

    def feed(self, needs: Mapping[str, nn.Module]) -> Batches:
        """Build the source of batches."""
        return self.batches()

    @property
    def stored(self) -> tuple[Stored, ...]:
        """The parts of data sets that its builders name."""
        builders = [part for part in (self.batches, self.probe) if isinstance(part, functools.partial)]
        named = [builder.keywords for builder in builders if "name" in builder.keywords]
        own = [Stored(given["name"], given.get("split", "train"), given.get("without", ())) for given in named]
        return tuple(dict.fromkeys((*super().stored, *own)))

    def at(self, profile: str) -> Preset:
        """Return the same method at another budget, the training it starts from with it."""
        shrunk = _at(self, profile)
        return dataclasses.replace(shrunk, start=shrunk.start.at(profile)) if shrunk.start else shrunk

    def changed(self, **fields: Any) -> Preset:
        """Return a preset with other fields; a mapping changes arguments of a partial, as in profiles."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in fields:
            checks.one_of(f"{self.name}.changed", "a field of", name, known)
        return dataclasses.replace(self, **{name: _changed(getattr(self, name), new) for name, new in fields.items()})

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the text's SHA-256."""
        return identity.digest(self.text)[:12]


@dataclass(frozen=True)
class Experiment:
    """The setting of one notebook.

    Attributes:
        name: `<paper>/<notebook>`.
        runs: The trainings it compares, by variant.
        seeds: Number of seeds; they count up from the notebook's seed parameter.
        settings: Its own numbers (grid lines, test samples), by name.
        profile, sources, unstated, profiles: As in Preset.
        shrinks: Per profile, one sentence: what it makes smaller.
    """

    name: str
    runs: Mapping[str, Preset]
    seeds: int
    settings: Mapping[str, Any]
    profile: str = "paper"
    sources: Mapping[str, str] = field(default_factory=dict)
    unstated: tuple[str, ...] = ()
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shrinks: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.whole(self.name, "seeds", self.seeds, least=1)
        object.__setattr__(self, "runs", _Runs(self.runs))

    def at(self, profile: str) -> Experiment:
        """Return the same method at another budget, all trainings with it."""
        changed = _at(self, profile)
        return dataclasses.replace(changed, runs={key: run.at(profile) for key, run in self.runs.items()})

    def changed(self, **fields: Any) -> Experiment:
        """Return the experiment with the same fields changed in all its trainings (see Preset.changed)."""
        return dataclasses.replace(self, runs={key: run.changed(**fields) for key, run in self.runs.items()})

    identity_notes = _NOTES

    @property
    def text(self) -> str:
        """The canonical text of every field, trainings included."""
        return "\n".join(identity.lines_of(self))

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the text's SHA-256."""
        return identity.digest(self.text)[:12]


class _Runs(dict):
    """Trainings by variant; one that is not there is named with the nearest that is."""

    def __missing__(self, name: object) -> None:
        checks.one_of("runs", "a training of", name, tuple(self), why="an experiment lists them")


def _at(preset: T, profile: str) -> T:
    checks.one_of(preset.name, "profile", profile, PROFILES)
    if preset.profile != "paper":
        raise ValueError(
            f"{preset.name} expects at() on the paper's preset, got one at {preset.profile!r}: shrink it once, from the whole."
        )
    changes = {name: _changed(getattr(preset, name), new) for name, new in preset.profiles.get(profile, {}).items()}
    return dataclasses.replace(preset, profile=profile, **changes)


def _changed(old: Any, new: Any) -> Any:
    if isinstance(old, functools.partial) and isinstance(new, Mapping):
        unknown = set(new) - set(old.keywords)
        if unknown:
            raise ValueError(
                f"a change expects arguments of {old.func.__name__}, got {sorted(unknown)}: it has "
                f"{', '.join(sorted(old.keywords))}."
            )
        return functools.partial(old.func, *old.args, **{**old.keywords, **new})
    if isinstance(old, Preset) and isinstance(new, Mapping):
        return old.changed(**new)
    if isinstance(old, Mapping):
        return {**old, **new}
    return new


def describe(value: Any) -> str:
    """Return a canonical text: equal settings give equal texts, in this process and in any other."""
    return value.text if isinstance(value, Preset | Experiment) else identity.describe(value)


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a preset with its path, e.g. objective.chain.step_size."""
    if isinstance(value, bool) or value is None or isinstance(value, str | type | types.FunctionType):
        return
    if isinstance(value, int | float):
        yield path, value
        return
    if isinstance(value, functools.partial):
        items = [*((str(i), item) for i, item in enumerate(value.args)), *value.keywords.items()]
    elif dataclasses.is_dataclass(value):
        items = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in _NOTES]
        items = [
            (name, item) for name, item in items if name not in ("start", "needs")
        ]  # a preset has sources of its own
    elif isinstance(value, Mapping):
        items = value.items()
    else:
        items = [(str(i), item) for i, item in enumerate(value)]
    for name, item in items:
        yield from numbers(item, f"{path}.{name}" if path else name)


def explained(preset: Preset, known: Mapping[str, str]) -> dict[str, str]:
    """Return those of some sources that explain a number of a preset, by field or `field.argument`."""
    paths = [path for path, _ in numbers(preset)]
    return {key: text for key, text in known.items() if any(p == key or p.startswith(f"{key}.") for p in paths)}
