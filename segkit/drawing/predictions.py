"""Predictions beside their targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from segkit.drawing.figures import legend_patches, save_figure
from segkit.drawing.masks import VOID_COLOR, displayable, error_map, overlay
from segkit.labels import Classes

CELL = 3.2  # width of a picture in inches
LEGEND_COLUMNS = 8


def draw_predictions(
    path: Path, rows: Sequence[tuple[Tensor, Tensor, Tensor]], classes: Classes
) -> None:
    """Draw a row of image `(C, H, W)`, target, prediction `(H, W)` and errors for each sample."""
    height, width = rows[0][1].shape
    entries = legend_patches((*classes.names, "void"), (*classes.colors, VOID_COLOR))
    columns = min(len(entries), LEGEND_COLUMNS)
    bottom = 0.35 * -(-len(entries) // columns)
    size = (4 * CELL, len(rows) * CELL * height / width + 0.4 + bottom)
    figure = Figure(figsize=size)
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for row, (image, target, prediction) in zip(axes, rows, strict=True):
        cells = [
            displayable(image),
            overlay(image, target, classes.colors),
            overlay(image, prediction, classes.colors),
            error_map(image, target, prediction),
        ]
        for axis, picture in zip(row, cells, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("image", "truth", "prediction", "errors"), strict=True):
        axis.set_title(title)
    figure.legend(handles=entries, loc="lower center", ncols=columns, frameon=False)
    top, bottom = 1 - 0.35 / size[1], (bottom + 0.05) / size[1]
    figure.subplots_adjust(0.01, bottom, 0.99, top, wspace=0.02, hspace=0.03)
    save_figure(figure, path)
