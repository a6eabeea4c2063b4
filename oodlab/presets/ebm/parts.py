"""What the experiments on energy-based models are composed of.

Imports: models, objectives, replay, samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from oodlab.models import JointEnergy, WideResNet
from oodlab.objectives import ContrastiveDivergence, FromReplay, Joint
from oodlab.replay import ReplayBuffer, Uniform
from oodlab.samplers import LangevinChain


def wide_resnet(
    *,
    channels: int,
    outputs: int,
    depth: int,
    widen: int,
    width: int,
    bottleneck: float | None,
    activation: Callable[[], nn.Module],
) -> JointEnergy:
    """Build an energy of images from a wide residual network."""
    return JointEnergy(
        WideResNet(
            channels=channels,
            outputs=outputs,
            depth=depth,
            widen=widen,
            width=width,
            bottleneck=bottleneck,
            activation=activation,
        )
    )


def persistent(
    model: nn.Module,
    *,
    shape: Sequence[int],
    chain: LangevinChain,
    capacity: int,
    restart: float,
    low: float,
    high: float,
    classes: int,
    l2: float,
) -> ContrastiveDivergence:
    """Train by chains that go on from a replay buffer; with classes > 1 each chain keeps to one class."""
    replay = ReplayBuffer(capacity, shape, start=Uniform(low, high), restart=restart, fifo=False, classes=classes)
    return ContrastiveDivergence(FromReplay(chain, replay), l2=l2)


def joint(
    model: nn.Module, *, generative: Callable[[nn.Module], Callable], gamma: float, entropy_weight: float
) -> Joint:
    """Add classification to a generative objective; `generative` builds that."""
    return Joint(generative(model), gamma=gamma, entropy_weight=entropy_weight)
