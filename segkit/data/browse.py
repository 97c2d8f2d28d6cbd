"""A sheet of samples: image, classes over it, and how much there is of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.data.draw import displayable, overlay, rgb
from segkit.data.images import Pixels
from segkit.data.labels import IGNORE_INDEX
from segkit.errors import UserError

COLUMNS = 4  # samples in a row
CELL = 2.3  # width of a picture in inches; a sample has two side by side
VOID_GREY = (0.85, 0.85, 0.85)


class Shown(NamedTuple):
    """A sample to draw: image `(H, W, C)`, class indices `(H, W)`, name."""

    image: Pixels
    mask: NDArray[np.uint8]
    name: str


def draw_sheet(path: Path, samples: Sequence[Shown], card: Card, title: str) -> None:
    """Write a PNG of samples, each with its image, an overlay and a bar of class shares.

    Raises:
        UserError: the file cannot be written.
    """
    columns = min(COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    tallest = max(sample.mask.shape[0] / sample.mask.shape[1] for sample in samples)
    entries = _legend(samples, card)
    legend_columns = max(1, min(len(entries), 2 * columns))
    legend = 0.24 * -(-len(entries) // legend_columns) + 0.2
    row = min(tallest, 2.0) * CELL + 0.45
    size = (2 * columns * CELL + 0.3, rows * row + legend + 0.5)
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    figure.suptitle(title, y=1 - 0.12 / size[1], va="top", fontsize="medium")
    grid = figure.add_gridspec(
        rows,
        columns,
        left=0.01,
        right=0.99,
        top=1 - 0.45 / size[1],
        bottom=legend / size[1],
        wspace=0.04,
        hspace=0.02,
    )
    for index, sample in enumerate(samples):
        cell = grid[index // columns, index % columns].subgridspec(
            2, 2, height_ratios=[row - 0.4, 0.1], wspace=0.01, hspace=0.02
        )
        image, classes = (figure.add_subplot(cell[0, side]) for side in (0, 1))
        image.imshow(displayable(sample.image), interpolation="nearest")
        image.set_title(sample.name, fontsize="x-small", loc="left", pad=2)
        classes.imshow(overlay(sample.image, sample.mask, card.colors), interpolation="nearest")
        classes.set_title(
            "{}x{}".format(*sample.mask.shape), fontsize="x-small", loc="right", pad=2, color="0.4"
        )
        _share_bar(figure.add_subplot(cell[1, :]), sample.mask, card)
        for axis in (image, classes):
            axis.set_axis_off()
    figure.legend(
        handles=entries,
        loc="lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize="small",
    )
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:  # ValueError: a suffix matplotlib does not know
        raise UserError(f"cannot write {path}: {error}") from error


def _shares(masks: Sequence[NDArray[np.uint8]], card: Card) -> NDArray[np.float64]:
    """Shares of each class, and of void as the last."""
    counts = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0)
    counts = np.append(counts[: card.num_classes], counts[IGNORE_INDEX])
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _legend(samples: Sequence[Shown], card: Card) -> list[Patch]:
    """Name each class with its share of all samples shown."""
    shares = _shares([sample.mask for sample in samples], card)
    colors = [*(rgb(color) for color in card.colors), VOID_GREY]
    return [
        Patch(facecolor=color, edgecolor="0.3", label=f"{name} {share:.1%}")
        for name, color, share in zip((*card.class_names, "void"), colors, shares, strict=True)
    ]


def _share_bar(axis: Axes, mask: NDArray[np.uint8], card: Card) -> None:
    left = 0.0
    colors = [*(rgb(color) for color in card.colors), VOID_GREY]
    for color, share in zip(colors, _shares([mask], card), strict=True):
        axis.barh(0, share, left=left, color=color)
        left += share
    axis.set_xlim(0, 1)
    axis.set_axis_off()
