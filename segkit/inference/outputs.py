"""Write predictions as files, each whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.card import Card
from segkit.data.images import Pixels
from segkit.data.label_map import LabelMap
from segkit.drawing.figures import draw_legend
from segkit.drawing.masks import colorize, overlay
from segkit.errors import UserError
from segkit.files import below, check_folder, replacing
from segkit.inference.inputs import Source
from segkit.inference.prediction import Prediction
from segkit.labels import IGNORE_INDEX, Classes

LEGEND = "legend.png"
PIXELS_AT_ONCE = 2**21  # of a large image, so that painting it takes little memory


class Unwritable(UserError):
    """A result cannot be written, and so most likely no other can."""


class Outputs(NamedTuple):
    """What is written besides the masks of raw labels; pictures come with a legend."""

    overlay: bool = False
    color: bool = False
    probabilities: bool = False


MASKS_ALONE = Outputs()


def output_paths(source: Source, out: Path, outputs: Outputs) -> list[Path]:
    """Return the files written for a source; for a video, also the folder of its frames."""
    pictures = [".mp4", "_color.mp4"]
    if not source.is_video:
        pictures = ["_overlay.png", "_color.png", "_probabilities.npz"]
    wanted = ["" if source.is_video else ".png", *compress(pictures, outputs)]
    return [output_path(out, source.stem, ending) for ending in wanted]


def output_path(out: Path, stem: Path, ending: str) -> Path:
    """Return the path of a result; dots in the stem stay."""
    return below(out, stem.parent / f"{stem.name}{ending}")


def check_outputs(sources: Sequence[Source], out: Path, outputs: Outputs) -> None:
    """Refuse results that would overwrite an input or each other, or that cannot be written."""
    root = Path(os.path.realpath(out))
    place = next(path for path in (root, *root.parents) if path.exists())
    key = _casefolded if is_case_blind(place) else Path
    inputs = {key(os.path.realpath(source.path)) for source in sources}
    owners: dict[Path, str] = {}
    if outputs.overlay or outputs.color:
        owners[key(root / LEGEND)] = "the legend"
    for source in sources:
        for path in output_paths(source, root, outputs):
            if key(path) in inputs:
                raise UserError(f"{path} is an input; name another folder with --out")
            _claim(owners, key(path), str(source.path))
    for path, owner in list(owners.items()):
        for folder in path.parents:
            if folder in owners:
                _claim(owners, folder, owner)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {out}: {place} is no folder that can be written to")


def is_case_blind(folder: Path) -> bool:
    """Return whether A.png and a.png are one file in a folder, as under macOS and Windows."""
    for place in (folder, *folder.parents):
        swapped = place.name.swapcase()
        if swapped != place.name:  # the top has no name, and a number no case
            other = place.with_name(swapped)
            return other.exists() and other.samefile(place)
    return False


def _casefolded(path: str | Path) -> Path:
    return Path(str(path).casefold())


def _claim(owners: dict[Path, str], path: Path, owner: str) -> None:
    other = owners.setdefault(path, owner)
    if other != owner:
        raise UserError(
            f"{other} and {owner} would both be written to {path}; predict them into folders of "
            "their own, or name the folder above both as the input, whose subfolders are kept"
        )


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` at the end; its folder is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise Unwritable(f"cannot write {path}: {error.strerror or error}") from error


class Writer:
    """Writes predictions below a folder.

    Args:
        out: the folder.
        classes: names and colours.
        outputs: what to write besides the masks.
        card: of the raw labels that masks are written in; None: masks hold class indices.
    """

    def __init__(
        self,
        out: Path,
        classes: Classes,
        outputs: Outputs = MASKS_ALONE,
        card: Card | None = None,
    ) -> None:
        self.out = out
        self.classes = classes
        self.outputs = outputs
        self.labels = None if card is None else LabelMap(card)
        self.title = "" if card is None else card.name
        # the colours of the raw values, as far as 8 bits go
        indices = np.full(256, IGNORE_INDEX, np.uint8)
        index_of = {name: index for index, name in enumerate(classes.names)}
        raw = dict(enumerate(classes.names)) if self.labels is None else self.labels.labels
        for value, name in raw.items():
            if value < 256:
                indices[value] = index_of.get(name, IGNORE_INDEX)
        self.palette: list[int] = colorize(indices, classes.colors).ravel().tolist()

    def begin(self) -> None:
        """Make the folder, with a legend if classes are painted."""
        check_folder(self.out)
        if self.outputs.overlay or self.outputs.color:
            draw_legend(self.out / LEGEND, self.classes, self.title)

    def write(self, stem: Path, image: Pixels, prediction: Prediction) -> None:
        """Write the mask of an image `(H, W, C)` and the other outputs."""
        mask = prediction.mask.cpu().numpy()
        self.write_mask(stem, prediction)
        if self.outputs.overlay:
            self._save_picture(stem, "_overlay.png", self.overlay(image, mask))
        if self.outputs.color:
            self._save_picture(stem, "_color.png", self.color(mask))

    def write_mask(self, stem: Path, prediction: Prediction) -> None:
        """Write the raw labels, and the probabilities if they are an output."""
        raw = prediction.mask.cpu().numpy()
        if self.labels is not None:
            raw = map_bands(self.labels.to_raw, raw)
        picture = Image.fromarray(raw)
        if picture.mode == "L":
            picture.putpalette(self.palette)
        with writing(output_path(self.out, stem, ".png")) as path:
            picture.save(path)
        if self.outputs.probabilities:
            if prediction.probabilities is None:
                raise UserError(
                    "there are no probabilities to write; predict with probabilities=True"
                )
            with writing(output_path(self.out, stem, "_probabilities.npz")) as path:
                shares = prediction.probabilities.cpu().numpy()
                np.savez(path, probabilities=shares, classes=np.array(self.classes.names))

    def overlay(self, image: Pixels, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay the classes' colours over an image `(H, W, C)`, RGB."""
        return map_bands(lambda i, m: overlay(i, m, self.classes.colors), image, mask)

    def color(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Paint the classes, RGB."""
        return map_bands(lambda m: colorize(m, self.classes.colors), mask)

    def _save_picture(self, stem: Path, ending: str, picture: NDArray[np.uint8]) -> None:
        with writing(output_path(self.out, stem, ending)) as path:
            Image.fromarray(picture).save(path, compress_level=1)  # a fifth of the time


def map_bands(function: Callable[..., NDArray[Any]], *images: NDArray[Any]) -> NDArray[Any]:
    """Apply a function to bands of rows of images of one size, and put the results together."""
    height, width = images[0].shape[:2]
    rows = max(1, PIXELS_AT_ONCE // width)
    result: NDArray[Any] = np.empty(0)
    for top in range(0, height, rows):
        band = function(*(image[top : top + rows] for image in images))
        if top == 0:  # the result is never held twice
            result = np.empty((height, *band.shape[1:]), band.dtype)
        result[top : top + rows] = band
    return result
