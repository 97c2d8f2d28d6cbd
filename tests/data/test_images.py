"""Images as the network wants them: channels and depth, against Pillow, tifffile and NumPy."""

import re

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from segkit.data.images import read_any, read_image
from segkit.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (9, 14, 3), dtype=np.uint16)


def save_tiff(path, pixels, layout="contiguous"):
    """Write (H, W, C) in one of the ways in which TIFF keeps bands."""
    if layout == "contiguous":
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    elif layout == "planar":
        bands = np.moveaxis(pixels, 2, 0)
        tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="separate")
    else:
        with tifffile.TiffWriter(path) as file:
            for band in np.moveaxis(pixels, 2, 0):
                file.write(np.ascontiguousarray(band), contiguous=True)


def save(path, pixels):
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        save_tiff(path, pixels)
    else:
        Image.fromarray(pixels).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


# 8 bits


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif", "npy"])
def test_8_bits_stay_as_they_are(tmp_path, suffix):
    read = read_image(save(tmp_path / f"image.{suffix}", PIXELS))
    assert read.dtype == np.uint8
    assert np.array_equal(read, PIXELS)


def test_jpeg_is_near_the_pixels(tmp_path):
    smooth = np.zeros((16, 24, 3), np.uint8) + np.arange(0, 240, 10, dtype=np.uint8)[:, None]
    Image.fromarray(smooth).save(tmp_path / "image.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "image.jpg").astype(int) - smooth).max() <= 6


def test_palette_images_read_as_their_colours(tmp_path):
    indices = PIXELS[..., 0] % 5
    image = Image.fromarray(indices)
    palette = RNG.integers(0, 256, (5, 3), dtype=np.uint8)
    image.putpalette(palette.ravel().tolist())
    for suffix in ("png", "tif", "gif"):
        image.save(tmp_path / f"image.{suffix}")
        assert np.array_equal(read_image(tmp_path / f"image.{suffix}"), palette[indices])


# Channels


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_alpha_is_kept_or_dropped_and_grey_goes_both_ways(tmp_path, suffix):
    rgba = RNG.integers(0, 256, (9, 14, 4), dtype=np.uint8)
    rgba[..., 3] |= 1  # WebP forgets the colour of what is transparent
    path = save(tmp_path / f"rgba.{suffix}", rgba)
    assert np.array_equal(read_image(path, 4), rgba)
    assert np.array_equal(read_image(path, 3), rgba[..., :3])
    assert read_image(path, 3).flags.c_contiguous
    luma = rgba[..., :3] @ [0.299, 0.587, 0.114]  # ITU-R 601
    grey = read_image(path, 1)
    assert grey.shape == (9, 14, 1)
    assert np.abs(grey[..., 0] - luma).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "npy"])
def test_grey_repeats_as_rgb(tmp_path, suffix):
    path = save(tmp_path / f"grey.{suffix}", PIXELS[..., 0])
    assert np.array_equal(read_image(path, 1), PIXELS[..., :1])
    assert np.array_equal(read_image(path, 3), np.repeat(PIXELS[..., :1], 3, 2))


def test_grey_with_alpha(tmp_path):
    Image.fromarray(PIXELS).convert("LA").save(tmp_path / "image.png")
    grey = np.array(Image.fromarray(PIXELS).convert("L"))
    assert np.array_equal(read_image(tmp_path / "image.png", 1)[..., 0], grey)
    assert np.array_equal(read_image(tmp_path / "image.png", 3), np.stack([grey] * 3, -1))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, np.float32, np.float64, ">u2"])
def test_rgb_of_any_type_becomes_grey(tmp_path, kind):
    np.save(tmp_path / "image.npy", PIXELS.astype(kind))
    white = None if kind == np.uint8 else 255
    grey = read_image(tmp_path / "image.npy", 1, white)[..., 0] * (1 if white is None else 255)
    assert np.abs(grey - PIXELS @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize("layout", ["contiguous", "planar", "pages"])
@pytest.mark.parametrize("channels", [2, 4, 5, 7])
def test_tiff_of_any_number_of_channels(tmp_path, channels, layout):
    bands = RNG.integers(0, 256, (9, 14, channels), dtype=np.uint8)
    save_tiff(tmp_path / "image.tif", bands, layout)
    assert np.array_equal(read_image(tmp_path / "image.tif", channels), bands)
    deep = RNG.integers(0, 4096, (9, 14, channels), dtype=np.uint16)
    save_tiff(tmp_path / "image.tif", deep, layout)
    read = read_image(tmp_path / "image.tif", channels, 4095)
    np.testing.assert_array_equal(read, deep.astype(np.float32) / np.float32(4095))


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 7])
def test_npy_of_any_number_of_channels(tmp_path, channels):
    bands = RNG.integers(0, 256, (9, 14, channels), dtype=np.uint8)
    assert np.array_equal(read_image(save(tmp_path / "image.npy", bands), channels), bands)


