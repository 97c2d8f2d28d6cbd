"""Raw labels to class indices and back, the only place where either happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.data.raw_labels import (
    as_color,
    as_key,
    as_label_map,
    as_number,
    as_yaml,
    colors_of,
    holds_colors,
    pack,
    read_mask,
    unpack,
    values_of,
)
from segkit.errors import UserError
from segkit.labels import IGNORE, IGNORE_INDEX, MAX_CLASSES

UNKNOWN = MAX_CLASSES  # marks what the card does not name; never leaves this module


class UnknownLabels(UserError):
    """A mask of size (H, W) holds labels that its card does not name, beside the classes seen."""

    def __init__(
        self, message: str, pixels: Mapping[int, int], size: tuple[int, int], seen: set[str]
    ) -> None:
        super().__init__(message)
        self.pixels = dict(pixels)
        self.size = size
        self.seen = seen

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling, on the way out of a loading process."""
        return type(self), (str(self), self.pixels, self.size, self.seen)


class LabelMap:
    """Both directions of a card's `label_map`."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.labels = {as_number(key): name for key, name in card.label_map.items()}

    @cached_property
    def _to_class(self) -> NDArray[np.uint8]:
        table = np.full(2**24 if self.card.by_color else 2**16, UNKNOWN, np.uint8)
        for label, name in self.labels.items():
            table[label] = self._index(name)
        return table

    @cached_property
    def _to_label(self) -> NDArray[np.uint32]:
        table = np.zeros(256, np.uint32)
        for label, name in sorted(self.labels.items(), reverse=True):  # the smallest wins
            table[self._index(name)] = label
        return table

    def _index(self, name: str) -> int:
        return IGNORE_INDEX if name == IGNORE else self.card.class_names.index(name)

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read a mask file as class indices `(H, W)`, void as `IGNORE_INDEX`."""
        raster = read_mask(path, self.card.lossy_masks)
        if self.card.by_color:
            return self.to_classes(colors_of(raster, path), path)
        if holds_colors(raster):
            raise UserError(self._colors_instead(raster.pixels[..., :3], path))
        return self.to_classes(values_of(raster, path), path)

    def to_classes(self, raw: NDArray[np.integer], where: str | Path) -> NDArray[np.uint8]:
        """Turn raw labels into class indices `(H, W)`, void into `IGNORE_INDEX`.

        Args:
            raw: values 0 to 65535 `(H, W)`, or RGB colours `(H, W, 3)` where the card maps those.
            where: the file, for the error.

        Raises:
            UnknownLabels: labels the card does not name, with their shares and a map to paste.
        """
        labels = pack(raw) if self.card.by_color else raw
        classes = np.take(self._to_class, labels)
        if (classes == UNKNOWN).any():
            if not self.card.lossy_masks:
                raise self._unknown_labels(labels, classes, where)
            stray = classes == UNKNOWN
            values, place = np.unique(labels[stray], return_inverse=True)
            classes[stray] = self._to_class[self._nearest(values)][place]
        return classes

    def to_raw(self, classes: NDArray[np.uint8]) -> NDArray[np.integer]:
        """Turn class indices back into the data set's own labels, in as few bits as hold them.

        Shape: `(H, W)` to `(H, W)`, or RGB `(H, W, 3)` where the card maps colours.
        """
        labels = self._to_label[classes]
        if self.card.by_color:
            return unpack(labels)
        return labels.astype(np.uint8 if self._to_label.max() < 256 else np.uint16)

    def _nearest(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the card's labels that are nearest in value, or in RGB space."""
        given = self._coordinates(labels)
        nearest = np.zeros(len(labels), np.int64)
        shortest = np.full(len(labels), np.iinfo(np.int64).max)
        for known in self.labels:  # a JPEG may hold 100,000 colours, so not one by one
            distance = np.square(given - self._coordinates(np.array([known]))).sum(-1)
            nearer = distance < shortest
            nearest[nearer], shortest[nearer] = known, distance[nearer]
        return nearest

    def _coordinates(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        return (unpack(labels) if self.card.by_color else labels[:, None]).astype(np.int64)

    def proposal(self, unknown: Mapping[int, int], seen: set[str]) -> str:
        """Propose a `label_map` to paste that also names labels unknown to the card."""
        names = self.card.class_names
        missing = [name for name in names if name not in seen]
        if len(names) == 2 and len(missing) == len(unknown) == 1:
            # one stray value beside one of two classes is most likely the other
            entries = {k: n for k, n in self.labels.items() if n not in missing}
            entries[next(iter(unknown))] = missing[0]
        else:
            entries = {**self.labels, **dict.fromkeys(unknown, IGNORE)}
        return as_label_map(entries, self.card.by_color)

    def describe(self, unknown: Mapping[int, int], pixels: int) -> str:
        """Describe labels the card does not name: the five most frequent with their shares."""
        shown = [
            f"{self._key(label)} ({count / pixels:.1%} of the pixels{self._near(label)})"
            for label, count in Counter(unknown).most_common(5)
        ]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        return ", ".join(shown) + more

    def _key(self, label: int) -> int | str:
        """Return a label as a key of a card: a number, or `R G B`."""
        return as_key(label, self.card.by_color)

    def _near(self, label: int) -> str:
        near = int(self._nearest(np.array([label]))[0])
        return f", nearest: {self._key(near)} {self.labels[near]}" if self.card.by_color else ""

    def _unknown_labels(
        self, labels: NDArray[np.integer], classes: NDArray[np.uint8], where: str | Path
    ) -> UnknownLabels:
        values, counts = np.unique(labels[classes == UNKNOWN], return_counts=True)
        unknown = dict(zip(values.tolist(), counts.tolist(), strict=True))
        names = self.card.class_names
        seen = {names[i] for i in np.unique(classes).tolist() if i < len(names)}
        few = dict(Counter(unknown).most_common(5))
        return UnknownLabels(
            f"{where}: the card '{self.card.name}' does not say what these labels mean: "
            f"{self.describe(unknown, labels.size)}; name their class or ignore them in the card, "
            f"e.g. {self.proposal(few, seen)}",
            unknown,
            (classes.shape[0], classes.shape[1]),
            seen,
        )

    def _colors_instead(self, colors: NDArray[Any], path: Path) -> str:
        """Explain that a mask holds colours where values were expected, and how to map them."""
        if colors.dtype != np.uint8:
            return f"{path}: has colours of {colors.dtype}; save masks with 8 bits a channel"
        values, counts = np.unique(pack(colors), return_counts=True)
        common = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))).most_common(8)
        names = {int(pack(np.array(entry.color))): entry.name for entry in self.card.classes}
        entries = {as_color(value): names.get(value, IGNORE) for value, _ in common}
        more = ", ...}" if len(values) > len(common) else "}"
        return (
            f"{path}: is a colour mask of {len(values)} colours, but the card's label_map has "
            f"values; give it the colours, e.g. label_map: {as_yaml(entries).removesuffix('}')}"
            f"{more}"
        )
