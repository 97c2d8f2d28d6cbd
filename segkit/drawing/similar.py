"""An image and those that look most like it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segkit.drawing.figures import figure_text, save_figure

COLUMNS = 4  # found images in a row
CELL = 2.3  # inches, the width of a picture
LINE = 0.25  # height of what is written above it
LETTERS = 26  # that fit above it

Named = tuple[NDArray[np.uint8], str]  # RGB (H, W, 3), and what to write above it


def draw_similar(
    path: Path, query: Named, found: Sequence[Named], similarities: Sequence[float]
) -> None:
    """Draw an image at the left, and beside it what was found, with the similarities.

    From two rows on, the image is twice as large as the others.
    """
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    span = min(2, rows)
    pictures = [query[0], *(picture for picture, _ in found)]
    height = CELL * float(np.median([p.shape[0] / p.shape[1] for p in pictures]))
    size = ((span + columns) * CELL, rows * (height + LINE))
    figure = Figure(figsize=size)
    borders = {"left": 0.01, "right": 0.99, "bottom": 0.05 / size[1], "top": 1 - LINE / size[1]}
    spaces = {"wspace": 0.04, "hspace": LINE / height}
    grid = figure.add_gridspec(rows, span + columns, **borders, **spaces)
    _show(figure.add_subplot(grid[:span, :span]), query[0], "", query[1], span * LETTERS)
    for index, ((picture, name), similarity) in enumerate(zip(found, similarities, strict=True)):
        axis = figure.add_subplot(grid[index // columns, span + index % columns])
        _show(axis, picture, f"{similarity:.3f}", name, LETTERS)
    save_figure(figure, path)


def _show(axis: Axes, picture: NDArray[np.uint8], number: str, name: str, letters: int) -> None:
    title = f"{number}  {name}".strip()
    if len(title) > letters:  # names differ at the end
        title = f"{number}  ...{name[len(number) + 5 - letters :]}".strip()
    axis.imshow(picture)
    axis.set_anchor("NW")
    axis.set_axis_off()
    axis.set_title(figure_text(title), fontsize="small", loc="left", pad=2)
