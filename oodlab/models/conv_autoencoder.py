"""Convolutional encoders and decoders of images: codes are (B, latent, 1, 1), decoded images lie in (0, 1).

None has batch normalisation, since an energy must be a function of one input.

Imports: checks.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from oodlab import checks

GROUPS = 8  # groups of the GroupNorm in Conv64Encoder and Conv64Decoder


class Layers(nn.Sequential):
    """A sequence of layers with channels-last weights, whose output has the weights' dtype under autocast, too."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's output in the weights' dtype."""
        return super().forward(x).to(next(self.parameters()).dtype)


class ImageLayers(Layers):
    """A sequence of layers, as Layers, whose output passes a sigmoid: a decoder to images in (0, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images in (0, 1), (B, channels, H, W)."""
        return super().forward(x).sigmoid()


class Conv28Encoder(Layers):
    """A convolutional encoder of 28 x 28 images, (B, channels, 28, 28) -> (B, latent, 1, 1).

    The feature maps have sides 28, 26, 24, pooled 12, 10, 8, pooled 4, 1: convolutions are without padding.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: Channels of the first convolution; the others have 2, 2, 4 and 32 times as many.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10, whose printed padding of 1 does not
    fit its own shapes; width 32.
    """

    def __init__(self, latent: int, *, channels: int = 1, width: int = 32) -> None:
        checks.layers("Conv28Encoder", {"latent": latent, "channels": channels, "width": width})
        super().__init__(
            nn.Conv2d(channels, width, 3),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4 * width, 32 * width, 4),
            nn.ReLU(),
            nn.Conv2d(32 * width, latent, 1),
        )


class Conv28Decoder(ImageLayers):
    """A convolutional decoder to images in (0, 1), (B, latent, 1, 1) -> (B, channels, 28, 28).

    The feature maps have sides 1, 4, upsampled 8, 10, 12, upsampled 24, 26, 28.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: The `width` of the encoder.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10, whose printed last kernel of 4 gives 29 pixels.
    """

    def __init__(self, latent: int, *, channels: int = 1, width: int = 32) -> None:
        checks.layers("Conv28Decoder", {"latent": latent, "channels": channels, "width": width})
        super().__init__(
            nn.ConvTranspose2d(latent, 4 * width, 4),
            nn.ReLU(),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.ConvTranspose2d(4 * width, 2 * width, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, 2 * width, 3),
            nn.ReLU(),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.ConvTranspose2d(2 * width, width, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 3),
        )


class SmallEncoder(Layers):
    """A convolutional encoder of small images, (B, channels, side, side) -> (B, latent, 1, 1).

    The feature maps have sides 14, 12, 10, pooled 5, 1, or 16, 14, 12, pooled 6, 1: the first layers of
    Conv28Encoder, for images of half the side.

    Args:
        latent: Channels of the code.
        side: Side of the images in pixels, even, at least 6.
        channels: Channels of the image.
        width: Channels of the first convolution; the others have 2 and 64 times as many: at width 16 the code is
            computed from 1,024 channels, as in Conv28Encoder.

    Source: this kit's own.
    """

    one_thread = True  # on 14 x 14 pixels two threads wait for each other

    def __init__(self, latent: int, *, side: int = 14, channels: int = 1, width: int = 16) -> None:
        checks.layers("SmallEncoder", {"latent": latent, "channels": channels, "width": width})
        super().__init__(
            nn.Conv2d(channels, width, 3),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 64 * width, _pooled_side("SmallEncoder", side)),
            nn.ReLU(),
            nn.Conv2d(64 * width, latent, 1),
        )


class SmallDecoder(ImageLayers):
    """A convolutional decoder to small images in (0, 1), (B, latent, 1, 1) -> (B, channels, side, side).

    The feature maps have sides 1, 5, upsampled 10, 12, 14, or 1, 6, upsampled 12, 14, 16.

    Args:
        latent: Channels of the code.
        side: Side of the images that the encoder takes.
        channels: Channels of the image.
        width: The `width` of the encoder.

    Source: this kit's own.
    """

    one_thread = True  # on 14 x 14 pixels two threads wait for each other

    def __init__(self, latent: int, *, side: int = 14, channels: int = 1, width: int = 16) -> None:
        checks.layers("SmallDecoder", {"latent": latent, "channels": channels, "width": width})
        super().__init__(
            nn.ConvTranspose2d(latent, 4 * width, _pooled_side("SmallDecoder", side)),
            nn.ReLU(),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.ConvTranspose2d(4 * width, 2 * width, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, channels, 3),
        )


