"""From stored values to a model's input, and back, with exact log-determinants.

pixels  stored uint8 0..255
w       (pixel + u) / 256 in [0, 1): what a flow's log_prob is a density of;
        u uniform in training, u = 1/2 (the bin's centre) for scores
l       logit of w shrunk into [(1 - c) / 2, (1 + c) / 2]

The factor 255/256 between w and pixels in [0, 1] enters gradients with
respect to pixels only (`from_pixels`), never a density or bits per dimension.

Imports: checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from oodlab import checks

NOISE_LEVELS = 1 << 16  # 8 bits of pixel + 16 of noise: pixel + u is exact in float32
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # luma of red, green, blue, ITU-R BT.601
LOGIT_SHRINK = 0.9  # c of Dinh et al. 2017's RealNVP, as in the released flows


def dequantize(x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return dequantised images: w = (x + u) / 256 with u uniform on [0, 1), so that each value fills its bin.

    u has 65,536 levels, so that x + u is exact in float32: with a continuous u
    a value may be rounded up into the next bin, for 255 onto w = 1.

    Args:
        x: Stored images, uint8, any shape.
        generator: Source of randomness on x's device.

    Returns:
        w in [0, 1), float32; floor(256 w) is x.
    """
    _expect_bytes(x, "dequantize")
    level = torch.randint(NOISE_LEVELS, x.shape, generator=generator, device=x.device, dtype=torch.int32)
    return (x.float() + level.float() / NOISE_LEVELS) / 256


def bin_center(x: torch.Tensor) -> torch.Tensor:
    """Return the bins' centres w = (x + 1/2) / 256, float32, for stored uint8 x: no noise, so that scores repeat."""
    _expect_bytes(x, "bin_center")
    return (x.float() + 0.5) / 256


def from_pixels(pixels: torch.Tensor, u: torch.Tensor | float = 0.5) -> torch.Tensor:
    """Return w = (255 * pixels + u) / 256 for float pixels in [0, 1]; dw / d pixel is 255/256."""
    return (255 * pixels + u) / 256


def to_uint8(w: torch.Tensor) -> torch.Tensor:
    """Return the stored value floor(256 w) of each w, uint8; w outside [0, 1) is clipped and never wraps around.

    Raises:
        FloatingPointError: w has NaN or infinite entries.
    """
    if not torch.is_tensor(w) or not w.is_floating_point():
        raise ValueError(
            f"to_uint8 expects w in [0, 1) as floats, got {_kind(w)}: "
            "stored uint8 values need no conversion; pass floats."
        )
    lost = int((~w.isfinite()).sum())
    if lost:
        raise FloatingPointError(
            f"to_uint8 expects finite w, got {lost} of {w.numel()} NaN or infinite: "
            "check the model or chain that made w."
        )
    return (256 * w).floor().clamp(0, 255).to(torch.uint8)


def logit_forward(w: torch.Tensor, c: float = LOGIT_SHRINK) -> tuple[torch.Tensor, torch.Tensor]:
    """Map w to l = logit(p), p = ((2w - 1) c + 1) / 2.

    Args:
        w: Inputs in [0, 1], (B, *event); beyond about [-0.05, 1.05] (for c = 0.9)
            the result is NaN or infinite.
        c: Factor that shrinks w towards 1/2, in (0, 1).

    Returns:
        l, (B, *event), and log abs det dl/dw in nats, (B,).

    Source: the first layer of RealNVP, Dinh et al. (2017), arXiv:1605.08803;
    log dl/dw = softplus(l) + softplus(-l) + log c per dimension, without the
    log(255/256) that released code adds.
    """
    checks.number("logit_forward", "c", c, above=0, below=1)
    p = ((2 * w - 1) * c + 1) / 2
    logit = p.log() - (-p).log1p()
    log_det = F.softplus(logit) + F.softplus(-logit) + math.log(c)
    return logit, log_det.flatten(1).sum(dim=1)


def logit_inverse(logit: torch.Tensor, c: float = LOGIT_SHRINK) -> torch.Tensor:
    """Map l back to w = ((2 sigmoid(l) - 1) / c + 1) / 2, exactly; w may leave [0, 1] for large l."""
    return (torch.tanh(logit / 2) / c + 1) / 2  # 2 sigmoid(l) - 1 = tanh(l / 2)


def scale_unit(x: torch.Tensor) -> torch.Tensor:
    """Return stored uint8 values scaled to [0, 1], float32: x / 255."""
    _expect_bytes(x, "scale_unit")
    return x.float() / 255


def scale_signed(x: torch.Tensor) -> torch.Tensor:
    """Return stored uint8 values scaled to [-1, 1], float32: x / 127.5 - 1."""
    _expect_bytes(x, "scale_signed")
    return x.float() / 127.5 - 1


