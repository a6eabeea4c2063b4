"""Normalising flow: a density from invertible layers, in which part of the latent is split off at each scale.

Imports: data, models.energy, its own folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oodlab.data.transforms import logit_forward, logit_inverse
from oodlab.models.energy import Density
from oodlab.models.flows.layers import FlowLayer


class Flow(Density):
    """A normalising flow: layers at one or more scales map an input to a standard normal latent.

    After every scale but the last, the second half of the channels is split off as a
    part of the latent and passes no further layer. For images, log_prob is the
    log-density of w in [0, 1]^D in nats; metrics.bits_per_dim converts it to bits
    per dimension of stored values, for which D log 256 is subtracted.

    Args:
        event_shape: Shape of one input.
        scales: Layers of each scale, from the input on.

    Source: Dinh et al. (2017), arXiv:1605.08803, section 3.6.
    """

    def __init__(self, event_shape: tuple[int, ...], scales: Sequence[Sequence[FlowLayer]]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.scales = nn.ModuleList(nn.ModuleList(layers) for layers in scales)
        self.register_buffer("origin", torch.zeros(()), persistent=False)  # device and dtype, even without parameters
        self.latent_shapes = self._latent_shapes()

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent and log abs det dz/dx in nats, (B, *event) -> (B, D), (B,)."""
        parts = self._parts(x)
        return torch.cat([z.flatten(1) for z, _ in parts], dim=1), torch.stack([d for _, d in parts]).sum(dim=0)

    def inverse(self, z: Tensor) -> Tensor:
        """Return the x that forward_and_log_det maps to the latent z, (B, D) -> (B, *event)."""
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        parts = [part.unflatten(1, shape) for part, shape in zip(z.split(sizes, 1), self.latent_shapes, strict=True)]
        x = parts.pop()
        for i, layers in reversed(list(enumerate(self.scales))):
            for layer in reversed(layers):
                x = layer.inverse(x)
            if i:
                x = torch.cat([x, parts.pop()], dim=1)
        return x

    def contributions(self, x: Tensor) -> Tensor:
        """Return each scale's share of log_prob, (B, *event) -> (B, scales).

        A scale's share is its layers' log-determinant plus log N(z; 0, I) of the
        part z of the latent that is split off after the scale.
        """
        return torch.stack([_log_standard_normal(z) + log_det for z, log_det in self._parts(x)], dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats, (B, *event) -> (B,)."""
        return self.contributions(x).sum(dim=1)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples, (n, *event); values of images may lie slightly outside of [0, 1]."""
        shape = (n, math.prod(self.event_shape))
        z = torch.randn(shape, generator=generator, dtype=self.origin.dtype, device=self.origin.device)
        return self.inverse(z)

    def _parts(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(
                f"{type(self).__name__} expects x of shape (B, {', '.join(map(str, self.event_shape))}), got "
                f"{tuple(x.shape)}: it was built for that shape; resize the inputs or build another flow."
            )
        parts = []
        for i, layers in enumerate(self.scales):
            log_det = x.new_zeros(len(x))
            for layer in layers:
                x, change = layer.forward_and_log_det(x)
                log_det = log_det + change
            leaving = x
            if i < len(self.scales) - 1:
                x, leaving = x.chunk(2, dim=1)
            parts.append((leaving, log_det))
        return parts

    def _latent_shapes(self) -> list[tuple[int, ...]]:
        shape, shapes = self.event_shape, []
        for i, layers in enumerate(self.scales):
            for layer in layers:
                shape = layer.output_shape(shape)
            if i < len(self.scales) - 1:
                shape = (shape[0] // 2, *shape[1:])
            shapes.append(shape)
        return shapes


def _log_standard_normal(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) in nats, (B, ...) -> (B,)."""
    return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(dim=1)


class LogitNormal(Density):
    """A flow without couplings, which learns nothing: a standard normal on the logits of w, for events of any shape.

    Args:
        event_shape: Shape of one sample; None if no samples are drawn.
    """

    def __init__(self, event_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.register_buffer("origin", torch.zeros(()), persistent=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of w in nats, (B, *event) -> (B,)."""
        logit, log_det = logit_forward(x)
        return _log_standard_normal(logit) + log_det

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples, (n, *event).

        Raises:
            ValueError: event_shape is None.
        """
        if self.event_shape is None:
            raise ValueError(
                "LogitNormal expects an event_shape to sample, got None: build it with one, e.g. LogitNormal((1, 28, 28))."
            )
        shape = (n, *self.event_shape)
        return logit_inverse(
            torch.randn(shape, generator=generator, dtype=self.origin.dtype, device=self.origin.device)
        )
