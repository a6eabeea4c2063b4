"""Synthetic sets: densities of few dimensions and inputs that look like no data set.

Every function takes a generator as the only source of randomness. Bytes
(uint8, stored values) go through a recipe's transform like any image; floats
are a model's input already.

Imports: checks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F

from oodlab import checks

Generator = torch.Generator | None
Draw = TypeVar("Draw", bound=Callable)

EIGHT_RADIUS = 4 / math.sqrt(2)  # nae's released code: 4 * direction, then everything divided by 1.414
EIGHT_VARIANCE = 1 / 8  # likewise, 0.5**2 / 2; the paper prints sqrt(2)/4, which peaks at .056, not .159


def _counted(draw: Draw) -> Draw:
    """Let a function of (n, ...) refuse what is no number of items."""

    @functools.wraps(draw)
    def checked(n: int, *arguments: object, **named: object) -> object:
        checks.whole(draw.__name__, "n", n, least=0)
        return draw(n, *arguments, **named)

    return checked


def eight_centers(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the centres of the eight Gaussians, (8, 2), on a circle of radius 2.83, 45 degrees apart."""
    angle = torch.arange(8, dtype=dtype) * (math.pi / 4)
    return EIGHT_RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)


@_counted
def eight_gaussians(n: int, generator: Generator = None) -> torch.Tensor:
    """Draw n points of an equal mixture of eight Gaussians, (n, 2) float32.

    Source: nae, Figs 3, 5, 8. Entropy 2.8316 nats, E||x||^2 = 8.25.
    """
    which = torch.randint(8, (n,), generator=generator)
    return eight_centers()[which] + math.sqrt(EIGHT_VARIANCE) * torch.randn(n, 2, generator=generator)


def eight_gaussians_log_prob(x: torch.Tensor) -> torch.Tensor:
    """Return the exact log-density of eight_gaussians at x, (B, 2) -> (B,), in nats."""
    square = (x[:, None] - eight_centers(x.dtype).to(x.device)).square().sum(dim=2)
    return torch.logsumexp(-square / (2 * EIGHT_VARIANCE), dim=1) - math.log(8 * 2 * math.pi * EIGHT_VARIANCE)


@_counted
def two_uniforms(n: int, generator: Generator = None) -> torch.Tensor:
    """Draw n points of two squares of side 2, centred at (-2, 0) and (2, 0), (n, 2) float32.

    Source: nae, Fig. 11, which does not state where its two uniforms lie.
    """
    side = 4.0 * torch.randint(2, (n,), generator=generator) - 2
    points = 2 * torch.rand(n, 2, generator=generator) - 1
    return torch.stack([points[:, 0] + side, points[:, 1]], dim=1)


@_counted
def exact_gaussian(n: int, covariance: torch.Tensor, generator: Generator = None) -> torch.Tensor:
    """Draw n Gaussian points and move them so that their own mean is 0 and their own second moments are the covariance.

    So that what is fitted to the points can be compared with what the covariance says, without sampling error.

    Args:
        n: Number of points, more than D.
        covariance: Symmetric and positive definite, (D, D).
        generator: Source of randomness.

    Returns:
        (n, D) of the covariance's type.
    """
    dims = len(covariance)
    checks.whole("exact_gaussian", "n", n, least=dims + 1, why=f"fewer points do not span {dims} dimensions")
    x = torch.randn(n, dims, generator=generator, dtype=torch.float64)
    x = x - x.mean(dim=0)
    own = torch.linalg.cholesky(x.T @ x / n)
    wanted = torch.linalg.cholesky(covariance.double())
    return (torch.linalg.solve_triangular(own, x.T, upper=False).T @ wanted.T).to(covariance.dtype)


