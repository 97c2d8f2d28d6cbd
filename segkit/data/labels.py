"""Raw labels to class indices and back: the one place where either happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from segkit.data.card import IGNORE, MAX_CLASSES, Card
from segkit.data.raster import Raster, read_raster
from segkit.errors import UserError

IGNORE_INDEX = 255  # internal label of void
UNKNOWN = MAX_CLASSES  # marks what the card does not name; never leaves this module


class UnknownLabels(UserError):
    """A mask holds labels that its card does not name.

    Args:
        message: for the user.
        pixels: how many there are of each, by number or packed colour.
        size: (H, W) of the mask.
        seen: names of the classes that do occur.
    """

    def __init__(
        self, message: str, pixels: Mapping[int, int], size: tuple[int, int], seen: set[str]
    ) -> None:
        super().__init__(message)
        self.pixels = dict(pixels)
        self.size = size
        self.seen = seen

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to build it anew, on its way out of a loading process."""
        return type(self), (str(self), self.pixels, self.size, self.seen)


class LabelMap:
    """The two directions of a card's `label_map`.

    A label is a number: the value in a mask file, or a colour packed into 24 bits.

    Args:
        card: names the classes and their labels.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self.labels = {_number(key): name for key, name in card.label_map.items()}

    @cached_property
    def _to_class(self) -> NDArray[np.uint8]:
        table = np.full(2**24 if self.card.by_color else 2**16, UNKNOWN, np.uint8)
        for label, name in self.labels.items():
            void = name == IGNORE
            table[label] = IGNORE_INDEX if void else self.card.class_names.index(name)
        return table

    @cached_property
    def _to_label(self) -> NDArray[np.uint32]:
        table = np.zeros(256, np.uint32)
        for label, name in sorted(self.labels.items(), reverse=True):  # the smallest wins
            if name != IGNORE:
                table[self.card.class_names.index(name)] = label
            else:
                table[IGNORE_INDEX] = label
        return table

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read a mask file as class indices, void as `IGNORE_INDEX`.

        Palette files give their indices, or their colours where the card maps colours.

        Shape: `(H, W)`.

        Raises:
            UserError: not an image, cut short, lossy, or labels the card does not name.
        """
        raster = read_raster(path)
        if raster.lossy and not self.card.lossy_masks:
            raise UserError(
                f"{path}: is stored in a lossy format, which makes up labels at every border; save "
                "masks as PNG, or accept the nearest known label with lossy_masks: true in the card"
            )
        raw = _colors(raster, path) if self.card.by_color else _values(raster, path, self.card)
        return self.to_classes(raw, path)

    def to_classes(self, raw: NDArray[np.integer], where: str | Path) -> NDArray[np.uint8]:
        """Turn raw labels into class indices, void into `IGNORE_INDEX`.

        Args:
            raw: values 0 to 65535 `(H, W)`, or RGB colours `(H, W, 3)` where the card maps those.
            where: the file, for the error.

        Shape: `(H, W)`.

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

    def nearest(self, label: int) -> int:
        """Give the label of the card that is nearest in value, or in RGB space."""
        return int(self._nearest(np.array([label]))[0])

    def _nearest(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
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

    def spell(self, label: int) -> str:
        """Write a label as a card does: a number, or `R G B`."""
        if not self.card.by_color:
            return str(label)
        return " ".join(str(channel) for channel in unpack(np.array(label)).tolist())

    def proposal(self, unknown: Mapping[int, int], seen: set[str]) -> str:
        """Write a `label_map` to paste that also names what the card does not.

        Args:
            unknown: pixels by label.
            seen: names of the classes that do occur.
        """
        names = self.card.class_names
        missing = [name for name in names if name not in seen]
        if len(names) == 2 and len(missing) == len(unknown) == 1:
            # one stray value beside one of two classes is most likely the other
            entries = {k: n for k, n in self.labels.items() if n not in missing}
            entries[next(iter(unknown))] = missing[0]
        else:
            entries = {**self.labels, **dict.fromkeys(unknown, IGNORE)}
        pasted = {
            self.spell(k) if self.card.by_color else k: name for k, name in sorted(entries.items())
        }
        return f"label_map: {_flow(pasted)}"

    def describe(self, unknown: Mapping[int, int], pixels: int) -> str:
        """List labels the card does not name, the most frequent five of them with their shares."""
        shown = [
            f"{self.spell(label)} ({count / pixels:.1%} of the pixels{self._near(label)})"
            for label, count in Counter(unknown).most_common(5)
        ]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        return ", ".join(shown) + more

    def _near(self, label: int) -> str:
        if not self.card.by_color:
            return ""
        near = self.nearest(label)
        return f", nearest: {self.spell(near)} {self.labels[near]}"

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


def pack(colors: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Pack RGB colours into one number each.

    Shape: `(..., 3)` to `(...)`.
    """
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return (red << 16 | green << 8 | blue).astype(np.uint32, copy=False)


def unpack(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Undo `pack`.

    Shape: `(...)` to `(..., 3)`.
    """
    return np.stack([labels >> 16 & 255, labels >> 8 & 255, labels & 255], -1).astype(np.uint8)


def _number(key: int | str) -> int:
    return key if isinstance(key, int) else int(pack(np.array([int(c) for c in key.split()])))


def _colors(raster: Raster, path: Path) -> NDArray[np.integer]:
    """Give the colours of a mask file, `(H, W, 3)`."""
    pixels = raster.pixels if raster.palette is None else raster.palette[raster.pixels]
    if pixels.dtype != np.uint8:
        raise UserError(f"{path}: has {pixels.dtype} pixels, but the card's label_map has colours")
    if pixels.ndim == 2 or pixels.shape[2] < 3:  # grey, perhaps with alpha
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        return np.stack([grey] * 3, axis=-1)
    return pixels[..., :3]


def _values(raster: Raster, path: Path, card: Card) -> NDArray[np.integer]:
    """Give the label values of a mask file, `(H, W)`."""
    values = raster.pixels
    if values.ndim == 3:
        if values.shape[2] >= 3 and (values[..., :1] != values[..., 1:3]).any():
            raise UserError(_colors_instead(values[..., :3], path, card))
        values = values[..., 0]  # grey saved as colours, or with alpha
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind not in "iu":
        raise UserError(f"{path}: holds {values.dtype}; save labels as whole numbers")
    if values.dtype not in (np.uint8, np.uint16) and values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise UserError(f"{path}: holds labels from {low} to {high}; save them as 0 to 65535")
        return values.astype(np.uint16)
    return values


def _colors_instead(colors: NDArray[Any], path: Path, card: Card) -> str:
    """Say which colours a mask holds where label values were expected, and how to map them."""
    if colors.dtype != np.uint8:
        return f"{path}: has colours of {colors.dtype}; save masks with 8 bits a channel"
    values, counts = np.unique(pack(colors), return_counts=True)
    common = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))).most_common(8)
    names = {int(pack(np.array(entry.color))): entry.name for entry in card.classes}
    entries = {
        " ".join(map(str, unpack(np.array(value)).tolist())): names.get(value, IGNORE)
        for value, _ in common
    }
    more = ", ...}" if len(values) > len(common) else "}"
    return (
        f"{path}: is a colour mask of {len(values)} colours, but the card's label_map has values; "
        f"give it the colours, e.g. label_map: {_flow(entries).removesuffix('}')}{more}"
    )


def _flow(entries: Mapping[Any, str]) -> str:
    """Write a mapping as YAML on one line."""
    text: str = yaml.safe_dump(
        dict(entries), default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True
    )
    return text.strip()
