"""Finding the images and videos a user means, and reading them as training does."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import tifffile

from segkit.data.images import Pixels, read_image
from segkit.data.raster import ORIENTATION, SUFFIXES, TIFF_SUFFIXES
from segkit.errors import UserError
from segkit.inference.predictor import Predictor

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
MAGIC = "*?["  # makes a path a glob
T = TypeVar("T")


class Source(NamedTuple):
    """A file to predict.

    Args:
        path: of the file.
        stem: of its results, below their folder: the name without suffix, and for a file found in
            a folder the subfolders on the way to it.
    """

    path: Path
    stem: Path

    @property
    def is_video(self) -> bool:
        """Whether it holds more than one picture."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(inputs: Sequence[str], out: Path) -> list[Source]:
    """Find the files that are meant, each once, in the order given.

    Args:
        inputs: files, folders (all images and videos below) and globs, also with `**`.
        out: the folder of the results; what lies there is no input, unless named itself.

    Raises:
        UserError: nothing there for one of the inputs.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        sources = _sources_of(given, out)
        if not sources:
            raise UserError(
                f"{given}: no image or video there; known are {', '.join(SUFFIXES)} and "
                f"{', '.join(VIDEO_SUFFIXES)}"
            )
        for source in sources:
            found.setdefault(os.path.realpath(source.path), source)
    return list(found.values())


def _sources_of(given: str, out: Path) -> list[Source]:
    path = Path(given)
    if path.is_dir():
        return _below(path, path, out)
    if path.exists():
        return [Source(path, Path(path.stem))]
    if not any(sign in given for sign in MAGIC):
        raise UserError(f"there is no file or folder {given}")
    base = Path(*takewhile(lambda part: not any(s in part for s in MAGIC), path.parts))
    sources: list[Source] = []
    for match in sorted(glob.glob(given, recursive=True)):
        if Path(match).is_dir():
            # of `**`, folders match as well as all that they hold
            sources += [] if "**" in given else _below(Path(match), base, out)
        else:
            sources += _known([Path(match)], base, out)
    return sources


def _below(folder: Path, base: Path, out: Path) -> list[Source]:
    """Find all images and videos below a folder, except hidden ones."""
    paths: list[Path] = []
    for at, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(at, name) for name in sorted(names) if not name.startswith(".")]
    return _known(paths, base, out)


def _known(paths: Sequence[Path], base: Path, out: Path) -> list[Source]:
    """Keep what has a known suffix, and leave out the results of an earlier call."""
    results, top = out.absolute(), base.absolute()
    skip = results if results != top and results.is_relative_to(top) else None
    return [
        Source(path, path.relative_to(base).with_suffix(""))
        for path in paths
        if path.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES)
        and not (skip and path.absolute().is_relative_to(skip))
    ]


def read_sources(
    sources: Iterable[Source], predictor: Predictor
) -> Iterator[tuple[Source, Pixels | UserError | None]]:
    """Read images one after another; one that cannot be read gives its error, a video None."""
    for source in sources:
        try:
            yield source, None if source.is_video else read_pixels(source.path, predictor)
        except UserError as error:
            yield source, error


def read_pixels(path: Path, predictor: Predictor) -> Pixels:
    """Read an image as training read its own; map a plain TIFF instead, however large.

    Raises:
        UserError: not an image, cut short, or other channels or depth than the network takes.
    """
    config, card = predictor.config, predictor.card
    assert config is not None
    assert card is not None
    channels = config.model.in_channels
    if (
        path.suffix.lower() in TIFF_SUFFIXES
        and card.image_max is None
        and not config.data.eval_transforms
    ):
        mapped = _mapped(path, channels)
        if mapped is not None:
            return mapped
    return read_image(path, channels, card.image_max)


def _mapped(path: Path, channels: int) -> Pixels | None:
    """Map a TIFF whose bytes are the pixels `read_image` would give; None where they are not."""
    try:
        with tifffile.TiffFile(path) as file:
            page, series = file.pages.first, file.series[0]
            axes = "YXS" if channels > 1 else "YX"
            fits = (
                series.axes == axes
                and series.dtype == np.uint8
                and (channels == 1 or series.shape[2] == channels)
                and page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK)
                and (ORIENTATION not in page.tags or page.tags[ORIENTATION].value == 1)
            )
        # what is compressed cannot be mapped
        pixels = tifffile.memmap(path, mode="r") if fits else None
    except Exception:  # of many types; reading it as any other file tells what is wrong
        return None
    return pixels[..., None] if pixels is not None and pixels.ndim == 2 else pixels


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Compute the next item in a thread while the caller is busy with one."""
    end = object()
    remaining = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, remaining, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, remaining, end)
            yield item  # type: ignore[misc]