def _pooled_side(who: str, side: int) -> int:
    """Return the side of the feature maps after two 3x3 convolutions and the pooling."""
    checks.whole(who, "side", side, least=6, why="two 3x3 convolutions take 4 pixels, and the pooling halves the rest")
    if side % 2:
        raise ValueError(
            f"{who} expects an even side, got {side}: the pooling halves it, and the decoder doubles it; take {side + 1}."
        )
    return (side - 4) // 2


class ResidualAttention(nn.Module):
    """A residual attention block, x + R(x) * sigmoid(S(x)): R and S each are two 1x1 convolutions with ReLU between.

    Between the two convolutions there are `hidden` channels.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.value, self.gate = (
            nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the gated value, (B, channels, H, W)."""
        return x + self.value(x) * self.gate(x).sigmoid()


class Conv32Encoder(Layers):
    """A convolutional encoder of 32 x 32 images, (B, channels, 32, 32) -> (B, latent, 1, 1).

    The feature maps have sides 32, 15, 6, 2, 1: convolutions have stride 2 and no padding. A ReLU and a
    ResidualAttention follow.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: Channels of the first convolution; the others have 2, 4, 8 and the attention 32 times as many.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10; width 32. Their released code has
    Conv32BigEncoder in its place.
    """

    def __init__(self, latent: int, *, channels: int = 3, width: int = 32) -> None:
        checks.layers("Conv32Encoder", {"latent": latent, "channels": channels, "width": width})
        super().__init__(
            nn.Conv2d(channels, width, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(4 * width, 8 * width, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(8 * width, latent, 1),
            nn.ReLU(),
            ResidualAttention(latent, 32 * width),
        )


class Conv32Decoder(ImageLayers):
    """A convolutional decoder to images in (0, 1), (B, latent, 1, 1) -> (B, channels, 32, 32).

    The feature maps have sides 1, 6, 14, 30, 32.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: The `width` of the encoder.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10.
    """

    def __init__(self, latent: int, *, channels: int = 3, width: int = 32) -> None:
        checks.layers("Conv32Decoder", {"latent": latent, "channels": channels, "width": width})
        super().__init__(
            nn.ConvTranspose2d(latent, 8 * width, 6),
            nn.ReLU(),
            nn.ConvTranspose2d(8 * width, 4 * width, 4, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, channels, 3),
        )


class Conv64Encoder(Layers):
    """A convolutional encoder of 64 x 64 images, (B, channels, 64, 64) -> (B, latent, 1, 1).

    The feature maps have sides 64, 30, 13, 5, 1: 5x5 convolutions of stride 2 without padding, each with GroupNorm
    and ReLU.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: Channels of the first convolution, a multiple of the 8 groups; the others have 2, 4 and 8
            times as many. 128 as released, 256 as printed.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10, and its released code.
    """

    def __init__(self, latent: int, *, channels: int = 3, width: int = 128) -> None:
        _check_grouped("Conv64Encoder", latent, channels, width)
        widths = [channels, *(width * factor for factor in (1, 2, 4, 8))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 5, stride=2), nn.GroupNorm(GROUPS, after), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(widths[-1], latent, 1))


class Conv64Decoder(ImageLayers):
    """A convolutional decoder to images in (0, 1), (B, latent, 1, 1) -> (B, channels, 64, 64).

    The feature maps have sides 1, 8, 16, 32, 64: transposed convolutions, each with GroupNorm and ReLU, then a 1x1
    convolution.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: The `width` of the encoder.

    Source: Yoon et al. (2021), arXiv:2105.05735, Table 10, and its released code.
    """

    def __init__(self, latent: int, *, channels: int = 3, width: int = 128) -> None:
        _check_grouped("Conv64Decoder", latent, channels, width)
        widths = [width * factor for factor in (8, 4, 2, 1)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[0], 8), nn.GroupNorm(GROUPS, widths[0]), nn.ReLU()]
        for before, after in itertools.pairwise(widths):
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1),
                nn.GroupNorm(GROUPS, after),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.Conv2d(widths[-1], channels, 1))


def _check_grouped(who: str, latent: int, channels: int, width: int) -> None:
    checks.layers(who, {"latent": latent, "channels": channels, "width": width})
    if width % GROUPS:
        raise ValueError(
            f"{who} expects a width that is a multiple of {GROUPS}, got {width}: GroupNorm has {GROUPS} groups of equal "
            f"size; take {max(GROUPS, width - width % GROUPS)}."
        )
