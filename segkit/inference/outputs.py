"""Writing predictions as files, each whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from segkit.data.card import IGNORE, Card
from segkit.data.draw import VOID_COLOR, colorize, overlay, rgb
from segkit.data.images import Pixels
from segkit.data.labels import LabelMap
from segkit.errors import UserError
from segkit.inference.inputs import Source
from segkit.inference.prediction import Prediction

LEGEND = "legend.png"
PIXELS_AT_ONCE = 2**21  # of a large image, so that painting it takes little memory
LEGEND_ROWS = 24  # entries in a column


class Unwritable(UserError):
    """A result cannot be written, and so most likely no other can."""


class Wanted(NamedTuple):
    """What to write beside the masks of raw labels."""

    overlay: bool = False
    color: bool = False
    probabilities: bool = False

    @property
    def pictures(self) -> bool:
        """Whether a legend is of use."""
        return self.overlay or self.color


def targets(source: Source, out: Path, wanted: Wanted) -> list[Path]:
    """List what is written of a source; of a video, the folder of its frames is one of them."""
    if source.is_video:
        names = ["", *[".mp4"] * wanted.overlay, *["_color.mp4"] * wanted.color]
    else:
        names = [
            ".png",
            *["_overlay.png"] * wanted.overlay,
            *["_color.png"] * wanted.color,
            *["_probabilities.npz"] * wanted.probabilities,
        ]
    return [beside(out, source.stem, name) for name in names]


def beside(out: Path, stem: Path, ending: str) -> Path:
    """Name a result; dots in the stem stay."""
    return out / stem.parent / f"{stem.name}{ending}"


def check_targets(sources: Sequence[Source], out: Path, wanted: Wanted) -> None:
    """Refuse results that would overwrite an input or each other, or that cannot be written.

    Raises:
        UserError: with the files concerned.
    """
    root = Path(os.path.realpath(out))
    inputs = {os.path.realpath(source.path) for source in sources}
    owners: dict[Path, str] = {root / LEGEND: "the legend"} if wanted.pictures else {}
    for source in sources:
        for target in targets(source, root, wanted):
            if str(target) in inputs:
                raise UserError(f"{target} is an input; name another folder with --out")
            _claim(owners, target, str(source.path))
    for target, owner in list(owners.items()):
        for folder in target.relative_to(root).parents:
            if (root / folder) in owners:
                _claim(owners, root / folder, owner)
    place = next(path for path in (root, *root.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {out}: {place} is no folder that can be written to")


def _claim(owners: dict[Path, str], target: Path, owner: str) -> None:
    other = owners.setdefault(target, owner)
    if other != owner:
        raise UserError(
            f"{other} and {owner} would both be written to {target}; predict them into folders of "
            "their own, or name the folder above both as the input, whose subfolders are kept"
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write under, which becomes the file's own at the end.

    Raises:
        Unwritable: no room, or no permission.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")  # a killed process's is taken
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise Unwritable(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class Writer:
    """Writes predictions below a folder.

    Args:
        out: the folder.
        card: of the data set whose labels the masks have.
        wanted: what to write beside the masks.
    """

    def __init__(self, out: Path, card: Card, wanted: Wanted) -> None:
        self.out = out
        self.card = card
        self.wanted = wanted
        self.labels = LabelMap(card)
        self.palette = self._palette()

    def _palette(self) -> list[int]:
        """Give raw values the colours of their classes, as far as 8 bits go."""
        colors = dict(zip(self.card.class_names, self.card.colors, strict=True))
        palette = np.zeros((256, 3), np.uint8)
        for label, name in self.labels.labels.items():
            if label < 256:
                palette[label] = VOID_COLOR if name == IGNORE else colors[name]
        return [int(channel) for channel in palette.ravel()]

    def begin(self) -> None:
        """Make the folder, with a legend if pictures are wanted.

        Raises:
            Unwritable: no permission.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.out):  # permission bits do not tell all
                pass
        except OSError as error:
            raise Unwritable(f"cannot write to {self.out}: {error.strerror or error}") from error
        if self.wanted.pictures:
            with replacing(self.out / LEGEND) as path:
                draw_legend(path, self.card)

    def write(self, stem: Path, image: Pixels, prediction: Prediction) -> None:
        """Write all that is wanted of an image.

        Raises:
            Unwritable: no room, or no permission.
        """
        mask = prediction.mask.cpu().numpy()
        self.write_mask(stem, prediction)
        if self.wanted.overlay:
            self._save_picture(stem, "_overlay.png", self.overlay(image, mask))
        if self.wanted.color:
            self._save_picture(stem, "_color.png", self.color(mask))

    def write_mask(self, stem: Path, prediction: Prediction) -> None:
        """Write the raw labels, and the probabilities if they are wanted.

        Raises:
            Unwritable: no room, or no permission.
        """
        raw = in_bands(self.labels.to_raw, prediction.mask.cpu().numpy())
        picture = Image.fromarray(raw)
        if picture.mode == "L":
            picture.putpalette(self.palette)
        with replacing(beside(self.out, stem, ".png")) as path:
            picture.save(path)
        if self.wanted.probabilities:
            assert prediction.probabilities is not None
            with replacing(beside(self.out, stem, "_probabilities.npz")) as path:
                np.savez(
                    path,
                    probabilities=prediction.probabilities.cpu().numpy(),
                    classes=np.array(self.card.class_names),
                )

    def overlay(self, image: Pixels, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay the classes' colours over an image, RGB."""
        return in_bands(lambda i, m: overlay(i, m, self.card.colors), image, mask)

    def color(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Paint the classes, RGB."""
        return in_bands(lambda m: colorize(m, self.card.colors), mask)

    def _save_picture(self, stem: Path, ending: str, picture: NDArray[np.uint8]) -> None:
        with replacing(beside(self.out, stem, ending)) as path:
            Image.fromarray(picture).save(path, compress_level=1)  # a fifth of the time


def in_bands(function: Callable[..., NDArray[Any]], *images: NDArray[Any]) -> NDArray[Any]:
    """Apply a function to images of one size, some rows at a time."""
    height, width = images[0].shape[:2]
    rows = max(1, PIXELS_AT_ONCE // width)
    result: NDArray[Any] | None = None
    for top in range(0, height, rows):
        band = function(*(image[top : top + rows] for image in images))
        if result is None:
            result = np.empty((height, *band.shape[1:]), band.dtype)
        result[top : top + rows] = band
    assert result is not None
    return result


def draw_legend(path: Path, card: Card) -> None:
    """Write a picture of the classes' names and colours."""
    columns = -(-card.num_classes // LEGEND_ROWS)
    patches = [
        Patch(facecolor=rgb(entry.color), edgecolor="0.3", label=entry.name)
        for entry in card.classes
    ]
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.legend(handles=patches, loc="center", ncols=columns, frameon=False, title=card.name)
    figure.savefig(path, dpi=100, bbox_inches="tight", pad_inches=0.15)
