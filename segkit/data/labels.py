"""Raw label values to class indices and back: the one place where either happens."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segkit.data.card import IGNORE, Card
from segkit.errors import UserError

IGNORE_INDEX = 255  # internal label of void


class LabelMap:
    """The two directions of a card's `label_map`.

    Args:
        card: names the classes and their raw values.
    """

    def __init__(self, card: Card) -> None:
        self.card = card

    @cached_property
    def _to_class(self) -> NDArray[np.int16]:
        table = np.full(65536, -1, np.int16)  # -1: a value the card does not know
        for raw, name in self.card.label_map.items():
            void = name == IGNORE
            table[raw] = IGNORE_INDEX if void else self.card.class_names.index(name)
        return table

    @cached_property
    def _to_raw(self) -> NDArray[np.uint16]:
        table = np.zeros(256, np.uint16)
        for raw, name in sorted(self.card.label_map.items(), reverse=True):  # the smallest wins
            if name != IGNORE:
                table[self.card.class_names.index(name)] = raw
            else:
                table[IGNORE_INDEX] = raw
        return table

    def to_classes(self, raw: NDArray[np.integer], where: str | Path) -> NDArray[np.uint8]:
        """Turn raw values into class indices, void into `IGNORE_INDEX`.

        Args:
            raw: values of a mask file, 0 to 65535.
            where: the file, for the error.

        Shape: `(H, W)` to `(H, W)`.

        Raises:
            UserError: values the card does not know, with their shares and a map to paste.
        """
        classes = self._to_class[raw]
        if classes.min(initial=0) < 0:
            raise self._unknown_values(raw, classes, where)
        return classes.astype(np.uint8)

    def to_raw(self, classes: NDArray[np.uint8]) -> NDArray[np.integer]:
        """Turn class indices back into the data set's own values, 8 bit where they fit.

        Shape: `(H, W)` to `(H, W)`.
        """
        raw = self._to_raw[classes]
        return raw.astype(np.uint8) if self._to_raw.max() < 256 else raw

    def _unknown_values(
        self, raw: NDArray[np.integer], classes: NDArray[np.int16], where: str | Path
    ) -> UserError:
        values, counts = np.unique(raw[classes < 0], return_counts=True)
        shares = [
            f"{v} ({c / raw.size:.1%} of the pixels)" for v, c in zip(values, counts, strict=True)
        ]
        more = f" and {len(values) - 5} more" if len(values) > 5 else ""
        entries = self._proposal([int(v) for v in values[:5]], set(classes.ravel().tolist()))
        pasted = ", ".join(f"{value}: {name}" for value, name in sorted(entries.items()))
        return UserError(
            f"{where}: the card '{self.card.name}' does not say what these label values mean: "
            f"{', '.join(shares[:5])}{more}; name their class or ignore them in the card, e.g. "
            f"label_map: {{{pasted}}}"
        )

    def _proposal(self, values: list[int], found: set[int]) -> dict[int, str]:
        """Complete the label map: one stray value beside one of two classes is likely the other."""
        names = self.card.class_names
        missing = [name for index, name in enumerate(names) if index not in found]
        if len(names) == 2 and len(missing) == len(values) == 1:
            kept = {raw: n for raw, n in self.card.label_map.items() if n not in missing}
            return {**kept, values[0]: missing[0]}
        return {**self.card.label_map, **dict.fromkeys(values, IGNORE)}
