"""Chains in the middle of their way over what a panel has learned.

The steps are those of samplers; here is only where chains are.

Imports: models, samplers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oodlab.models import Autoencoder, frozen
from oodlab.samplers import Box, ChainRecord, LangevinChain, MalaChain

Chain = LangevinChain | MalaChain


def visible_start(model: Autoencoder, codes: Tensor, bounds: Box | None) -> Tensor:
    """Return decoded codes within bounds, as on-manifold initialisation starts visible chains there."""
    x = model.decode(codes)
    return x if bounds is None else bounds(x, x)


class Walk:
    """Chains in the middle of their way over an autoencoder's density.

    Args:
        model: Model whose density is walked on; a latent chain walks on that of its decoded codes.
        space: "latent" or "visible".
        state: Codes or inputs, (B, *event).
        seed: Seed of the noise.
        start_bounds: Region that decoded codes are clamped to where a visible chain starts from them.

    Attributes:
        energies: After every step so far, the start included, nats, each (B,) on the CPU.
        turns: Numbers of steps at which the walk went on in another space, with its name; the first is (0, space).
        t: Steps in this space.
        start: Starts of the chains, visible, (B, *event) on the CPU.
    """

    def __init__(self, model: Autoencoder, space: str, state: Tensor, seed: int, start_bounds: Box | None) -> None:
        self.model, self.space, self.state, self.t = model, space, state, 0
        self._start_bounds = start_bounds
        self._generator = torch.Generator(state.device).manual_seed(seed)
        self.turns = [(0, space)]
        self.start = self.points
        self.energies = [self._energy(state)]

    @property
    @torch.no_grad()
    def points(self) -> Tensor:
        """The states of the chains, visible, (B, *event) on the CPU."""
        return (self.model.decode(self.state) if self.space == "latent" else self.state).cpu()

    def go(self, chain: Chain, steps: int) -> None:
        """Take some steps more; noise that falls goes on falling."""
        record = ChainRecord()
        with frozen(self.model):
            part = chain.part(self.t, steps)
            self.state = part(self._log_density, self.state, generator=self._generator, record=record)
        self.energies += [self._energy(state) for state in record.states[1:]]
        self.t += steps

    @torch.no_grad()
    def turn(self, space: str) -> None:
        """Go on in the other space: from codes to what they decode to, within bounds, or from inputs to their codes."""
        if space != self.space:
            if space == "latent":
                self.state = self.model.encode(self.state)
            else:
                self.state = visible_start(self.model, self.state, self._start_bounds)
            self.space, self.t = space, 0
            self.turns.append((len(self.energies), space))
            self.energies.append(self._energy(self.state))

    def _log_density(self, state: Tensor) -> Tensor:
        return self.model.log_density(self.model.decode(state) if self.space == "latent" else state)

    @torch.no_grad()
    def _energy(self, state: Tensor) -> Tensor:
        return -self._log_density(state).cpu()
