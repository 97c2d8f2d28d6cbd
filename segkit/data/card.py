"""Dataset cards: where a data set is, what its labels mean, and who made it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from segkit.config.load import apply_override, read_yaml, validate
from segkit.config.parts import PathText, Section
from segkit.data.card_values import Name, Pattern, RawKey
from segkit.data.class_entries import ClassEntries
from segkit.data.label_proposal import propose_labels
from segkit.data.raster import raster_files
from segkit.errors import UserError, unknown_name
from segkit.labels import IGNORE, Classes
from segkit.shipped import data_folder, find, names_of

LABELS = "classes", "label_map"  # keys of a card, which the masks can propose


class Split(Section):
    """Folders of images and masks, relative to the root, paired by file name without suffix."""

    images: PathText
    masks: PathText
    list: PathText | None = None  # a text file below the root, one name a line; null: all files
    image_suffix: str = ""  # what an image's name has behind the part that pairs, e.g. _leftImg8bit
    mask_suffix: str = ""  # the same of masks, e.g. _gtFine_labelIds

    @model_validator(mode="after")
    def _masks_differ_from_images(self) -> Split:
        if self.images == self.masks and self.mask_suffix == self.image_suffix:
            raise ValueError(
                "images and masks share a folder, so say what only the masks' names end in: "
                "mask_suffix: _mask"
            )
        return self

    def pairing_name(self, stem: str, kind: Literal["image", "mask"]) -> str | None:
        """Return the part of a file's name that pairs; None if the file is of another kind."""
        suffix, other = self.image_suffix, self.mask_suffix
        if kind == "mask":
            suffix, other = other, suffix
        # in one folder for both, a file is what the longer of the suffixes that fit says
        is_other = self.images == self.masks and len(other) > len(suffix) and stem.endswith(other)
        return stem.removesuffix(suffix) if stem.endswith(suffix) and not is_other else None


class Card(Section):
    """A dataset card; `root` is absolute once loaded."""

    name: Name
    root: PathText  # relative to the card's own folder
    builtin: Literal["streets"] | None = None  # drawn at first use
    classes: ClassEntries
    label_map: dict[RawKey, str]  # value or colour in a mask file -> class name or "ignore"
    foreground: str | None = None  # of two classes, the one to find; null: the second
    splits: dict[Name, Split]
    image_max: float | None = Field(None, gt=0)  # the pixel value that is white; null: 8 bits
    # a regular expression: images whose names agree in its first group are frames of one video
    sequences: Pattern | None = None
    lossy_masks: bool = False  # allow JPEG and the like; stray labels become the nearest known one
    source: str = ""
    licence: str = ""
    citation: str = ""

    @field_validator("label_map", mode="wrap")
    @classmethod
    def _no_label_is_lost(cls, given: Any, read: Callable[[Any], dict]) -> dict[int | str, str]:
        label_map = read(given)
        if len(label_map) < len(given):  # e.g. "1 2 3" and "1, 2, 3"
            raise ValueError("label_map gives a label twice, in two spellings; keep one")
        return label_map

    @model_validator(mode="after")
    def _labels_fit_classes(self) -> Card:
        names = self.class_names
        if len({isinstance(raw, str) for raw in self.label_map}) > 1:
            raise ValueError("label_map mixes values and colours; masks hold one or the other")
        for raw, name in self.label_map.items():
            if name not in (*names, IGNORE):
                raise ValueError(
                    f"label_map[{raw}]: {unknown_name('class', name, (*names, IGNORE))}"
                )
        missing = sorted(set(names) - set(self.label_map.values()))
        if missing:
            raise ValueError(f"label_map gives no raw value for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _foreground_is_one_of_two_classes(self) -> Card:
        if self.foreground is None:
            return self
        if self.foreground not in self.class_names:
            unknown = unknown_name("class", self.foreground, self.class_names)
            raise ValueError(f"foreground: {unknown}")
        if self.num_classes != 2:
            raise ValueError(
                f"foreground is for two classes, and there are {self.num_classes}; leave it out: "
                "the IoU of every class is reported by its name"
            )
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return tuple(entry.name for entry in self.classes)

    @property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """Display colours in the order of the class indices."""
        return tuple(entry.color for entry in self.classes)

    @property
    def legend(self) -> Classes:
        """Names, colours and foreground, without what the masks hold."""
        return Classes(self.class_names, self.colors, self.foreground)

    @property
    def by_color(self) -> bool:
        """Whether masks hold colours rather than label values."""
        return isinstance(next(iter(self.label_map)), str)

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes)


class _Draft(Card):
    """A card that lacks its label map, and perhaps its classes."""

    classes: ClassEntries = ()
    label_map: Any = None

    @model_validator(mode="after")
    def _labels_fit_classes(self) -> _Draft:
        return self  # there are none yet


def load_card(
    path: str | Path, root: str | Path | None = None, overrides: Sequence[str] = ()
) -> Card:
    """Read and check a card.

    Args:
        path: of the card's YAML file, or the name of a shipped one.
        root: folder of the data, relative to the working directory; None: what the card says,
            relative to the card, or to `datasets/` for one that came in a wheel.
        overrides: settings as `a.b=c`, as for an experiment; `root=DIR` is the same as `root`.

    Raises:
        UserError: no such card, an unknown key, or labels that fit no class. Without a label map,
            it tells what the masks hold, and proposes one.
    """
    path = find("datasets", path)
    try:
        data, lines = read_yaml(path, names_of("datasets"))
    except UserError as error:
        if path.exists() or path.is_absolute():
            raise
        raise UserError(
            f"{error}; a relative path is looked up in the working directory, {Path.cwd()}, and "
            "one in a config also beside that file and in the folders above it"
        ) from error
    for override in overrides:
        if override.startswith("root="):
            root = override.removeprefix("root=")
        else:
            apply_override(override, data, lines)
    data = {key: value for key, value in data.items() if value or key not in LABELS}
    is_complete = "label_map" in data
    card = validate(Card if is_complete else _Draft, data, lines, str(path))
    folder = Path(os.path.realpath(root or data_folder(path) / card.root))
    if not is_complete:
        classes = {entry.name: entry.color for entry in card.classes}
        text = propose_labels(folder, _mask_files(folder, card), classes, card.lossy_masks)
        raise UserError(f"{path}: {text}")
    return card.model_copy(update={"root": str(folder)})


def _mask_files(root: Path, card: Card) -> list[Path]:
    """List the masks in the folders of all splits, whether a list names them or not."""
    files = {
        root / split.masks / file
        for split in card.splits.values()
        for file in raster_files(root / split.masks)
        if split.pairing_name(os.path.splitext(file)[0], "mask") is not None
    }
    return sorted(files)


def split_of(card: Card, name: str) -> Split:
    """Return a split of a card; a `UserError` says which there are."""
    if name not in card.splits:
        raise unknown_name("split", name, card.splits)
    return card.splits[name]
