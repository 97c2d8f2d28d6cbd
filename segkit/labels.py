"""The vocabulary of targets that every part shares: the void label, and the classes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from typing import NamedTuple

from segkit.errors import UserError

IGNORE_INDEX = 255  # the class index of void, whatever a file on disk calls it
IGNORE = "ignore"  # its name in a card's label map: neither trained on nor evaluated
MAX_CLASSES = 254  # class indices are 8 bits wide; two are taken for void and unknown

Color = tuple[int, int, int]  # RGB, 0 ... 255


class Classes(NamedTuple):
    """The classes of a run, in the order of their indices.

    Args:
        names: one a class.
        colors: the RGB colour that each class is drawn in.
        foreground: of two classes, the one whose IoU is the headline; None: the second.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    foreground: str | None = None

    @classmethod
    def named(cls, names: Sequence[str], colors: Sequence[Color] | None = None) -> Classes:
        """Name classes; without colours, spread their hues evenly.

        Raises:
            UserError: another number of colours than of names.
        """
        colors = cls.numbered(len(names)).colors if colors is None else tuple(colors)
        if len(colors) != len(names):
            raise UserError(f"there are {len(colors)} colours for {len(names)} classes")
        return cls(tuple(names), tuple(colors))

    @classmethod
    def numbered(cls, count: int) -> Classes:
        """Name classes by their index and spread their hues evenly.

        >>> Classes.numbered(2).names
        ('0', '1')
        """
        hues = [index / count for index in range(count)]
        colors = [tuple(round(255 * c) for c in hsv_to_rgb(hue, 0.75, 0.85)) for hue in hues]
        return cls(tuple(map(str, range(count))), tuple(colors))  # type: ignore[arg-type]
