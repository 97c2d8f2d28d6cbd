"""A sheet of samples: image, classes over it, and how much there is of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from segkit.data.images import Pixels
from segkit.drawing.figures import OUTLINE, figure_text, legend_patches, save_figure
from segkit.drawing.masks import VOID_COLOR, displayable, overlay, rgb
from segkit.labels import IGNORE_INDEX, Classes, Color

COLUMNS = 4  # samples in a row
CELL = 2.3  # width of a picture in inches; a sample has two side by side

# an image, tensor (C, H, W) or array (H, W, C); class indices (H, W); a name
Sample = tuple[Pixels | Tensor, NDArray[np.uint8] | Tensor, str]


def draw_sheet(path: Path, samples: Sequence[Sample], classes: Classes, title: str) -> None:
    """Draw samples, each with its image, an overlay and a bar of class shares."""
    colors = (*classes.colors, VOID_COLOR)
    shares = _shares([mask for _, mask, _ in samples], classes)
    names = [f"{n} {share:.1%}" for n, share in zip((*classes.names, "void"), shares, strict=True)]
    entries = legend_patches(names, colors)
    columns = min(COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    tallest = max(mask.shape[0] / mask.shape[1] for _, mask, _ in samples)
    legend_columns = max(1, min(len(entries), 2 * columns))
    legend = 0.24 * -(-len(entries) // legend_columns) + 0.2
    row = min(tallest, 2.0) * CELL + 0.45
    size = (2 * columns * CELL + 0.3, rows * row + legend + 0.5)
    figure = Figure(figsize=size)
    figure.suptitle(figure_text(title), y=1 - 0.12 / size[1], va="top", fontsize="medium")
    borders = {"left": 0.01, "right": 0.99, "top": 1 - 0.45 / size[1], "bottom": legend / size[1]}
    grid = figure.add_gridspec(rows, columns, wspace=0.04, hspace=0.02, **borders)
    for index, (image, mask, name) in enumerate(samples):
        cell = grid[index // columns, index % columns].subgridspec(
            2, 2, height_ratios=[row - 0.4, 0.1], wspace=0.01, hspace=0.02
        )
        left, right = (figure.add_subplot(cell[0, side]) for side in (0, 1))
        left.imshow(displayable(image), interpolation="nearest")
        left.set_title(figure_text(name), fontsize="x-small", loc="left", pad=2)
        right.imshow(overlay(image, mask, classes.colors), interpolation="nearest")
        shape = "{}x{}".format(*mask.shape)
        right.set_title(shape, fontsize="x-small", loc="right", pad=2, color="0.4")
        _share_bar(figure.add_subplot(cell[1, :]), _shares([mask], classes), colors)
        for axis in (left, right):
            axis.set_axis_off()
    figure.legend(
        handles=entries,
        loc="lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize="small",
    )
    save_figure(figure, path)


def _shares(masks: Sequence[NDArray[np.uint8] | Tensor], classes: Classes) -> NDArray[np.float64]:
    """Return the share of each class, and of void as the last."""
    counts = np.sum([np.bincount(np.asarray(m).ravel(), minlength=256) for m in masks], axis=0)
    counts = np.append(counts[: len(classes.names)], counts[IGNORE_INDEX])
    return counts / counts.sum()


def _share_bar(axis: Axes, shares: NDArray[np.float64], colors: Sequence[Color]) -> None:
    left = 0.0
    for color, share in zip(colors, shares, strict=True):
        axis.barh(0, share, left=left, color=rgb(color))
        left += share
    axis.barh(0, 1, fill=False, edgecolor=OUTLINE, clip_on=False)
    axis.set_xlim(0, 1)
    axis.set_axis_off()
