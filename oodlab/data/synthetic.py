"""Synthetic data: densities in few dimensions, and noise, constant or altered images as outliers.

The generator that a function takes is its only source of randomness. uint8 results
are stored values, which a recipe's transform scales like any image; float results
are a model's input already. In comments, nae is Yoon et al. (2021), arXiv:2105.05735.

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
    """Return the function of (n, ...) with a check: it raises ValueError unless n is a whole number >= 0."""

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
    """Draw n points from a mixture of eight equally weighted Gaussians on a circle, (n, 2) float32.

    The mixture's entropy is 2.8316 nats, and E||x||^2 = 8.25.

    Source: Yoon et al. (2021), arXiv:2105.05735, Figs 3, 5, 8.
    """
    which = torch.randint(8, (n,), generator=generator)
    return eight_centers()[which] + math.sqrt(EIGHT_VARIANCE) * torch.randn(n, 2, generator=generator)


def eight_gaussians_log_prob(x: torch.Tensor) -> torch.Tensor:
    """Return the exact log-density of eight_gaussians at x, (B, 2) -> (B,), in nats."""
    square = (x[:, None] - eight_centers(x.dtype).to(x.device)).square().sum(dim=2)
    return torch.logsumexp(-square / (2 * EIGHT_VARIANCE), dim=1) - math.log(8 * 2 * math.pi * EIGHT_VARIANCE)


@_counted
def two_uniforms(n: int, generator: Generator = None) -> torch.Tensor:
    """Draw n points uniformly from two squares of side 2, centred at (-2, 0) and (2, 0), (n, 2) float32.

    Source: Yoon et al. (2021), arXiv:2105.05735, Fig. 11, which does not state the two squares' places.
    """
    side = 4.0 * torch.randint(2, (n,), generator=generator) - 2
    points = 2 * torch.rand(n, 2, generator=generator) - 1
    return torch.stack([points[:, 0] + side, points[:, 1]], dim=1)


@_counted
def exact_gaussian(n: int, covariance: torch.Tensor, generator: Generator = None) -> torch.Tensor:
    """Draw n Gaussian points, transformed so that their sample mean is exactly 0 and their sample covariance as given.

    A model fitted to the points can be compared with closed forms for that covariance without sampling error.

    Args:
        n: Number of points, more than D.
        covariance: Symmetric and positive definite, (D, D).
        generator: Source of randomness.

    Returns:
        Points, (n, D), of the covariance's dtype.
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
    """Draw half of the items from N(0, 1) and half from U(-1, 1), (n, *shape) float32, a model's input.

    Source: Elflein et al. (2021), arXiv:2107.08785, as printed.
    """
    normal = torch.randn(n - n // 2, *shape, generator=generator)
    return torch.cat([normal, 2 * torch.rand(n // 2, *shape, generator=generator) - 1])


@_counted
def noise_uniform(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw every value uniformly from 0..255, (n, *shape) uint8.

    Source: Noise of Yoon et al. (2021), arXiv:2105.05735; one of the two noise sets of images
    in the released code of Elflein et al. (2021), arXiv:2107.08785.
    """
    return torch.randint(256, (n, *shape), generator=generator, dtype=torch.uint8)


@_counted
def noise_normal(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw normal values of mean 127.5 and standard deviation 60, rounded, clipped to 0..255, (n, *shape) uint8."""
    return _normal_values(n, shape, generator).round().clamp(0, 255).to(torch.uint8)


@_counted
def noise_normal_released(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw normal values of mean 127.5 and standard deviation 60, wrapped around to 0..255, (n, *shape) uint8.

    The cast to uint8 turns -3 into 253, say, where noise_normal clips values to 0..255.

    Source: released code of Elflein et al. (2021), arXiv:2107.08785.
    """
    return _normal_values(n, shape, generator).trunc().remainder(256).to(torch.uint8)


def _normal_values(n: int, shape: tuple[int, ...], generator: Generator) -> torch.Tensor:
    return 127.5 + 60 * torch.randn(n, *shape, generator=generator)


@_counted
def noise_table_released(n: int, features: int, generator: Generator = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw two noise sets for tables, one from N(0, 1) and one from U(-5, 5), each (n, features) float32.

    Source: released code of Elflein et al. (2021), arXiv:2107.08785.
    """
    normal = torch.randn(n, features, generator=generator)
    return normal, 10 * torch.rand(n, features, generator=generator) - 5


@_counted
def constant_printed(n: int, shape: tuple[int, ...], generator: Generator = None, bound: float = 1.0) -> torch.Tensor:
    """Draw constant items, each filled with one number from U(-bound, bound), (n, *shape) float32, a model's input.

    Source: Elflein et al. (2021), arXiv:2107.08785, prints bound 1; the released code has
    bound 5 for tables and constant_gray for images.
    """
    level = bound * (2 * torch.rand(n, generator=generator) - 1)
    return level.reshape(n, *[1] * len(shape)).repeat(1, *shape)


@_counted
def constant_gray(n: int, shape: tuple[int, ...], generator: Generator = None) -> torch.Tensor:
    """Draw constant images, each filled with one grey level from 0..255, (n, C, H, W) uint8.

    Source: ConstantGray of Yoon et al. (2021), arXiv:2105.05735.
    """
    level = torch.randint(256, (n, 1, 1, 1), generator=generator, dtype=torch.uint8)
    return level.repeat(1, *shape)


@_counted
def constant_color(n: int, shape: tuple[int, int, int], generator: Generator = None) -> torch.Tensor:
    """Draw constant images, each filled with one colour (a level from 0..255 per channel), (n, C, H, W) uint8.

    Source: Constant of Yoon et al. (2021), arXiv:2105.05735.
    """
    channels, height, width = shape
    level = torch.randint(256, (n, channels, 1, 1), generator=generator, dtype=torch.uint8)
    return level.repeat(1, 1, height, width)


def oodomain(x: torch.Tensor) -> torch.Tensor:
    """Return stored images as float32 in [0, 255], unscaled: outliers far beyond the range of a model's inputs.

    Source: OODomain of Elflein et al. (2021), arXiv:2107.08785.
    """
    return x.float()


@_counted
def smoothness_images(n: int, shape: tuple[int, int, int], k: int, generator: Generator = None) -> torch.Tensor:
    """Draw smooth images: uniform noise averaged over k x k blocks, then upsampled to the full size (nearest pixel).

    Args:
        n: Number of images.
        shape: (C, H, W).
        k: Side of the blocks; 1 gives plain noise. If k does not divide H, the
            remaining pixels are dropped (10 blocks for H = 32, k = 3), and
            upsampling makes some blocks a pixel wider.
        generator: Source of randomness.

    Returns:
        Images in [0, 1], (n, C, H, W) float32, of mean 1/2 and variance 1 / (12 k^2).
    """
    channels, height, width = checks.image_shape("smoothness_images", shape)
    checks.whole("smoothness_images", "k", k, least=1, most=min(height, width))
    noise = torch.rand(n, channels, height, width, generator=generator)
    return F.interpolate(F.avg_pool2d(noise, k), size=(height, width), mode="nearest")


def half_digits(x: torch.Tensor) -> torch.Tensor:
    """Return images whose top half (even index) or bottom half (odd index) is set to 0, (N, C, H, W).

    Source: HalfMNIST of Yoon et al. (2021), arXiv:2105.05735.
    """
    halves = x.clone()
    middle = x.shape[2] // 2
    halves[0::2, :, :middle] = 0
    halves[1::2, :, middle:] = 0
    return halves


def chimera_digits(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return images whose top half is replaced by that of the next image of another class.

    A band where the halves meet is set to 0: rows 11..16 of 28, in proportion for
    other heights. After the last image, the first one is next.

    Args:
        x: Images, (N, C, H, W).
        y: Labels, (N,), of at least two classes.

    Returns:
        Images like x.

    Raises:
        ValueError: All labels are equal.

    Source: ChimeraMNIST of Yoon et al. (2021), arXiv:2105.05735.
    """
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"chimera_digits expects one label per image, got {tuple(y.shape)} for {len(x)} images: pass split.y."
        )
    change = torch.nonzero(y != y.roll(-1)).flatten()  # the label after such an index differs
    if not len(change):
        raise ValueError(
            f"chimera_digits expects at least two classes, got labels {y.unique().tolist()}: "
            "a chimera joins halves of two classes; keep more classes."
        )
    index = torch.arange(len(y), device=y.device)
    after = torch.searchsorted(change, index)  # the first change at or after each index
    other = (change[after % len(change)] + 1) % len(y)
    middle, band = x.shape[2] // 2, max(1, round(3 * x.shape[2] / 28))
    chimeras = x.clone()
    chimeras[:, :, :middle] = x[other, :, :middle]
    chimeras[:, :, middle - band : middle + band] = 0
    return chimeras
