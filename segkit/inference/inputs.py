"""Find the images and videos that a user names, and read them as training does."""

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
from segkit.files import walk
from segkit.inference.preprocess import Preprocess

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
MAGIC = "*?["  # makes a path a glob
T = TypeVar("T")


class Source(NamedTuple):
    """A file to predict, and the stem of its results with the subfolders it was found in."""

    path: Path
    stem: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(inputs: Sequence[str], out: Path) -> list[Source]:
    """Find the files that inputs name, each once, in the order given.

    Args:
        inputs: files, folders (all images and videos below) and globs, also with `**`.
        out: the folder of the results; files in it are inputs only if named themselves.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        sources = _sources_of(given, out)
        if not sources:
            known = f"{', '.join(SUFFIXES)} and {', '.join(VIDEO_SUFFIXES)}"
            raise UserError(f"{given}: no image or video there; known are {known}")
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
    if ".." in path.parts[len(base.parts) :]:
        raise UserError(
            f"{given}: '..' behind a wildcard leads out of the folders that it matches, and "
            "results keep their names; write the path without it"
        )
    sources: list[Source] = []
    for match in map(Path, sorted(glob.glob(given, recursive=True))):
        if not match.is_dir():
            sources += _known([match], base, out)
        elif "**" not in given:  # which matches folders as well as their content
            sources += _below(match, base, out)
    return sources


def _below(folder: Path, base: Path, out: Path) -> list[Source]:
    """Find all images and videos below a folder, except hidden ones."""
    paths: list[Path] = []
    for at, names in walk(folder):
        paths += [Path(at, name) for name in sorted(names) if not name.startswith(".")]
    return _known(paths, base, out)


def _known(paths: Sequence[Path], base: Path, out: Path) -> list[Source]:
    """Keep files with a known suffix, except the results of an earlier call."""
    results, top = out.absolute(), base.absolute()
    skip = results if results != top and results.is_relative_to(top) else None
    return [
        Source(path, path.relative_to(base).with_suffix(""))
        for path in paths
        if path.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES)
        and not (skip and path.absolute().is_relative_to(skip))
    ]


def read_sources(
    sources: Iterable[Source], preprocess: Preprocess
) -> Iterator[tuple[Source, Pixels | UserError | None]]:
    """Yield each source with its pixels, with the error of reading it, or with None (a video)."""
    for source in sources:
        try:
            yield source, None if source.is_video else read_pixels(source.path, preprocess)
        except UserError as error:
            yield source, error


def read_pixels(path: Path, preprocess: Preprocess) -> Pixels:
    """Read an image as training read its own; map a plain TIFF instead, however large."""
    plain = preprocess.white is None and not preprocess.specs
    mappable = plain and path.suffix.lower() in TIFF_SUFFIXES
    mapped = _mapped(path, preprocess.channels) if mappable else None
    if mapped is not None:
        return mapped
    return read_image(path, preprocess.channels, preprocess.white)


def _mapped(path: Path, channels: int | None) -> Pixels | None:
    """Map a TIFF whose bytes are the pixels that `read_image` returns; None for other TIFFs."""
    try:
        with tifffile.TiffFile(path) as file:
            page, series = file.pages.first, file.series[0]
            held = 1 if series.axes == "YX" else series.shape[-1]
            fits = (
                series.axes in ("YXS", "YX")
                and series.dtype == np.uint8
                and channels in (None, held)
                and page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK)
                and (ORIENTATION not in page.tags or page.tags[ORIENTATION].value == 1)
            )
        # what is compressed cannot be mapped
        pixels = tifffile.memmap(path, mode="r") if fits else None
    except Exception:  # of many types; reading it like any other file reports what is wrong
        return None
    return pixels[..., None] if pixels is not None and pixels.ndim == 2 else pixels


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items; a thread computes the next one while the caller uses the last."""
    end = object()
    remaining = iter(items)
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, remaining, end)
        while (item := upcoming.result()) is not end:
            upcoming = pool.submit(next, remaining, end)
            yield item  # type: ignore[misc]
