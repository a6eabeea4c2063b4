"""Conditioners: networks that compute the scales and shifts of a coupling layer.

A new conditioner returns zeros, so that the couplings of a new flow are the identity.

Imports: models.nets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from oodlab.models.nets import MLP

ONE_THREAD_WIDTH = 64  # channels up to which a second thread saves only a tenth: a second training gains more


class ConvConditioner(nn.Module):
    """A convolutional conditioner: weight-normalised residual blocks, whose outputs are summed by skip connections.

    Args:
        inputs, width, outputs: Channels of the input, the hidden layers and the output.
        blocks: Number of residual blocks.
        activation: Class of the activation. With ReLU the input gradient jumps at
            kinks, and a penalty on that gradient does not see the jumps; SiLU and ELU
            are smooth.
        norm: Class of the normalisation of hidden channels, called with their number.
            The released code has nn.BatchNorm2d, with which an image's gradient depends
            on the other images of its batch in train mode.
        half_empty: Whether half of the input's positions are zero, as under a
            checkerboard mask; the normalised input is then doubled.

    Source: Dinh et al. (2017), arXiv:1605.08803, as in the released flows of Kirichenko et al. (2020).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        *,
        blocks: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        norm: Callable[[int], nn.Module] = nn.Identity,
        half_empty: bool = False,
    ) -> None:
        super().__init__()
        self.one_thread = width <= ONE_THREAD_WIDTH
        self.factor = 2.0 if half_empty else 1.0
        self.norm_in = norm(inputs)
        self.stem = nn.Sequential(activation(), weight_norm(nn.Conv2d(2 * inputs, width, 3, padding=1)))
        self.blocks = nn.ModuleList(_ConvBlock(width, activation, norm) for _ in range(blocks))
        self.skips = nn.ModuleList(weight_norm(nn.Conv2d(width, width, 1)) for _ in range(blocks + 1))
        self.head = nn.Sequential(norm(width), activation(), weight_norm(nn.Conv2d(width, outputs, 1)))
        self.head[-1].parametrizations.weight.original0.data.zero_()  # its norm: a zero direction would give NaN
        self.head[-1].bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scales and shifts for the couplings' inputs, (B, inputs, H, W) -> (B, outputs, H, W)."""
        x = self.factor * self.norm_in(x)
        x = self.stem(torch.cat([x, -x], dim=1))
        total = self.skips[0](x)
        for block, skip in zip(self.blocks, self.skips[1:], strict=True):
            x = block(x)
            total = total + skip(x)
        return self.head(total)


class _ConvBlock(nn.Module):
    def __init__(self, width: int, activation: Callable[[], nn.Module], norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            norm(width),
            activation(),
            weight_norm(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            norm(width),
            activation(),
            weight_norm(nn.Conv2d(width, width, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def mlp_conditioner(dims: int, hidden: Sequence[int], activation: Callable[[], nn.Module]) -> MLP:
    """Return a conditioner of vectors: an MLP, (B, dims) -> (B, 2 * dims), whose output is zero at initialisation."""
    network = MLP(dims, hidden, 2 * dims, activation)
    for parameter in network[-1].parameters():
        parameter.data.zero_()
    return network
