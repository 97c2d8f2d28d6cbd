"""Image files that are not what their header or their name says."""

import contextlib
import struct

import numpy as np
import pytest
import tifffile
from attack.corpus_images import write_image
from memory import peak_kb
from PIL import Image

from segkit.data.raster import raster_size, read_raster
from segkit.errors import UserError

SMALL = np.zeros((5, 5), np.uint8)


def declared(tmp_path, suffix, at, size):
    """A file of 5x5 pixels whose header has another size."""
    path = tmp_path / f"image{suffix}"
    Image.fromarray(SMALL).save(path)
    data = bytearray(path.read_bytes())
    data[at : at + len(size)] = size
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("suffix", "at", "size"),
    [
        (".gif", 6, struct.pack("<HH", 30_000, 30_000)),
        (".bmp", 18, struct.pack("<II", 40_000, 9_000)),
    ],
)
def test_a_size_that_the_file_cannot_hold_is_refused_before_decoding(tmp_path, suffix, at, size):
    path = declared(tmp_path, suffix, at, size)
    before = peak_kb()
    for reader in (read_raster, raster_size):
        with pytest.raises(UserError, match=r"declares \d+x\d+ pixels \(H x W\), more than its"):
            reader(path)
    assert peak_kb() - before < 100_000  # kB


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_one_colour_compresses_as_well_as_it_can(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    Image.new("1" if suffix == ".png" else "L", (4000, 3000)).save(path)
    assert raster_size(path) == (3000, 4000)
    assert not read_raster(path).pixels.any()


def test_a_tiff_that_lacks_its_palette_is_told(tmp_path):
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, SMALL, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    tag = struct.pack("<HH", 320, 3)  # ColorMap, of short numbers
    path.write_bytes(path.read_bytes().replace(tag, struct.pack("<HH", 65_000, 3)))
    with pytest.raises(UserError, match="says that it has a palette, and has none"):
        read_raster(path)


def test_several_arrays_under_the_name_of_one_are_told(tmp_path):
    np.savez(tmp_path / "image.npz", a=SMALL, b=SMALL)
    path = (tmp_path / "image.npz").rename(tmp_path / "image.npy")
    for reader in (read_raster, raster_size):
        with pytest.raises(UserError, match=r"image\.npy: holds several arrays, as \.npz does"):
            reader(path)


def test_a_tiff_of_a_million_missing_strips_is_refused(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, SMALL)
    data = bytearray(path.read_bytes())
    at = data.index(
        struct.pack("<HH", 257, 4)
        if struct.pack("<HH", 257, 4) in data
        else struct.pack("<HH", 257, 3)
    )
    data[at : at + 12] = struct.pack("<HHII", 257, 4, 1, 2**31)  # ImageLength
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_raster(path)
    rows = data.index(struct.pack("<H", 278), 8)
    data[rows : rows + 12] = struct.pack("<HHII", 278, 4, 1, 1)  # RowsPerStrip
    path.write_bytes(data)
    with pytest.raises(UserError, match="lacks most of its strips"):
        read_raster(path)


@pytest.mark.filterwarnings("ignore")
def test_changed_images_are_read_or_told(tmp_path):
    for case in range(200):
        path = write_image(tmp_path, case)
        for reader in (read_raster, raster_size):
            with contextlib.suppress(UserError):
                reader(path)
        path.unlink()
