"""What one training is, as one frozen object, and the key it is known by.

Imports: checks, identity, data.digests, its own folder.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn, optim

from oodlab import checks, identity
from oodlab.data.digests import Stored, drawing, stored_in
from oodlab.training.batches import Batches
from oodlab.training.devices import own_randomness
from oodlab.training.loop import fit


@dataclass(frozen=True)
class Recipe:
    """One training.

    What holds no state is the setting and the thing: a frozen dataclass that is called. What
    has state (replay, averages, data in memory) has a method `begin` that makes it when a
    training starts. `model` and `begin` get the trained models of `needs` by role where they
    have a parameter of this name.

    Attributes:
        name: What it is called in progress lines and tables; no part of its key.
        model: model() builds the network.
        objective: objective(model, **batch, generator=, should_stop=) -> parts, or objective.begin(model) builds that.
        batches: batches(step, generator) -> named tensors, or batches.begin() builds that.
        optimiser: optimiser(model) builds a torch optimiser.
        steps: Number of updates.
        warm_up: Steps of linear learning-rate warm-up.
        schedule: Factor on the learning rate by share of the budget used; None is constant.
        probe: probe() builds what measures the model during the run; None measures nothing.
        probes: Number of measurements, evenly spaced, besides one before the first update.
        snapshots: Number of times that the weights are kept, evenly spaced, besides those before the first update.
        needs: Other trainings that it is built from, by role; each is kept on its own and has the same seed.
        begins_with: Role whose final weights are copied into the model first, as far as names and shapes match.
    """

    name: str
    model: Callable[..., nn.Module]
    objective: Callable[..., Any]
    batches: Batches
    optimiser: Callable[..., optim.Optimizer]
    steps: int
    warm_up: int = 0
    schedule: Callable[[float], float] | None = None
    probe: Callable[[], Callable[[nn.Module], Any]] | None = None
    probes: int = 0
    snapshots: int = 0
    needs: Mapping[str, Recipe] = field(default_factory=dict)
    begins_with: str = ""

    identity_notes = ("name",)

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "warm_up": 0, "probes": 0, "snapshots": 0}.items():
            checks.whole(self.name, name, getattr(self, name), least=least)
        for name in ("model", "objective", "batches", "optimiser"):
            part = getattr(self, name)
            if not callable(getattr(part, "begin", None)):
                checks.function(
                    self.name, name, part, instead="a class, a function or a frozen dataclass that is called"
                )
        for role, need in self.needs.items():
            if not isinstance(need, Recipe):
                raise ValueError(
                    f"{self.name} expects recipes in needs, got {type(need).__name__} as {role!r}: name the training, not its model."
                )
        if self.begins_with:
            checks.one_of(self.name, "begins_with one of its needs,", self.begins_with, tuple(self.needs))

    def build(self, needs: Mapping[str, nn.Module]) -> nn.Module:
        """Build the network, given the trained models of `needs` by role."""
        return given(self.model, needs)()

    def begin(self, model: nn.Module, needs: Mapping[str, nn.Module]) -> Callable[..., Any]:
        """Return the objective with its state as it begins."""
        begin = getattr(self.objective, "begin", None)
        return given(begin, needs)(model) if begin else self.objective

    def feed(self, needs: Mapping[str, nn.Module]) -> Batches:
        """Return the source of batches with its data in memory."""
        begin = getattr(self.batches, "begin", None)
        return given(begin, needs)() if begin else self.batches

    @property
    def takes_needs(self) -> bool:
        """Whether the network or the objective cannot be built without the trained models of `needs`."""
        return any(_takes(part) for part in (self.model, getattr(self.objective, "begin", None)) if part)

    @property
    def stored(self) -> tuple[Stored, ...]:
        """The parts of data sets that it reads, those of `needs` aside."""
        parts = [part for name, part in identity.parts_of(self) if name != "needs"]
        return tuple(dict.fromkeys(found for part in parts for found in stored_in(part)))

    @property
    def text(self) -> str:
        """The canonical text of every field that decides the training, a line each."""
        return "\n".join(identity.lines_of(self))

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that are other ones where the training would be another one.

        Of its text, the source of all that builds it and of the loop, the stored values it reads and how its items
        are drawn from them, and the keys of what it needs.

        Raises:
            FileNotFoundError: A set that it reads is not on this machine and not in the table of digests.
        """
        own = [part for name, part in identity.parts_of(self) if name != "needs"]
        return identity.digest(
            self.text,
            identity.code_of(*own),
            identity.code_of(fit, built, given),
            identity.code_of(weights_that_fit) if self.begins_with else "",
            drawing() if self.stored else "",
            *(stored.digest for stored in self.stored),
            *(f"{role} {need.key}" for role, need in self.needs.items()),
        )[:16]


def built(recipe: Recipe, needs: Mapping[str, nn.Module], seed: int, device: torch.device) -> nn.Module:
    """Build a recipe's network with the initial weights of a seed."""
    with own_randomness(seed, device):
        return recipe.build(needs)


def weights_that_fit(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of given weights whose name and shape a model has, too."""
    return {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}


def given(builder: Callable[..., Any], needs: Mapping[str, nn.Module]) -> Callable[..., Any]:
    """Return a builder that has the trained models, where it has a parameter `needs`."""
    return functools.partial(builder, needs=MappingProxyType(dict(needs))) if _takes(builder) else builder


def _takes(builder: Callable[..., Any]) -> bool:
    try:
        return "needs" in inspect.signature(builder).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False
