"""Image files of all common formats as arrays, turned upright."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile

from segkit.errors import UserError
from segkit.files import require_file, walk

TIFF_SUFFIXES = (".tif", ".tiff")
LOSSLESS_SUFFIXES = (".png", ".bmp", ".gif", *TIFF_SUFFIXES, ".npy")
SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg", ".webp")
ORIENTATION = 0x0112  # the tag of EXIF and TIFF
EXIF_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # Pillow's, of PNG
MANY_PIXELS = 300_000_000  # more than WebP has, which holds one colour in no bytes at all
PIXELS_PER_BYTE = 10_000  # of one colour, as PNG of one bit compresses it best; others take more
MANY_STRIPS = 100_000  # that a TIFF may lack; each takes time
_LIMIT = threading.Lock()  # held where Pillow's limit is lifted
DEEP = ("I;16", "I;16B", "RGB;16B", "LA;16B", "RGBA;16B")  # PNG as Pillow decodes it


class Raster(NamedTuple):
    """The contents of an image file."""

    pixels: NDArray[Any]  # (H, W) or (H, W, C); palette indices where there is a palette
    palette: NDArray[np.uint8] | None = None  # RGB colours of the indices, (256, 3)
    lossy: bool = False  # the format may have changed single values


def read_raster(path: Path) -> Raster:
    """Read a file as it is, turned upright as its EXIF or TIFF tag says."""
    suffix = path.suffix.lower()
    with _user_errors(path):
        if suffix == ".npy":
            return Raster(np.array(_load_npy(path)))
        return _read_tiff(path) if suffix in TIFF_SUFFIXES else _read_pillow(path)


def raster_files(top: Path) -> Iterator[str]:
    """Yield the paths of all image files below a folder, relative to it, without hidden ones."""
    for folder, files in walk(top):
        below = os.path.relpath(folder, top)
        prefix = "" if below == "." else below.replace(os.sep, "/") + "/"
        for file in files:
            if not file.startswith(".") and file.lower().endswith(SUFFIXES):
                yield prefix + file


def raster_size(path: Path) -> tuple[int, int]:
    """Return (H, W) of the upright image from the file's header."""
    suffix = path.suffix.lower()
    with _user_errors(path):
        if suffix == ".npy":
            height, width = _load_npy(path).shape[:2]
            return int(height), int(width)
        if suffix in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                height, width = page.imagelength, page.imagewidth
                orientation = _tiff_orientation(page)
        else:
            with _opened(path) as image:
                width, height = image.size
                orientation = _orientation(image)
    return (width, height) if orientation >= 5 else (height, width)  # 5 to 8 swap the axes


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Open an image of any size: the user's own files are no attack.

    Pillow's limit is that of the process, so it is lifted for as long as Pillow looks at it.
    """
    with _LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        _check_declared(path, *image.size)
        yield image


def _check_declared(path: Path, width: int, height: int) -> None:
    """Refuse a size that the file is too short for, before memory is taken for it."""
    pixels, held = width * height, path.stat().st_size
    if pixels > MANY_PIXELS and pixels > PIXELS_PER_BYTE * held:
        raise UserError(
            f"{path}: declares {height}x{width} pixels (H x W), more than its {held:,} bytes can "
            "hold; replace the file or take it out of the set"
        )


def _load_npy(path: Path) -> NDArray[Any]:
    array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: holds several arrays, as .npz does; save one by numpy.save")
    if array.dtype.kind not in "buif":
        raise UserError(f"{path}: holds {array.dtype}; save it as numbers")
    if array.ndim not in (2, 3) or not array.size:
        raise UserError(f"{path}: has shape {array.shape}; save it as (H, W) or (H, W, C)")
    return array


def _read_pillow(path: Path) -> Raster:
    with _opened(path) as image:
        orientation = _orientation(image)
        # Pillow would cut the colours of a 16 bit PNG down to 8 bits
        if image.format == "PNG" and image.tile and image.tile[0].args in DEEP:
            pixels = _read_deep_png(path)
        else:
            image.load()
            pixels = _array(image)
        palette = None
        if image.mode == "P":
            palette = _filled(np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3))
        webp = image.format == "WEBP" and not _is_vp8l(path)
        return Raster(
            _upright(pixels, orientation), palette, webp or image.format in ("JPEG", "MPO")
        )


def _orientation(image: Image.Image) -> int:
    """Read the orientation from the header; Pillow would decode a whole PNG to look for it."""
    if image.format == "PNG" and not EXIF_KEYS & image.info.keys():
        return 1
    return int(image.getexif().get(ORIENTATION, 1))


def _array(image: Image.Image) -> NDArray[Any]:
    """Return the pixels of a loaded image; modes without a plain array become RGB."""
    if image.mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16", "I", "F"):
        array = np.array(image)
        return array.astype(np.uint8) if image.mode == "1" else array
    return np.array(image.convert("RGB"))


def _filled(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill a palette up to 256 colours, with black."""
    return np.pad(colors, ((0, 256 - len(colors)), (0, 0)))


def _read_deep_png(path: Path) -> NDArray[np.uint16]:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError("broken PNG file")
    if pixels.ndim == 3:
        code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        pixels = cv2.cvtColor(pixels, code)
    return pixels.astype(np.uint16, copy=False)


def _is_vp8l(path: Path) -> bool:
    """Whether WebP is lossless: look for its chunk (RFC 9649), which others may precede."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = head[:4], int.from_bytes(head[4:], "little")
            if name in (b"VP8L", b"VP8 "):
                return name == b"VP8L"
            file.seek(size + size % 2, 1)
    return False


def _read_tiff(path: Path) -> Raster:
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        if math.prod(page.chunked) > len(page.dataoffsets) + MANY_STRIPS:
            raise UserError(f"{path}: lacks most of its strips or tiles; save it again")
        series = file.series[0]
        pixels, axes = series.asarray(), series.axes
        orientation = _tiff_orientation(page)
        photometric, colormap = page.photometric, page.colormap
        lossy = page.compression in (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)
    if "Y" not in axes or "X" not in axes or pixels.ndim > 3:
        raise UserError(f"{path}: has axes {axes} of {pixels.shape}; save one image of (H, W, C)")
    if pixels.ndim == 3:  # bands may come first, or as pages
        pixels = np.moveaxis(pixels, (axes.index("Y"), axes.index("X")), (0, 1))
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
        pixels = (2**page.bitspersample - 1 - pixels).astype(pixels.dtype)
    palette = None
    if photometric == tifffile.PHOTOMETRIC.PALETTE and pixels.dtype == np.uint8:
        if colormap is None:
            raise UserError(f"{path}: says that it has a palette, and has none; save it again")
        palette = _filled((colormap.T >> 8)[:256].astype(np.uint8))
    return Raster(_upright(pixels, orientation), palette, lossy)


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo the orientation that EXIF 2.3 numbers 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


@contextmanager
def _user_errors(path: Path) -> Iterator[None]:
    """Report any failure: the bytes of a damaged file may lead a reader anywhere."""
    try:
        require_file(path)
        yield
    except UserError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise UserError(
                f"{path}: is compressed in a way that needs another package; pip install "
                "'segkit[tiff]'"
            ) from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{path}: cannot be read: {reason}; replace the file or take it out of the set"
        ) from error
