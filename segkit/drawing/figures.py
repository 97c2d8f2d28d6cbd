"""What every figure needs: a legend of classes, and a file that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke

from segkit.console import printable
from segkit.drawing.masks import rgb
from segkit.errors import UserError
from segkit.files import replacing
from segkit.labels import Classes, Color

OUTLINE = "0.3"  # of what may be as white as the paper
PALE = 0.75  # luma from which a line needs an outline
LEGEND_ROWS = 24  # entries in a column of a legend that stands alone


def figure_text(text: str) -> str:
    """Return a text as matplotlib draws it letter by letter: without formulas, and in legends.

    >>> figure_text("$x$")
    '\\\\$x\\\\$'
    """
    shown = printable(text).replace("$", "\\$")
    return f" {shown}" if shown.startswith("_") else shown  # a legend leaves out what starts so


def legend_patches(names: Iterable[str], colors: Iterable[Color]) -> list[Patch]:
    """Return a legend entry for each class: its colour and its name."""
    return [
        Patch(facecolor=rgb(color), edgecolor=OUTLINE, label=figure_text(name))
        for name, color in zip(names, colors, strict=True)
    ]


def outlined(color: Color) -> list[AbstractPathEffect]:
    """Return path effects that outline a line whose colour is too pale for white paper."""
    red, green, blue = rgb(color)
    if 0.2126 * red + 0.7152 * green + 0.0722 * blue < PALE:
        return []
    return [withStroke(linewidth=3, foreground=OUTLINE)]


def draw_legend(path: Path, classes: Classes, title: str = "") -> None:
    """Draw a legend that stands alone."""
    figure = Figure()
    figure.legend(
        handles=legend_patches(classes.names, classes.colors),
        loc="center",
        ncols=-(-len(classes.names) // LEGEND_ROWS),
        frameon=False,
        title=figure_text(title),
    )
    save_figure(figure, path, bbox_inches="tight", pad_inches=0.15)


def save_figure(figure: Figure, path: Path, **options: Any) -> None:
    """Write a figure in the format that the suffix names; without one, as a PNG."""
    suffix = path.suffix.lstrip(".").lower() or "png"
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=100, format=suffix, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {error}") from error
