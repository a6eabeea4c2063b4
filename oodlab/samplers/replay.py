"""Initial states of chains: fresh random draws, and a replay buffer of states from earlier training steps.

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
    """Fresh initial states of chains, drawn from U(low, high) in every coordinate."""

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
    """Fresh initial states of chains, drawn from N(0, I), or uniformly on the unit sphere if sphere=True."""

    sphere: bool = False

    def __call__(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return fresh states of the shape, type and device of `like`."""
        x = noise(like, generator)
        return Sphere()(x) if self.sphere else x


class ReplayBuffer(nn.Module):
    """A replay buffer: chain states from earlier training steps, as one tensor on the device.

    There are two published kinds. fifo=True: a ring that starts empty; final states
    are appended, and the oldest states are overwritten. fifo=False: slots that start
    full of fresh states; final states are written to the slots that they were drawn
    from (of two chains from one slot, the later one's state is kept).  With
    classes > 1, slot y * (capacity / classes) + j belongs to class y.

    The buffer is a module: it moves to a device with its objective and is saved in checkpoints.

    Args:
        capacity: Number of states; a multiple of classes.
        shape: Shape of one state.
        start: Function that draws fresh states, called with a tensor of the wanted shape and a generator.
        restart: Probability that a drawn state is a fresh one.
        fifo: Ring (True) or slots (False).
        classes: Number of classes that the slots are divided into; 1 for a ring.
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
                f"ReplayBuffer expects a capacity that is a multiple of classes = {classes}, got {capacity}: all classes "
                "have equally many slots; change capacity or classes."
            )
        if fifo and classes > 1:
            raise ValueError(
                f"ReplayBuffer(fifo=True) expects classes = 1, got {classes}: a ring has no slots; take fifo=False."
            )
        self.start, self.restart, self.fifo, self.classes = start, restart, fifo, classes
        self.register_buffer("states", torch.zeros(capacity, *shape))
        self.register_buffer("_head", torch.zeros((), dtype=torch.long), persistent=False)  # next position to write
        self._filled = 0  # on the host: it does not depend on values of tensors

    def __len__(self) -> int:
        return self._filled

    def get_extra_state(self) -> dict[str, int]:
        """Return the ring's next position and the number of filled slots, for checkpoints."""
        return {"head": int(self._head), "filled": self._filled}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore the ring's next position and the number of filled slots."""
        self._head.fill_(state["head"])
        self._filled = state["filled"]

    def divide(self, part: int, parts: int) -> None:
        """Keep only share `part` of `parts` equal shares (see share_of): each process of a training has one."""
        if len(self.states) % (self.classes * parts):
            raise ValueError(
                f"ReplayBuffer expects a capacity that is a multiple of classes x processes = {self.classes} x {parts}, got "
                f"{len(self.states)}: each process keeps an equal share; change the capacity or the number of processes."
            )
        self.replace(share_of(self.state_dict(), part, parts))

    def replace(self, state: Mapping[str, Any]) -> None:
        """Replace the buffer's content by a state_dict, whose capacity may differ."""
        self.states = state["states"].to(self.states.device)
        self.set_extra_state(state["_extra_state"])

    def draw(
        self, n: int, *, y: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw n initial states of chains with replacement; each is a fresh state with probability `restart`.

        Args:
            n: Number of chains.
            y: Classes of the chains, (n,), if the slots are divided by class.
            generator: Source of randomness on the buffer's device.

        Returns:
            Copies of states, (n, *shape), and their slots, (n,), for `write`.
        """
        if (y is None) != (self.classes == 1):
            raise ValueError(
                f"ReplayBuffer.draw expects y exactly when it has classes, got {'none' if y is None else 'some'}: "
                f"this buffer has classes = {self.classes}; pass y only if classes > 1."
            )
        checks.whole("ReplayBuffer.draw", "n", n, least=1)
        filled = self._filled
        if not self.fifo and not filled:  # not counted as filled before the first write: a stopped step is repeated
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
        """Store final states of chains, (n, *shape), in the `slots` that `draw` returned (a ring ignores them)."""
        n, capacity = len(states), len(self.states)
        if states.shape[1:] != self.states.shape[1:]:
            raise ValueError(
                f"ReplayBuffer.write expects states of shape {tuple(self.states.shape[1:])}, got "
                f"{tuple(states.shape[1:])}: build the buffer with the shape of the chains' states."
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

    In each share, a class keeps its slots in order, and a ring that is not yet full keeps its oldest states in front.
    """
    position = {name: value // parts for name, value in state["_extra_state"].items()}
    return {"states": state["states"][part::parts].clone(), "_extra_state": position}


def joined(shares: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state_dict of a replay buffer from its equal shares, given in order: the inverse of share_of."""
    position = {name: value * len(shares) for name, value in shares[0]["_extra_state"].items()}
    states = torch.stack([share["states"] for share in shares], dim=1).flatten(0, 1)
    return {"states": states, "_extra_state": position}
