"""Residual encoder and decoder of 32 x 32 images: the networks that the authors of NAE released for CIFAR-10.

Imports: checks, models.conv_autoencoder, models.generators.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from oodlab import checks
from oodlab.models.conv_autoencoder import ImageLayers, Layers
from oodlab.models.generators import Doubling

LeakyReLU = partial(nn.LeakyReLU, 0.2)


class Conv32BigEncoder(Layers):
    """A residual encoder of images, (B, channels, H, W) -> (B, latent, 1, 1), made for 32 x 32.

    Its layers are a convolution, six residual blocks of which every other halves the side, global average
    pooling and a 1x1 convolution, without normalisation of activations or weights.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: Channels of the convolution and the first two blocks; the other blocks have twice as many.

    Source: Du & Mordatch (2019), arXiv:1903.08689 (unconditional CIFAR-10), without spectral
    normalisation, as released with Yoon et al. (2021), arXiv:2105.05735; width 128.
    """

    def __init__(self, latent: int, *, channels: int = 3, width: int = 128) -> None:
        checks.layers("Conv32BigEncoder", {"latent": latent, "channels": channels, "width": width})
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            LeakyReLU(),
            PostActivationBlock(width, width, halves=True),
            PostActivationBlock(width, width),
            PostActivationBlock(width, 2 * width, halves=True),
            PostActivationBlock(2 * width, 2 * width),
            PostActivationBlock(2 * width, 2 * width, halves=True),
            PostActivationBlock(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(2 * width, latent, 1),
        )


class PostActivationBlock(nn.Module):
    """A residual block with its last activation after the sum: convolution, LeakyReLU, convolution, plus the input.

    If `halves` is set, average pooling follows; then LeakyReLU. Where the block changes the shape, its skip
    connection is a 1x1 convolution.
    """

    def __init__(self, before: int, after: int, *, halves: bool = False) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1), LeakyReLU(), nn.Conv2d(after, after, 3, padding=1)
        )
        self.shortcut = nn.Conv2d(before, after, 1) if halves or before != after else nn.Identity()
        self.last = nn.Sequential(nn.AvgPool2d(2), LeakyReLU()) if halves else LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (B, before, H, W) -> (B, after, H, W), with H and W halved if `halves` is set."""
        return self.last(self.shortcut(x) + self.branch(x))


class Conv32BigDecoder(ImageLayers):
    """A residual decoder to images in (0, 1), (B, latent, 1, 1) -> (B, channels, 32, 32).

    It is built like ImageGenerator (sides 4, 8, 16, 32), but has GroupNorm (one group in the blocks, two at the
    end) and a sigmoid.

    Args:
        latent: Channels of the code.
        channels: Channels of the image.
        width: The `width` of the encoder; the decoder's layers have twice as many channels.

    Source: Miyato et al. (2018), arXiv:1802.05957, as released with Yoon et al. (2021), arXiv:2105.05735.
    """

    def __init__(self, latent: int, *, channels: int = 3, width: int = 128) -> None:
        checks.layers("Conv32BigDecoder", {"latent": latent, "channels": channels, "width": width})
        features = 2 * width
        super().__init__(
            nn.Flatten(),
            nn.Linear(latent, 4 * 4 * features),
            nn.Unflatten(1, (features, 4, 4)),
            *(Doubling(features, partial(nn.GroupNorm, 1)) for _ in range(3)),
            nn.GroupNorm(2, features),
            nn.ReLU(),
            nn.Conv2d(features, channels, 3, padding=1),
        )
