"""Images as an attacker or an accident leaves them, by the number of a case."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SIZES = (0, 1, 2, 255, 30_000, 65_535, 2**31 - 1, 2**32 - 1)


def write_image(folder: Path, case: int) -> Path:
    """Write a changed image; its name tells the format, or another one."""
    rng = random.Random(case)
    suffix = rng.choice((".png", ".gif", ".bmp", ".jpg", ".webp", ".tif", ".npy"))
    data = _valid(suffix, rng)
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice((_size, _size, _bytes, _bytes, _cut, _repeated))(data, suffix, rng)
    if rng.random() < 0.1:
        suffix = rng.choice((".png", ".tif", ".npy", ".gif", ".jpg"))
    path = folder / f"case{suffix}"
    path.write_bytes(data)
    return path


def _valid(suffix: str, rng: random.Random) -> bytes:
    pixels = np.random.default_rng(rng.randrange(99)).integers(0, 3, (9, 11), np.uint8)
    stream = io.BytesIO()
    if suffix == ".npy":
        if rng.random() < 0.2:
            np.savez(stream, a=pixels, b=pixels)
        else:
            kinds = (pixels, pixels.astype(rng.choice("fdicmMSOU")), pixels[..., None, None])
            np.save(stream, rng.choice(kinds), allow_pickle=True)
    elif suffix == ".tif":
        options = rng.choice(
            ({}, {"photometric": "palette"}, {"compression": "zlib"}, {"tile": (16, 16)})
        )
        if "photometric" in options:
            options["colormap"] = np.zeros((3, 256), np.uint16)
        tifffile.imwrite(stream, pixels, **options)
    else:
        mode = rng.choice("LP1") if suffix != ".jpg" else rng.choice(("L", "RGB", "CMYK"))
        image = Image.fromarray(pixels).convert(mode if suffix != ".webp" else "RGB")
        exif = Image.Exif()
        exif[0x0112] = rng.choice((1, 6))
        options = {"exif": exif} if suffix in (".jpg", ".png", ".webp") else {}
        image.save(stream, {".jpg": "jpeg"}.get(suffix, suffix[1:]), **options)
    return stream.getvalue()


def _size(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """Declare another size in the header."""
    width, height = rng.choice(SIZES), rng.choice(SIZES)
    torn = bytearray(data)
    if suffix == ".png" and len(torn) > 33:
        torn[16:24] = struct.pack(">II", width, height)
        torn[29:33] = struct.pack(">I", zlib.crc32(bytes(torn[12:29])))
    elif suffix == ".gif" and len(torn) > 10:
        torn[6:10] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
        at = torn.find(b",", 10)
        if rng.random() < 0.5 and at > 0:
            torn[at + 5 : at + 9] = torn[6:10]
    elif suffix == ".bmp" and len(torn) > 26:
        torn[18:26] = struct.pack("<II", width, height)
    elif suffix == ".jpg" and (at := torn.find(b"\xff\xc0")) > 0:
        torn[at + 5 : at + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif suffix == ".tif":
        tag = struct.pack("<H", rng.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 320, 322)))
        at = torn.find(tag, 8)
        if at > 0:
            change = rng.choice((struct.pack("<I", width), None))
            torn[at + 8 : at + 12] = change if change else torn[at + 8 : at + 12]
            if change is None:
                torn[at : at + 2] = struct.pack("<H", 65000)
    elif suffix == ".npy":
        return data.replace(b"(9, 11)", b"(%d, %d)" % (width, height), 1)
    return bytes(torn)


def _bytes(data: bytes, suffix: str, rng: random.Random) -> bytes:
    torn = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        if torn:
            torn[rng.randrange(min(len(torn), rng.choice((40, 10**6))))] = rng.randrange(256)
    return bytes(torn)


def _cut(data: bytes, suffix: str, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _repeated(data: bytes, suffix: str, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start : start + 50] * rng.choice((2, 1000)) + data[start:]
