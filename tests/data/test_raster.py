"""Files of every format as arrays, against Pillow, tifffile, NumPy and bytes written by hand."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from segkit.data.raster import SUFFIXES, raster_size, read_raster
from segkit.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (9, 14, 3), dtype=np.uint16)


def save(path, pixels, **options):
    if path.suffix.lower() == ".npy":
        np.save(path, pixels)
    else:
        lossless = {"lossless": True} if path.suffix.lower() == ".webp" else {}
        Image.fromarray(pixels).save(path, **lossless, **options)
    return path


def write_png(path, rows, bits, color_type):
    """Write a PNG as its specification has it; Pillow and OpenCV do not write every kind."""
    height, width = rows.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


# Formats


LOSSLESS = ["png", "PNG", "bmp", "Bmp", "tif", "TIFF", "npy", "NPY"]


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [*((s, PIXELS) for s in (*LOSSLESS, "webp")), *((s, PIXELS[..., 0]) for s in LOSSLESS)],
)
def test_lossless_formats_equal_the_pixels(tmp_path, suffix, pixels):
    path = tmp_path / f"image.{suffix}"
    if suffix == "NPY":  # np.save would put a second suffix behind
        np.save(tmp_path / "image", pixels)
        (tmp_path / "image.npy").rename(path)
    else:
        save(path, pixels)
    raster = read_raster(path)
    assert np.array_equal(raster.pixels, pixels)
    assert raster.pixels.dtype == np.uint8
    assert not raster.lossy
    assert raster_size(path) == (9, 14)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_jpeg_is_as_pillow_reads_it(tmp_path, suffix):
    path = save(tmp_path / f"image.{suffix}", PIXELS)
    raster = read_raster(path)
    assert np.array_equal(raster.pixels, np.array(Image.open(path)))
    assert raster.lossy
    assert raster_size(path) == (9, 14)


@pytest.mark.parametrize(
    ("channels", "color_type"), [(1, 0), (3, 2), (4, 6)], ids=["grey", "RGB", "RGBA"]
)
def test_16_bit_png_keeps_its_low_bits(tmp_path, channels, color_type):
    deep = RNG.integers(0, 65536, (9, 14, channels), dtype=np.uint16)
    write_png(tmp_path / "image.png", deep.astype(">u2"), 16, color_type)
    pixels = read_raster(tmp_path / "image.png").pixels
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels.reshape(deep.shape), deep)


def test_16_bit_grey_png_with_alpha_keeps_its_low_bits(tmp_path):
    deep = RNG.integers(0, 65536, (9, 14, 2), dtype=np.uint16)
    write_png(tmp_path / "image.png", deep.astype(">u2"), 16, 4)
    pixels = read_raster(tmp_path / "image.png").pixels
    assert np.array_equal(pixels[..., 0], deep[..., 0])
    assert np.array_equal(pixels[..., -1], deep[..., 1])


def test_16_bit_png_of_opencv(tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), DEEP[..., ::-1])
    assert np.array_equal(read_raster(tmp_path / "image.png").pixels, DEEP)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_one_bit_is_0_and_1(tmp_path, suffix):
    bits = PIXELS[..., 0] > 100
    Image.fromarray(bits).save(tmp_path / f"image.{suffix}")
    raster = read_raster(tmp_path / f"image.{suffix}")
    values = raster.pixels if raster.palette is None else raster.palette[raster.pixels][..., 0] > 0
    assert np.array_equal(values, bits)
    assert raster.pixels.dtype == np.uint8


@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "bmp"])
def test_a_palette_comes_apart_from_its_indices(tmp_path, suffix):
    indices = PIXELS[..., 0] % 5
    palette = RNG.integers(0, 256, (5, 3), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / f"image.{suffix}")
    raster = read_raster(tmp_path / f"image.{suffix}")
    assert np.array_equal(raster.pixels, indices)
    assert np.array_equal(raster.palette[:5], palette)
    assert raster.palette.shape == (256, 3)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_modes_without_rgb_become_rgb(tmp_path, mode):
    path = tmp_path / "image.jpg"
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert np.array_equal(read_raster(path).pixels, np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("extended", [True, False])
def test_webp_is_lossy_or_not_as_it_says(tmp_path, lossless, extended):
    exif = Image.Exif()
    exif[0x010E] = "a description" * (100 if extended else 0)
    options = {"exif": exif} if extended else {}  # puts a chunk before the pixels
    path = tmp_path / "image.webp"
    Image.fromarray(PIXELS).save(path, lossless=lossless, **options)
    assert (b"VP8X" in path.read_bytes()[:16]) == extended
    assert read_raster(path).lossy != lossless


def test_webp_with_a_colour_profile_is_lossless_too(tmp_path):
    path = tmp_path / "image.webp"
    Image.fromarray(PIXELS).save(path, lossless=True, icc_profile=bytes(9001))
    assert not read_raster(path).lossy


# TIFF

LAYOUTS = {
    "contiguous": ((9, 14, 5), {"planarconfig": "contig"}, 2),
    "planar": ((5, 9, 14), {"planarconfig": "separate"}, 0),
    "pages": ((5, 9, 14), {}, 0),
    "pages without a description": ((5, 9, 14), {"metadata": None}, 0),
    "two contiguous": ((9, 14, 2), {"planarconfig": "contig"}, 2),
    "tiles": ((40, 56, 4), {"planarconfig": "contig", "tile": (16, 16)}, 2),
    "big-endian": ((9, 14, 4), {"planarconfig": "contig", "byteorder": ">"}, 2),
}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("shape", "options", "axis"), LAYOUTS.values(), ids=LAYOUTS)
def test_bands_of_a_tiff_come_last(tmp_path, shape, options, axis, kind):
    bands = (1000 * RNG.random(shape)).astype(kind)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, bands, photometric="minisblack", **options)
    pixels = read_raster(path).pixels
    expected = np.moveaxis(bands, axis, 2)
    assert pixels.dtype == kind
    assert np.array_equal(pixels, expected)
    assert raster_size(path) == expected.shape[:2]


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd"])
@pytest.mark.parametrize("pixels", [PIXELS, DEEP], ids=["8 bit", "16 bit"])
def test_compressed_tiff(tmp_path, compression, pixels):
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "image.tif", pixels, compression=compression, predictor=False)
    raster = read_raster(tmp_path / "image.tif")
    assert np.array_equal(raster.pixels, pixels)
    assert not raster.lossy


def test_a_tiff_of_jpeg_is_lossy(tmp_path):
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((32, 32), np.uint8), compression="jpeg")
    assert read_raster(tmp_path / "image.tif").lossy


def test_a_codec_that_is_missing_is_named_with_the_remedy(tmp_path, monkeypatch):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, PIXELS)

    def lack(*_args, **_options):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lack)
    with pytest.raises(UserError, match=r"image\.tif: .*pip install 'segkit\[tiff\]'"):
        read_raster(path)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.bool_])
def test_white_may_be_zero_in_a_tiff(tmp_path, kind):
    values = (PIXELS[..., 0] % 2).astype(kind)
    top = np.iinfo(kind).max if kind != np.bool_ else 1
    stored = ~values if kind == np.bool_ else (top - values).astype(kind)
    tifffile.imwrite(tmp_path / "image.tif", stored, photometric="miniswhite")
    assert np.array_equal(read_raster(tmp_path / "image.tif").pixels, values)


def test_a_tiff_of_too_many_dimensions_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((4, 3, 9, 14), np.uint8), photometric="rgb")
    with pytest.raises(UserError, match=r"image\.tif: has axes .*save one image of \(H, W, C\)"):
        read_raster(tmp_path / "image.tif")


# NPY


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.int64, np.float32, ">u2"])
def test_npy_is_what_numpy_reads(tmp_path, kind):
    pixels = (PIXELS % 2).astype(kind)
    np.save(tmp_path / "image.npy", pixels)
    read = read_raster(tmp_path / "image.npy").pixels
    assert np.array_equal(read, pixels)
    assert read.flags.writeable


@pytest.mark.parametrize("shape", [(), (9,), (1, 9, 14, 3), (0, 14)])
def test_npy_of_another_shape_is_refused(tmp_path, shape):
    np.save(tmp_path / "image.npy", np.zeros(shape, np.uint8))
    for reader in (read_raster, raster_size):
        with pytest.raises(UserError, match=r"image\.npy: has shape .*save it as \(H, W\)"):
            reader(tmp_path / "image.npy")


@pytest.mark.parametrize("kind", ["U3", "datetime64[s]", complex, [("x", "u1")]])
def test_npy_without_plain_numbers_is_refused(tmp_path, kind):
    np.save(tmp_path / "image.npy", np.zeros((9, 14), kind))
    with pytest.raises(UserError, match=r"image\.npy: holds .*; save it as numbers"):
        read_raster(tmp_path / "image.npy")


def test_npy_runs_no_code(tmp_path):
    np.save(tmp_path / "image.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"image\.npy: cannot be read"):
        read_raster(tmp_path / "image.npy")


# Orientation: of EXIF -> what turns the stored pixels upright (TIFF 6.0, tag 274)

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_exif_rotation_is_applied_to_pixels_and_size(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"image.{suffix}", PIXELS, exif=exif)
    upright = UPRIGHT[orientation](PIXELS)
    assert np.array_equal(read_raster(path).pixels, upright)
    assert raster_size(path) == upright.shape[:2]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_rotated_jpeg_is_as_pillow_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "image.jpg", PIXELS, exif=exif)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(read_raster(path).pixels, expected)
    assert raster_size(path) == expected.shape[:2]


@pytest.mark.parametrize("orientation", [3, 6])
def test_deep_files_of_many_bands_are_turned_too(tmp_path, orientation):
    bands = RNG.integers(0, 65536, (9, 14, 5), dtype=np.uint16)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="contig",
                     extratags=[(274, "H", 1, orientation, True)])  # fmt: skip
    upright = UPRIGHT[orientation](bands)
    assert np.array_equal(read_raster(path).pixels, upright)
    assert raster_size(path) == upright.shape[:2]


def test_a_16_bit_png_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = DEEP[..., 0]
    path = save(tmp_path / "image.png", deep, exif=exif)
    assert np.array_equal(read_raster(path).pixels, np.rot90(deep, -1))


# Broken files


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def scramble(path):
    data = bytearray(path.read_bytes())
    data[12:40] = b"\xa5" * 28
    path.write_bytes(bytes(data))


BROKEN = {
    "cut": cut,
    "scrambled": scramble,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", BROKEN)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "npy"])
def test_a_broken_file_is_one_sentence_with_its_name(tmp_path, suffix, damage):
    path = tmp_path / f"image.{suffix}"
    save(path, RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    BROKEN[damage](path)
    header_only = suffix != "npy" and damage in ("cut", "scrambled")
    for reader in [read_raster] + ([] if header_only else [raster_size]):
        with pytest.raises(UserError) as error:
            reader(path)
        assert str(path) in str(error.value)
        assert "replace the file or take it out" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["empty", "text", "missing"])
def test_a_broken_tiff_is_one_sentence_with_its_name(tmp_path, damage):
    path = save(tmp_path / "image.tif", PIXELS)
    BROKEN[damage](path)
    for reader in (read_raster, raster_size):
        with pytest.raises(UserError, match=r"image\.tif: cannot be read"):
            reader(path)


LONG = [pytest.param(suffix, marks=pytest.mark.slow) for suffix in ("gif", "bmp")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", *LONG, "npy"])
def test_no_damage_brings_another_exception(tmp_path, suffix):
    rng = np.random.default_rng(1)
    path = tmp_path / f"image.{suffix}"
    save(path, rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    whole = path.read_bytes()
    for trial in range(60):
        data = bytearray(whole[: rng.integers(0, len(whole))] if trial % 2 else whole)
        for position in rng.integers(0, 200, 8 * (trial % 2 == 0)):
            data[position] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        for reader in (read_raster, raster_size):
            try:
                reader(path)
            except UserError as error:
                assert str(path) in str(error)  # noqa: PT017


def test_every_suffix_is_one_that_is_read(tmp_path):
    for suffix in SUFFIXES:
        path = save(tmp_path / f"image{suffix}", PIXELS)
        assert read_raster(path).pixels.shape[:2] == (9, 14)
