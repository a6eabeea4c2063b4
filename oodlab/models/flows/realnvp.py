"""RealNVP for images and for vectors.

Imports: checks, its own folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from oodlab import checks
from oodlab.models.flows.conditioners import ConvConditioner, mlp_conditioner
from oodlab.models.flows.flow import Flow
from oodlab.models.flows.layers import (
    ActNorm,
    ChannelCoupling,
    FlowLayer,
    Logit,
    MaskedCoupling,
    Squeeze,
    checkerboard,
)


def image_realnvp(
    shape: tuple[int, int, int],
    *,
    scales: int,
    blocks: int,
    width: int,
    couplings: int = 3,
    activation: Callable[[], nn.Module] = nn.ReLU,
    norm: Callable[[int], nn.Module] = nn.Identity,
    actnorm: bool = False,
    logit: bool = True,
) -> Flow:
    """Build a multi-scale RealNVP of w in [0, 1]^D.

    A scale has `couplings` checkerboard couplings, a squeeze and as many channel
    couplings; then half of the channels are split off as latent. The last scale has
    couplings + 1 checkerboard couplings and no squeeze.

    Args:
        shape: (C, H, W) of one image; H and W divisible by 2**(scales - 1).
        scales: Number of scales, at least 1.
        blocks: Number of residual blocks of a conditioner.
        width: Channels of a conditioner before the first squeeze; doubled by each squeeze.
        couplings: Number of couplings of each kind per scale; 0 gives a control
            that learns nothing, a standard normal on logits.
        activation, norm: Classes of the conditioners' layers; see ConvConditioner.
        actnorm: Whether an ActNorm precedes every coupling.
        logit: Whether the first layer is the logit layer; False takes unbounded inputs.

    Source: Dinh et al. (2017), arXiv:1605.08803, in the architecture released with Kirichenko et al. (2020), arXiv:2006.08545.
    """
    for name, value, least in (
        ("scales", scales, 1),
        ("width", width, 1),
        ("couplings", couplings, 0),
        ("blocks", blocks, 0),
    ):
        checks.whole("image_realnvp", name, value, least=least)
    channels, height, columns = checks.image_shape("image_realnvp", shape)
    if height % 2 ** (scales - 1) or columns % 2 ** (scales - 1):
        raise ValueError(
            f"image_realnvp expects H and W divisible by 2**(scales - 1) = {2 ** (scales - 1)}, got {height} x {columns}: "
            f"each scale but the last halves the sides; crop or pad the images, or take fewer than {scales} scales."
        )
    network = {"blocks": blocks, "activation": activation, "norm": norm}

    def checkerboards(n: int) -> list[FlowLayer]:
        layers: list[FlowLayer] = []
        for i in range(n):
            conditioner = ConvConditioner(channels, width, 2 * channels, half_empty=True, **network)
            mask = checkerboard(height, columns, reverse=i % 2 == 1)
            layers += [ActNorm(channels)] * actnorm + [MaskedCoupling(mask, conditioner, channels)]
        return layers

    def channelwise(n: int) -> list[FlowLayer]:
        layers: list[FlowLayer] = []
        for i in range(n):
            conditioner = ConvConditioner(channels // 2, width, channels, **network)
            layers += [ActNorm(channels)] * actnorm + [ChannelCoupling(conditioner, channels, second=i % 2 == 1)]
        return layers

    built: list[list[FlowLayer]] = []
    for _ in range(scales - 1):
        layers = checkerboards(couplings)
        channels, height, columns, width = 4 * channels, height // 2, columns // 2, 2 * width
        built.append([*layers, Squeeze(), *channelwise(couplings)])
        channels //= 2
    built.append(checkerboards(couplings + 1 if couplings else 0))
    if logit:
        built[0].insert(0, Logit())
    return Flow(shape, built)


def vector_realnvp(
    dims: int,
    *,
    couplings: int,
    hidden: Sequence[int],
    activation: Callable[[], nn.Module] = nn.SiLU,
    actnorm: bool = False,
) -> Flow:
    """Build a RealNVP of vectors, whose couplings change the even and the odd coordinates in turn.

    Args:
        dims: Size of one input, at least 2.
        couplings: Number of couplings; 0 gives a standard normal.
        hidden: Widths of each conditioner's hidden layers.
        activation: Class of the activation.
        actnorm: Whether an ActNorm precedes every coupling.

    Source: Dinh et al. (2017), arXiv:1605.08803.
    """
    checks.whole("vector_realnvp", "dims", dims, least=2, why="a coupling changes one part given another")
    checks.whole("vector_realnvp", "couplings", couplings, least=0)
    layers: list[FlowLayer] = []
    for i in range(couplings):
        mask = ((torch.arange(dims) + i) % 2).to(torch.get_default_dtype())
        conditioner = mlp_conditioner(dims, hidden, activation)
        layers += [ActNorm(dims)] * actnorm + [MaskedCoupling(mask, conditioner, dims)]
    return Flow((dims,), [layers])
