"""Wide residual network without normalisation layers, for energies of images.

With normalisation layers the output for one image would depend on the batch or on
running statistics, but an energy must be a function of one input.

Imports: checks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from oodlab import checks

LeakyReLU = partial(nn.LeakyReLU, 0.2)
ONE_THREAD_WIDTH = 8  # channels up to which two threads take as long as one, on 16 x 16 pixels


class WideResNet(nn.Module):
    """A wide residual network: convolution, three stages of residual blocks, activation, average pool, linear head.

    The stages have widen * width * (1, 2, 4) channels; the second and the third halve the side.

    Args:
        channels: Channels of the images.
        outputs: Number of outputs per image: classes, or 1 for an energy without classes.
        depth: Depth 6 n + 4, where n is the number of blocks per stage.
        widen: Factor on the stages' channels.
        width: Channels of the first convolution.
        bottleneck: Share of the channels C that passes each stage's end: two 1x1 convolutions
            limit the rank of the feature maps to int(C * bottleneck). None adds no bottleneck.
        activation: Class of the activation, called without arguments.

    Source: Zagoruyko & Komodakis (2016), arXiv:1605.07146; without normalisation and
    with LeakyReLU(0.2) as the released code of Elflein et al. (2021), arXiv:2107.08785,
    whose network is depth 10, widen 2, width 16.
    """

    def __init__(
        self,
        *,
        channels: int,
        outputs: int,
        depth: int = 10,
        widen: int = 2,
        width: int = 16,
        bottleneck: float | None = None,
        activation: Callable[[], nn.Module] = LeakyReLU,
    ) -> None:
        super().__init__()
        checks.layers("WideResNet", {"channels": channels, "outputs": outputs, "widen": widen, "width": width})
        checks.whole("WideResNet", "depth", depth, least=10, why="depth = 6 n + 4 with n >= 1 blocks per stage")
        blocks, rest = divmod(depth - 4, 6)
        if rest:
            raise ValueError(f"WideResNet expects depth = 6 n + 4 with n >= 1, got {depth}: take 10, 16, 22 or 28.")
        self.one_thread = width <= ONE_THREAD_WIDTH
        widths = [width, *(widen * width * factor for factor in (1, 2, 4))]
        stages: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        for (before, after), stride in zip(itertools.pairwise(widths), (1, 2, 2), strict=True):
            stages.append(WideBlock(before, after, stride, activation))
            stages += [WideBlock(after, after, 1, activation) for _ in range(blocks - 1)]
            if bottleneck is not None:
                stages.append(Bottleneck(after, bottleneck))
        self.stages = nn.Sequential(*stages, activation())
        self.head = nn.Linear(widths[-1], outputs)
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2))
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        """Return the head's inputs, (B, channels, H, W) -> (B, 4 * widen * width), in the head's precision."""
        x = x.contiguous(memory_format=torch.channels_last)  # a fifth faster on CPU
        with torch.autocast(x.device.type, enabled=False):  # one channel in bfloat16 takes a CPU fifteen times as long
            x = self.stages[0](x)
        return self.stages[1:](x).to(self.head.weight.dtype).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (B, channels, H, W) -> (B, outputs)."""
        features = self.features(x)
        with torch.autocast(x.device.type, enabled=False):  # energies that differ little would be equal in bfloat16
            return self.head(features)


class WideBlock(nn.Module):
    """A residual block of WideResNet: activation, 3x3 convolution, activation, 3x3 convolution with stride.

    The skip connection is the input, or a 1x1 convolution of the input where the block changes the shape.
    """

    def __init__(self, before: int, after: int, stride: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            activation(),
            nn.Conv2d(before, after, 3, padding=1),
            activation(),
            nn.Conv2d(after, after, 3, stride=stride, padding=1),
        )
        same = before == after and stride == 1
        self.stride, self.shortcut = stride, nn.Identity() if same else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return residual branch plus skip connection, (B, before, H, W) -> (B, after, H / stride, W / stride)."""
        # No strided 1x1 convolution: oneDNN's, of fewer than 8 channels, corrupts memory on one thread.
        every = x[:, :, :: self.stride, :: self.stride]
        return self.shortcut(every) + self.branch(x)


class Bottleneck(nn.Sequential):
    """A linear bottleneck: two 1x1 convolutions without activation, an affine map of rank int(channels * share).

    Source: Elflein et al. (2021), arXiv:2107.08785, experiment 4.
    """

    def __init__(self, channels: int, share: float) -> None:
        checks.number(
            "Bottleneck",
            "share",
            share,
            above=0,
            below=1,
            why="it is a share of the channels; None means no bottleneck",
        )
        kept = int(channels * share)
        if not 1 <= kept < channels:
            raise ValueError(
                f"Bottleneck expects to keep 1 to {channels - 1} of {channels} channels, got {kept} for the share "
                f"{share:g}: choose another share; None means no bottleneck."
            )
        super().__init__(nn.Conv2d(channels, kept, 1), nn.Conv2d(kept, channels, 1))