@_counted
def noise_printed(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw half the items from N(0, 1), half from U(-1, 1): (n, *shape) float32, a model's input (ebm)."""
    normal = torch.randn(n - n // 2, *shape, generator=generator)
    return torch.cat([normal, 2 * torch.rand(n // 2, *shape, generator=generator) - 1])


@_counted
def noise_uniform(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw every value from 0..255, (n, *shape) uint8 (nae's Noise; one of ebm's two released image sets)."""
    return torch.randint(256, (n, *shape), generator=generator, dtype=torch.uint8)


@_counted
def noise_normal(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw values from N(127.5, 60), rounded and clipped to 0..255, (n, *shape) uint8."""
    return _normal_values(n, shape, generator).round().clamp(0, 255).to(torch.uint8)


@_counted
def noise_normal_released(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw values as ebm's released code does: cast to uint8, where -3 becomes 253; (n, *shape) uint8."""
    return _normal_values(n, shape, generator).trunc().remainder(256).to(torch.uint8)


def _normal_values(n: int, shape: tuple[int, ...], generator: Generator) -> torch.Tensor:
    return 127.5 + 60 * torch.randn(n, *shape, generator=generator)


@_counted
def noise_table_released(n: int, features: int, generator: Generator = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ebm's two released noise sets for tables, N(0, 1) and U(-5, 5), each (n, features) float32."""
    normal = torch.randn(n, features, generator=generator)
    return normal, 10 * torch.rand(n, features, generator=generator) - 5


@_counted
def constant_printed(n: int, shape: tuple[int, ...], generator: Generator = None, bound: float = 1.0) -> torch.Tensor:
    """Fill each item with one number from U(-bound, bound), as a model's input, (n, *shape) float32.

    bound 1 is ebm's text; its released code takes 5 for tables and constant_gray for images.
    """
    level = bound * (2 * torch.rand(n, generator=generator) - 1)
    return level.reshape(n, *[1] * len(shape)).repeat(1, *shape)


@_counted
def constant_gray(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Fill each image with one grey level of 0..255, (n, C, H, W) uint8 (nae's ConstantGray)."""
    level = torch.randint(256, (n, 1, 1, 1), generator=generator, dtype=torch.uint8)
    return level.repeat(1, *shape)


@_counted
def constant_color(n: int, shape: tuple[int, int, int], generator: Generator = None) -> torch.Tensor:
    """Fill each image with one colour, a level of 0..255 per channel, (n, C, H, W) uint8 (nae's Constant)."""
    channels, height, width = shape
    level = torch.randint(256, (n, channels, 1, 1), generator=generator, dtype=torch.uint8)
    return level.repeat(1, 1, height, width)


def oodomain(x: torch.Tensor) -> torch.Tensor:
    """Return stored images as a model's input without any transform: float32 in [0, 255] (ebm's OODomain)."""
    return x.float()


@_counted
def smoothness_images(n: int, shape: tuple[int, int, int], k: int, generator: Generator = None) -> torch.Tensor:
    """Average uniform noise over k x k blocks and blow it up again.

    Args:
        n: Number of images.
        shape: (C, H, W).
        k: Side of the blocks; 1 is plain noise. Where k does not divide H, the
            remainder is dropped (32 and 3: 10 blocks) and nearest upsampling
            makes some blocks a pixel wider.
        generator: Source of randomness.

    Returns:
        Values in [0, 1], (n, C, H, W) float32: mean 1/2, variance 1 / (12 k^2).
    """
    channels, height, width = checks.image_shape("smoothness_images", shape)
    checks.whole("smoothness_images", "k", k, least=1, most=min(height, width))
    noise = torch.rand(n, channels, height, width, generator=generator)
    return F.interpolate(F.avg_pool2d(noise, k), size=(height, width), mode="nearest")


def half_digits(x: torch.Tensor) -> torch.Tensor:
    """Blank the top half of images of even index, the bottom half of others, (N, C, H, W) (HalfMNIST)."""
    halves = x.clone()
    middle = x.shape[2] // 2
    halves[0::2, :, :middle] = 0
    halves[1::2, :, middle:] = 0
    return halves


def chimera_digits(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Put the top half of the next image of another class onto each image.

    A band around the seam is blanked: rows 11..16 of 28, in proportion for
    other heights. The next image is sought cyclically.

    Args:
        x: Images, (N, C, H, W).
        y: Labels, (N,), of at least two classes.

    Returns:
        Images like x (nae's ChimeraMNIST).

    Raises:
        ValueError: all labels are equal.
    """
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"chimera_digits expects one label per image, got {tuple(y.shape)} for {len(x)} images: pass split.y."
        )
    change = torch.nonzero(y != y.roll(-1)).flatten()  # the label after such an index differs
    if not len(change):
        raise ValueError(
            f"chimera_digits expects at least two classes, got labels {y.unique().tolist()}: halves of one class make no chimera."
        )
    index = torch.arange(len(y), device=y.device)
    after = torch.searchsorted(change, index)  # the first change at or after each index
    other = (change[after % len(change)] + 1) % len(y)
    middle, band = x.shape[2] // 2, max(1, round(3 * x.shape[2] / 28))
    chimeras = x.clone()
    chimeras[:, :, :middle] = x[other, :, :middle]
    chimeras[:, :, middle - band : middle + band] = 0
    return chimeras
