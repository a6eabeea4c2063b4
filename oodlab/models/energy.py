"""Base classes of the kit's density models: an energy (unnormalised density), and a normalised density.

Convention: energy low = likely, in nats; log_density = -energy up to an unknown
constant; log_prob exists only where the density integrates to 1.

Imports: samplers.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from oodlab.samplers import value_and_grad


class EnergyModel(nn.Module, abc.ABC):
    """An unnormalised density exp(-energy(x))."""

    @abc.abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """Return the energy in nats, (B, *event) -> (B,); low = likely."""

    def log_density(self, x: Tensor) -> Tensor:
        """Return -energy(x): the log-density up to an unknown constant, nats, (B,)."""
        return -self.energy(x)


class Density(EnergyModel, abc.ABC):
    """A normalised density; its energy is -log_prob."""

    @abc.abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density, nats summed over the event, (B, *event) -> (B,)."""

    @abc.abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples, (n, *event)."""

    def energy(self, x: Tensor) -> Tensor:
        """Return -log_prob(x), (B,)."""
        return -self.log_prob(x)


def stein_score(model: EnergyModel, x: Tensor) -> Tensor:
    """Return the gradient of log_density with respect to x, detached, shape of x, nats per unit of x."""
    return value_and_grad(model.log_density, x)[1]


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let a model be a fixed function within a with block: eval mode, no gradients of parameters.

    Afterwards, also after an exception, each module's mode and each parameter's requires_grad are as before.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
