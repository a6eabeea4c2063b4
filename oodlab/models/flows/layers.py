"""Invertible layers with exact log-determinants.

Convention: forward_and_log_det goes from data towards the latent; log_det is
log abs det dz/dx in nats, (B,).

Imports: data.
"""

from __future__ import annotations

import abc

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from oodlab.data.transforms import LOGIT_SHRINK, logit_forward, logit_inverse


class FlowLayer(nn.Module, abc.ABC):
    """The base class of a flow's layers: an invertible map of inputs (B, *event) with its log-determinant."""

    @abc.abstractmethod
    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log abs det dz/dx, (B, *event) -> (B, *event), (B,)."""

    @abc.abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Return the x that forward_and_log_det maps to z."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of z without the batch for an x of this shape."""
        return shape


class Logit(FlowLayer):
    """A layer that maps w in [0, 1] to logit(((2w - 1) c + 1) / 2); see data.logit_forward."""

    def __init__(self, c: float = LOGIT_SHRINK) -> None:
        super().__init__()
        self.c = c

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and their log-determinant; NaN or infinite for w beyond about [-0.05, 1.05]."""
        return logit_forward(x, self.c)

    def inverse(self, z: Tensor) -> Tensor:
        """Return w, which lies outside of [0, 1] for large logits."""
        return logit_inverse(z, self.c)


class Squeeze(FlowLayer):
    """A layer that turns every 2 x 2 block of pixels into four channels: (C, H, W) -> (4C, H/2, W/2).

    Output channel 4c + 2 dy + dx is input channel c at offset (dy, dx), so half
    of the channels hold complete input channels, not a coarser image.
    """

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squeezed images and their log-determinant, 0."""
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return the unsqueezed images."""
        return F.pixel_shuffle(z, 2)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (4C, H/2, W/2).

        Raises:
            ValueError: A side is odd.
        """
        channels, height, width = shape
        if height % 2 or width % 2:
            raise ValueError(
                f"Squeeze expects sides divisible by 2, got {height} x {width}: it turns 2 x 2 blocks into channels; "
                "crop the images or take fewer scales."
            )
        return 4 * channels, height // 2, width // 2


class ActNorm(FlowLayer):
    """A layer that shifts and scales each channel; the first training batch sets it to mean 0 and standard deviation 1.

    Args:
        channels: Size of dimension 1.

    Whether the layer is initialised is a buffer, so that a loaded model is not initialised again.

    Source: Kingma & Dhariwal (2018), arXiv:1807.03039, section 3.1.
    """

    LEAST_STD = 1e-6  # a channel that is constant in the first batch would be divided by zero

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))
        self._ready = False  # the buffer's value without waiting for the device
        self.register_load_state_dict_post_hook(_read_flag)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x + shift) * exp(log_scale) and its log-determinant, number of positions * sum(log_scale).

        Raises:
            RuntimeError: No training batch has been seen yet and the model is in eval mode.
        """
        if not self._ready:
            self._initialise(x)
        log_det = self.log_scale.sum() * (x[0, 0].numel())
        return (x + _per_channel(self.shift, x)) * _per_channel(self.log_scale.exp(), x), log_det.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return z * exp(-log_scale) - shift."""
        return z * _per_channel((-self.log_scale).exp(), z) - _per_channel(self.shift, z)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        if not self.training:
            raise RuntimeError(
                "ActNorm expects a training batch before it is used in eval mode, got none: its scale comes from the "
                "first batch of model.train(); train the flow or load its weights first."
            )
        rest = [d for d in range(x.ndim) if d != 1]
        self.shift.copy_(-x.mean(dim=rest))
        self.log_scale.copy_(-x.std(dim=rest, correction=0).clamp_min(self.LEAST_STD).log())
        self.initialised.fill_(True)
        self._ready = True


def _read_flag(layer: ActNorm, incompatible_keys: object) -> None:
    layer._ready = bool(layer.initialised)


class ChannelScale(nn.Module):
    """A learned factor per channel, 1 at initialisation.

    The factor is weight-normalised as in the released flows of Kirichenko et al.
    (2020): it has two numbers per channel, of which the second decides the sign only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        weight_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the factors of dimension 1."""
        return x * _per_channel(self.weight, x)


class MaskedCoupling(FlowLayer):
    """A coupling layer that changes the inputs where a mask is 0, given the inputs where the mask is 1.

    y = (x + t) * exp(s), s = factor * tanh(raw), where (raw, t) are the two halves of
    the conditioner's output for mask * x.

    Args:
        mask: 1 where x is unchanged, 0 where x changes; broadcasts to (B, *event).
        conditioner: (B, channels, ...) -> (B, 2 * channels, ...).
        channels: Size of the input's dimension 1.

    Source: Dinh et al. (2017), arXiv:1605.08803, with x + t before the factor as in the released flows.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, conditioner: nn.Module, channels: int) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.conditioner = conditioner
        self.scale = ChannelScale(channels)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and its log-determinant, the sum of s over the changed positions."""
        s, t = self._scale_and_shift(x)
        return (x + t) * s.exp(), s.flatten(1).sum(dim=1)

    def inverse(self, z: Tensor) -> Tensor:
        """Return z * exp(-s) - t: the unchanged inputs, which s and t are computed from, are the same in x and z."""
        s, t = self._scale_and_shift(z)
        return z * (-s).exp() - t

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw, t = self.conditioner(x * self.mask).to(x.dtype).chunk(2, dim=1)  # exp and tanh never in bfloat16
        changed = 1 - self.mask
        return changed * self.scale(raw.tanh()), changed * t


class ChannelCoupling(FlowLayer):
    """A coupling layer that changes one half of the channels given the other half, by the formula of MaskedCoupling.

    Args:
        conditioner: (B, channels / 2, ...) -> (B, channels, ...).
        channels: Size of the input's dimension 1, even.
        second: Whether the second half changes instead of the first.
    """

    def __init__(self, conditioner: nn.Module, channels: int, *, second: bool = False) -> None:
        super().__init__()
        self.conditioner, self.second = conditioner, second
        self.scale = ChannelScale(channels // 2)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and its log-determinant, the sum of s."""
        changed, kept = self._halves(x)
        s, t = self._scale_and_shift(kept)
        return self._together((changed + t) * s.exp(), kept), s.flatten(1).sum(dim=1)

    def inverse(self, z: Tensor) -> Tensor:
        """Return the x that forward_and_log_det maps to z."""
        changed, kept = self._halves(z)
        s, t = self._scale_and_shift(kept)
        return self._together(changed * (-s).exp() - t, kept)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.second else (first, second)

    def _together(self, changed: Tensor, kept: Tensor) -> Tensor:
        return torch.cat([kept, changed] if self.second else [changed, kept], dim=1)

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, t = self.conditioner(kept).to(kept.dtype).chunk(2, dim=1)
        return self.scale(raw.tanh()), t


def checkerboard(height: int, width: int, *, reverse: bool = False) -> Tensor:
    """Return a checkerboard mask, (1, height, width), that is 1 where row + column is odd, or even if `reverse`."""
    odd = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    return (1 - odd if reverse else odd)[None].to(torch.get_default_dtype())


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 2))
