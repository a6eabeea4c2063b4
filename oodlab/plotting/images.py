"""Images: in rows, in blocks, beside their reconstructions, and one as a picture.

Imports: its own folder.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import image as files
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from oodlab.plotting.base import STYLE, figure
from oodlab.plotting.sets import explain_frames, frame

GAP = 1  # pixels between images


def image_rows(rows: Mapping[str, ArrayLike], *, low: float = -1.0, high: float = 1.0, columns: int = 8) -> Figure:
    """Draw sets of images, one row each.

    Args:
        rows: Images by title, each (N, C, H, W) with C of 1 or 3; the first `columns` are drawn.
        low, high: Values drawn black and white; what lies beyond is cut off.
        columns: Images per row at most.
    """
    with rc_context(STYLE):
        fig = figure(0.62 * columns + 1.6, 0.66 * len(rows) + 0.1)
        axes = fig.subplots(len(rows), columns, squeeze=False)
        for line, (title, images) in zip(axes, rows.items(), strict=True):
            shown = ((np.asarray(images)[:columns] - low) / (high - low)).clip(0, 1)
            for ax in line:
                ax.set_axis_off()
            for ax, image in zip(line, shown, strict=False):
                ax.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            line[0].text(-0.15, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=7.5)
        return fig


def image_blocks(blocks: Mapping[str, Mapping[str, ArrayLike]], *, columns: int) -> Figure:
    """Draw blocks of images, two beside each other; in a block a column is one chain.

    Args:
        blocks: Rows of images by title and name, (N, H, W) in [0, 1]; all blocks have the same rows.
        columns: Images in a row at most.
    """
    names = list(next(iter(blocks.values())))
    lines = math.ceil(len(blocks) / 2)
    with rc_context(STYLE):
        fig = figure(1.6 + 0.7 * columns, (0.3 + 0.36 * len(names)) * lines)
        axes = fig.subplots(lines, 2, squeeze=False)
        for ax in axes.flat[len(blocks) :]:
            ax.set_axis_off()
        for ax, (title, rows) in zip(axes.flat, blocks.items(), strict=False):
            draw_block(ax, {name: rows[name] for name in names}, columns, named=ax.get_subplotspec().is_first_col())
            ax.set_title(title, loc="left", fontsize=7.5)
        return fig


def draw_block(ax: Axes, rows: Mapping[str, ArrayLike], columns: int, *, named: bool) -> None:
    """Draw rows of images, each (N, H, W) in [0, 1], as one picture: hundreds of axes would take seconds."""
    lines = [_side_by_side(np.asarray(images)[:columns], columns) for images in rows.values()]
    ax.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[len(lines[0]) * (i + 0.5) - 1 for i in range(len(lines))])
    ax.set_yticklabels(rows if named else [])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _side_by_side(images: np.ndarray, columns: int) -> np.ndarray:
    """Put images (N, H, W) into one, (H + GAP, columns (W + GAP)), with nothing between and behind them."""
    behind = columns - len(images)
    framed = np.pad(images.astype(float), ((0, behind), (0, GAP), (0, GAP)), constant_values=np.nan)
    return np.concatenate(list(framed), axis=1)


def beside_reconstructions(
    columns: Mapping[str, np.ndarray],
    rows: Mapping[str, Mapping[str, np.ndarray]],
    missed: Mapping[str, Mapping[str, Sequence[bool]]],
) -> Figure:
    """Draw images, and below each its reconstruction by every model.

    Args:
        columns: Images by set, (N, H, W) in [0, 1].
        rows: Reconstructions by model and set, shaped as the images.
        missed: By model and set, whether the model takes the image for the wrong kind: framed.
    """
    names = ["input", *rows]
    total = sum(map(len, columns.values()))
    with rc_context(STYLE):
        fig = figure(0.75 + 0.42 * total + 0.1 * (len(columns) - 1), 0.65 + 0.44 * len(names))
        fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # images stand close
        widths = [
            width for images in columns.values() for width in [*[1.0] * len(images), 0.25]
        ]  # a gap behind each set
        grid = fig.add_gridspec(len(names), len(widths) - 1, width_ratios=widths[:-1], wspace=0.04, hspace=0.04)
        first = 0
        for name, images in columns.items():
            n = len(images)
            for i, row in enumerate(names):
                shown = images if i == 0 else rows[row][name]
                axes = [fig.add_subplot(grid[i, first + k]) for k in range(n)]
                for k, ax in enumerate(axes):
                    ax.imshow(shown[k], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                    frame(ax, wrong=i > 0 and missed[row][name][k])
                if i == 0:
                    axes[(n - 1) // 2].set_title(name.replace("_", "\n"), x=0.5 if n % 2 else 1.02)
                if first == 0:
                    axes[0].set_ylabel(row, rotation=0, ha="right", va="center")
            first += n + 1
        explain_frames(fig)
        return fig


def picture_png(image: np.ndarray, pixels: int) -> bytes:
    """Return a grey image, (H, W) in [0, 1], as PNG bytes, every pixel a square and the sides about `pixels` long."""
    factor = max(1, round(pixels / max(image.shape)))
    stream = io.BytesIO()
    large = np.kron(image, np.ones((factor, factor), dtype=image.dtype))
    files.imsave(stream, large, cmap="gray", vmin=0, vmax=1, format="png")
    return stream.getvalue()
