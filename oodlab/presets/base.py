"""What a paper's setting is, as one frozen object, and how its budget shrinks.

A Preset describes one training, an Experiment one notebook: the trainings it
compares and its own settings.  Both hold classes and partials, never strings to
look up.  `sources` says where each number comes from; what the paper leaves open
is listed in `unstated` with our choice; what released code does differently is a
preset of its own.

Imports: checks.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from oodlab import checks

PROFILES = ("smoke", "quick", "paper")
_NOTES = ("sources", "unstated", "profiles", "shrinks")

T = TypeVar("T")


@dataclass(frozen=True)
class Preset:
    """The setting of one training.

    Attributes:
        name: `<paper>/<notebook>/<variant>`.
        model: Builds the model.
        objective: Builds the objective for a model.
        batches: Builds the source of batches.
        optimiser: Builds the optimiser of a model.
        steps: Number of updates.
        warm_up: Steps of linear learning-rate warm-up.
        schedule: Factor on the learning rate by share of the budget used; None is constant.
        probe: Builds what measures the model during the run; None measures nothing.
        probes: Number of measurements, evenly spaced, besides one before the first update.
        start: The training whose final weights this one begins with, of the same model;
            None begins with fresh ones.
        profile: Which budget the fields describe.
        sources: Source of each number, by field or `field.argument`.
        unstated: What the paper leaves open, with our choice.
        profiles: Changed fields per profile; a mapping changes arguments of a partial.
    """

    name: str
    model: Callable[[], nn.Module]
    objective: Callable[[nn.Module], Callable[..., Any]]
    batches: Callable[[], Any]
    optimiser: Callable[[nn.Module], Any]
    steps: int
    warm_up: int = 0
    schedule: Callable[[float], float] | None = None
    probe: Callable[[], Callable[[nn.Module], Any]] | None = None
    probes: int = 0
    start: Preset | None = None
    profile: str = "paper"
    sources: Mapping[str, str] = field(default_factory=dict)
    unstated: tuple[str, ...] = ()
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "warm_up": 0, "probes": 0}.items():
            checks.whole(self.name, name, getattr(self, name), least=least)
        for name in ("model", "objective", "batches", "optimiser"):
            checks.function(
                self.name, name, getattr(self, name), instead="a class, a function or a partial that builds it"
            )

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
    def text(self) -> str:
        """The canonical text of every field that decides the training, one line each."""
        return describe(self)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


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

    @property
    def text(self) -> str:
        """The canonical text of every field, trainings included."""
        return describe(self)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


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
    if isinstance(value, Preset | Experiment):
        lines = []
        for f in dataclasses.fields(value):
            item = getattr(value, f.name)
            if isinstance(item, Preset):
                lines.append(f"{f.name} =\n{textwrap.indent(describe(item), '    ')}")
            elif f.name not in _NOTES:
                lines.append(f"{f.name} = {describe(item)}")
        return "\n".join(lines)
    if isinstance(value, functools.partial):
        arguments = [describe(a) for a in value.args]
        arguments += [f"{name}={describe(a)}" for name, a in sorted(value.keywords.items())]
        return f"{describe(value.func)}({', '.join(arguments)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f"{f.name}={describe(getattr(value, f.name))}" for f in dataclasses.fields(value)]
        return f"{type(value).__qualname__}({', '.join(fields)})"
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) and "<" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Mapping):
        nested = any(isinstance(item, Preset) for item in value.values())
        if nested:
            return "".join(f"\n[{key}]\n{describe(item)}" for key, item in value.items())
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in sorted(value.items())) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(describe(item) for item in value) + ")"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise TypeError(
        f"describe expects numbers, text, classes, named functions, partials and dataclasses, got {value!r}: "
        "a preset must mean the same in every process."
    )


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
        items = [(name, item) for name, item in items if name != "start"]  # a preset has sources of its own
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