@pytest.mark.parametrize(
    ("suffix", "held", "wanted"),
    [("tif", 5, 3), ("tif", 4, 3), ("tif", 3, 4), ("npy", 4, 3), ("npy", 2, 1), ("npy", 1, 2),
     ("png", 3, 4), ("png", 3, 5), ("png", 4, 2)],
)  # fmt: skip
def test_other_channels_are_refused_with_shape_and_remedy(tmp_path, suffix, held, wanted):
    pixels = RNG.integers(0, 256, (9, 14, held), dtype=np.uint8)
    path = save(tmp_path / f"image.{suffix}", pixels)
    with pytest.raises(UserError) as error:
        read_image(path, wanted)
    for part in (
        f"{path}: has {held} channels",
        f"(9, 14, {held}) (H, W, C)",
        f"model.in_channels is {wanted}",
        f"set model.in_channels={held}",
    ):
        assert part in str(error.value)


def test_all_channels_are_read_where_none_is_asked_for(tmp_path):
    bands = RNG.integers(0, 256, (9, 14, 5), dtype=np.uint8)
    assert np.array_equal(read_image(save(tmp_path / "image.tif", bands), None), bands)


# Depth


@pytest.mark.parametrize("white", [65535, 4095.0])
@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_16_bits_keep_their_low_bits(tmp_path, suffix, white):
    path = tmp_path / f"image.{suffix}"
    if suffix == "png":
        cv2.imwrite(str(path), DEEP[..., ::-1])
    else:
        save(path, DEEP)
    read = read_image(path, 3, white)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(np.rint(read.astype(np.float64) * white), DEEP)


def test_16_bit_grey_png(tmp_path):
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "image.png")
    read = read_image(tmp_path / "image.png", 3, 65535)
    np.testing.assert_array_equal(np.rint(read * 65535.0), np.repeat(DEEP[..., :1], 3, 2))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_floats_are_shares_of_white(tmp_path, suffix, kind):
    pixels = RNG.random((9, 14, 2)).astype(kind)
    path = save(tmp_path / f"image.{suffix}", 40 * pixels)
    np.testing.assert_allclose(read_image(path, 2, 40), pixels, rtol=1e-6)


def test_8_bits_may_have_a_white_of_255(tmp_path):
    path = save(tmp_path / "image.png", PIXELS)
    np.testing.assert_array_equal(read_image(path, 3, 255), PIXELS / np.float32(255))


@pytest.mark.parametrize(
    ("pixels", "guess"),
    [
        (np.full((4, 4), 200, np.uint16), 255),
        (np.full((4, 4), 1000, np.uint16), 1023),
        (np.full((4, 4), 1024, np.uint16), 4095),
        (np.full((4, 4), 4095, np.uint16), 4095),
        (np.full((4, 4), 4096, np.uint16), 16383),
        (np.full((4, 4), 65535, np.uint16), 65535),
        (np.full((4, 4), 0.5, np.float32), 1),
        (np.full((4, 4), 300.0, np.float32), 1023),
        (np.full((4, 4), 2**20), 2**20),
    ],
)
def test_depth_needs_a_white_and_one_is_proposed(tmp_path, pixels, guess):
    path = save(tmp_path / "image.npy", pixels)
    with pytest.raises(UserError) as error:
        read_image(path, 1)
    highest = f"{pixels.dtype} pixels up to {pixels.max():g}"
    for part in (f"{path}: has {highest}", f"image_max: {guess:g}"):
        assert part in str(error.value)
    white = float(re.search(r"image_max: (\S+)", str(error.value)).group(1))
    assert 0 < read_image(path, 1, white).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_files_are_not_clipped_in_silence(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(path)
    with pytest.raises(UserError, match=rf"image\.{suffix}: has uint16 .*image_max: 1023"):
        read_image(path)


def test_8_bit_files_in_a_deep_set_are_refused(tmp_path):
    path = save(tmp_path / "image.png", PIXELS)
    with pytest.raises(UserError, match=r"image\.png: has 8 bits .* image_max is 4095;"):
        read_image(path, 3, 4095)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_number_are_refused(tmp_path, value):
    pixels = np.ones((9, 14), np.float32)
    pixels[3, 4] = value
    with pytest.raises(UserError, match=r"image\.npy: holds pixels that are NaN or infinite"):
        read_image(save(tmp_path / "image.npy", pixels), 1, 1.0)


@pytest.mark.parametrize(
    ("suffix", "pixels", "white"),
    [
        (".png", PIXELS, None),
        (".tif", DEEP, 65535),
        (".npy", DEEP // 16, 4095),
        (".npy", PIXELS[..., 0] / np.float32(255), 1),
    ],
)
def test_an_image_of_any_depth_is_read_without_being_told_of_it(tmp_path, suffix, pixels, white):
    found = read_any(save(tmp_path / f"image{suffix}", pixels))
    expected = pixels if white is None else pixels / np.float32(white)
    assert found.dtype == (np.uint8 if white is None else np.float32)
    np.testing.assert_allclose(found, expected.reshape(9, 14, -1), atol=1e-6)
