"""Starts of chains: fresh draws, and states kept from earlier training steps.

Imports: checks, samplers.chains, samplers.parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oodlab import checks
from oodlab.samplers.chains import noise
from oodlab.samplers.parts import Sphere, per_chain


@dataclass(frozen=True)
class Uniform:
    """Start from U(low, high) in every coordinate."""

    low: float
    high: float

    def __post_init__(self) -> None:
        checks.number("Uniform", "low", self.low)
        checks.number("Uniform", "high", self.high, above=self.low)

    def __call__(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return fresh states of the shape, type and device of `like`."""
        u = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class Normal:
    """Start from N(0, I); sphere=True projects it, which is the uniform law on the sphere."""

    sphere: bool = False

    def __call__(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return fresh states of the shape, type and device of `like`."""
        x = noise(like, generator)
        return Sphere()(x) if self.sphere else x


class ReplayBuffer(nn.Module):
    """Chain states kept between training steps, as one tensor on the device.

    Two published kinds. fifo=True: a ring that starts empty; final states are
    appended and the oldest overwritten. fifo=False: slots that start full;
    final states go back to the slots they were drawn from (twice the same slot:
    the later one stays).  With classes > 1 slot y * (capacity / classes) + j
    belongs to class y.

    As a module it moves with the objective that owns it and is part of checkpoints.

    Args:
        capacity: Number of states; a multiple of classes.
        shape: Shape of one state.
        start: Draws fresh states, called with a tensor of the wanted shape and a generator.
        restart: Probability that a drawn state is a fresh one.
        fifo: Ring (True) or slots (False).
        classes: Number of classes the slots are divided into; slots only.
    """

    def __init__(
        self,
        capacity: int,
        shape: Sequence[int],
        *,
        start: Callable[[Tensor, torch.Generator | None], Tensor],
        restart: float,
        fifo: bool,
        classes: int = 1,
    ) -> None:
        super().__init__()
        checks.whole("ReplayBuffer", "classes", classes, least=1)
        checks.whole("ReplayBuffer", "capacity", capacity, least=1)
        checks.number("ReplayBuffer", "restart", restart, least=0, most=1, why="it is a probability")
        checks.function("ReplayBuffer", "start", start, instead="Uniform(low, high) or Normal()")
        if not isinstance(shape, Sequence):
            raise ValueError(f"ReplayBuffer expects the shape of one state, got {shape!r}: write it as ({shape!r},).")
        for size in shape:
            checks.whole("ReplayBuffer", "sizes in shape", size, least=1)
        if capacity % classes:
            raise ValueError(
                f"ReplayBuffer expects a capacity that is a multiple of classes = {classes}, got {capacity}: each class "
                "has as many slots; change one of them."
            )
        if fifo and classes > 1:
            raise ValueError(
                f"ReplayBuffer(fifo=True) expects classes = 1, got {classes}: a ring has no slots; take fifo=False."
            )
        self.start, self.restart, self.fifo, self.classes = start, restart, fifo, classes
        self.register_buffer("states", torch.zeros(capacity, *shape))
        self.register_buffer("_head", torch.zeros((), dtype=torch.long), persistent=False)  # next position to write
        self._filled = 0  # on the host: its course does not depend on values

    def __len__(self) -> int:
        return self._filled

    def get_extra_state(self) -> dict[str, int]:
        """Return the ring's position for checkpoints."""
        return {"head": int(self._head), "filled": self._filled}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore the ring's position."""
        self._head.fill_(state["head"])
        self._filled = state["filled"]

    def divide(self, part: int, parts: int) -> None:
        """Keep share number `part` of `parts` equal ones (see share_of), for processes that train together."""
        if len(self.states) % (self.classes * parts):
            raise ValueError(
                f"ReplayBuffer expects a capacity that is a multiple of classes x processes = {self.classes} x {parts}, got "
                f"{len(self.states)}: each process keeps an equal share; change the capacity or the number of processes."
            )
        self.replace(share_of(self.state_dict(), part, parts))

    def replace(self, state: Mapping[str, Any]) -> None:
        """Take over a state of any capacity."""
        self.states = state["states"].to(self.states.device)
        self.set_extra_state(state["_extra_state"])

    def draw(
        self, n: int, *, y: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw n chain starts with replacement, fresh ones among them.

        Args:
            n: Number of chains.
            y: Classes (n,) when the slots are divided by class.
            generator: On the replay's device.

        Returns:
            States (n, *shape), copies, and their slots (n,) for `write`.
        """
        if (y is None) != (self.classes == 1):
            raise ValueError(
                f"ReplayBuffer.draw expects y exactly when it has classes, got {'none' if y is None else 'some'}: "
                f"it has classes = {self.classes}."
            )
        checks.whole("ReplayBuffer.draw", "n", n, least=1)
        filled = self._filled
        if not self.fifo and not filled:  # not counted before the first write: a step that is stopped is done anew
            self.states.copy_(self.start(self.states, generator))
            filled = len(self.states)
        device = self.states.device
        fresh = self.start(self.states.new_empty(n, *self.states.shape[1:]), generator)
        if not filled:
            return fresh, torch.zeros(n, dtype=torch.long, device=device)
        slots = torch.randint(filled // self.classes, (n,), generator=generator, device=device)
        if y is not None:
            slots = slots + y * (len(self.states) // self.classes)
        renew = torch.rand(n, generator=generator, device=device) < self.restart
        return torch.where(per_chain(renew, fresh), fresh, self.states[slots]), slots

    @torch.no_grad()
    def write(self, states: Tensor, slots: Tensor) -> None:
        """Keep final states (n, *shape); `slots` are those of `draw` (unused by a ring)."""
        n, capacity = len(states), len(self.states)
        if states.shape[1:] != self.states.shape[1:]:
            raise ValueError(
                f"ReplayBuffer.write expects states of shape {tuple(self.states.shape[1:])}, got "
                f"{tuple(states.shape[1:])}: build it with the shape that the chains have."
            )
        if self.fifo:
            if n > capacity:
                raise ValueError(
                    f"ReplayBuffer.write expects at most {capacity} states at once, got {n}: they would overwrite each "
                    "other; raise capacity to the batch size at least."
                )
            slots = (self._head + torch.arange(n, device=self.states.device)) % capacity
            self._head.add_(n).remainder_(capacity)
            self._filled = min(self._filled + n, capacity)
            self.states[slots] = states
        else:
            last = torch.zeros(capacity, dtype=torch.long, device=slots.device)
            last.scatter_reduce_(0, slots, torch.arange(n, device=slots.device), "amax")
            self.states[slots] = states[last[slots]]  # equal slots write equal values: no race
            self._filled = capacity


def share_of(state: Mapping[str, Any], part: int, parts: int) -> dict[str, Any]:
    """Return every parts-th state of a replay's state_dict, from number `part` on.

    So a class keeps its slots in order, and a ring that is not full yet its oldest states in front.
    """
    position = {name: value // parts for name, value in state["_extra_state"].items()}
    return {"states": state["states"][part::parts].clone(), "_extra_state": position}


def joined(shares: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the replay's state_dict whose equal shares are given, in their order."""
    position = {name: value * len(shares) for name, value in shares[0]["_extra_state"].items()}
    states = torch.stack([share["states"] for share in shares], dim=1).flatten(0, 1)
    return {"states": states, "_extra_state": position}