def as_shape(x: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return stored images with another number of channels, resized to another height and width.

    Colour becomes grey by ITU-R 601 (.299 R + .587 G + .114 B), grey becomes colour by
    repetition; images are resized by antialiased bilinear interpolation.

    Args:
        x: (N, C, H, W) uint8, C of 1 or 3.
        shape: Wanted (C, H, W).

    Returns:
        (N, *shape) uint8; x itself where nothing changes.

    Raises:
        ValueError: x is not uint8 (N, C, H, W), or x or shape has other than 1 or 3 channels.
    """
    _expect_bytes(x, "as_shape")
    channels, height, width = checks.image_shape("as_shape", shape)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or channels not in (1, 3):
        raise ValueError(
            f"as_shape expects images with 1 or 3 channels and a shape (C, H, W), got {tuple(x.shape)} and {shape}: "
            "only grey and colour images can be converted; choose 1 or 3 channels."
        )
    if tuple(x.shape[1:]) == tuple(shape):
        return x
    parts = []
    for part in x.split(4096):  # floats take four times the room of what is stored
        y = part.float()
        if channels < y.shape[1]:
            y = torch.einsum("nchw,c->nhw", y, y.new_tensor(GREY_WEIGHTS))[:, None]
        if y.shape[2:] != (height, width):
            y = F.interpolate(y, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
        parts.append(y.round().clamp(0, 255).to(torch.uint8).expand(-1, channels, -1, -1))
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class DropConstant:
    """A transform of tables that keeps the columns which vary in the training part.

    In the segment table one column is 9 in every row, so papers count 18 features.
    """

    columns: tuple[int, ...]

    @classmethod
    def fit(cls, x: torch.Tensor) -> DropConstant:
        """Return the transform that keeps the columns of x, (N, D), which are not constant."""
        _expect_table(x, "DropConstant")
        return cls(tuple(torch.nonzero(x.amax(dim=0) > x.amin(dim=0)).flatten().tolist()))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the kept columns of x, (B, D) -> (B, len(columns))."""
        return x[:, list(self.columns)]


@dataclass(frozen=True, eq=False)
class MinMax:
    """A transform of tables that scales each column linearly, so that the training part fills [low, high].

    Values of other data may lie outside of [low, high]: they are not clipped.
    """

    minimum: torch.Tensor  # (D,)
    maximum: torch.Tensor  # (D,)
    low: float
    high: float

    @classmethod
    def fit(cls, x: torch.Tensor, low: float = -1.0, high: float = 1.0) -> MinMax:
        """Return the transform with each column's range in the training part x, (N, D).

        Raises:
            ValueError: A column is constant.
        """
        _expect_table(x, "MinMax")
        checks.number("MinMax", "low", low)
        checks.number("MinMax", "high", high, above=low)
        minimum, maximum = x.amin(dim=0), x.amax(dim=0)
        constant = torch.nonzero(minimum == maximum).flatten().tolist()
        if constant:
            raise ValueError(
                f"MinMax expects columns that vary, got constant columns {constant}: apply DropConstant first."
            )
        return cls(minimum, maximum, low, high)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the table x with its columns scaled, (B, D)."""
        _expect_table(x, "MinMax", len(self.minimum))
        return self.low + (x - self.minimum) / (self.maximum - self.minimum) * (self.high - self.low)

    def inverse(self, scaled: torch.Tensor) -> torch.Tensor:
        """Return the table in its units before scaling, (B, D)."""
        return self.minimum + (scaled - self.low) / (self.high - self.low) * (self.maximum - self.minimum)

    @property
    def log_det(self) -> float:
        """The log-determinant log abs det d scaled / d x in nats, the same for every x."""
        return ((self.high - self.low) / (self.maximum - self.minimum).double()).log().sum().item()


def _expect_bytes(x: torch.Tensor, who: str) -> None:
    if not torch.is_tensor(x) or x.dtype != torch.uint8:
        raise ValueError(
            f"{who} expects stored uint8 values, got {_kind(x)}: pass load(...).x before any other transform."
        )


def _expect_table(x: torch.Tensor, who: str, columns: int | None = None) -> None:
    if not torch.is_tensor(x) or not x.is_floating_point() or x.ndim != 2 or columns not in (None, x.shape[1]):
        wanted = "(N, D)" if columns is None else f"(N, {columns}), as it was fitted"
        raise ValueError(f"{who} expects a table of floats {wanted}, got {_kind(x)}: pass load(...).x of a table.")
    if not len(x):
        raise ValueError(f"{who} expects rows, got {_kind(x)}: the table is empty; check which classes were chosen.")


def _kind(x: object) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if torch.is_tensor(x) else type(x).__name__
