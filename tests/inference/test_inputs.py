"""Which files are meant, and that they are read as training reads them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segkit.data.images import read_image
from segkit.errors import UserError
from segkit.inference.inputs import find_sources, read_ahead, read_pixels
from segkit.inference.preprocess import Preprocess


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tree of files, seen from its top."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("in/a.png", "in/B.JPG", "in/v1.0.tif", "in/notes.txt", "in/.hidden.png"),
        *("in/sub/a.png", "in/sub/clip.MP4", "in/.git/x.png", "in/[1].png"),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return Path("in")


def found(*inputs, out="out"):
    return [(str(path), str(stem)) for path, stem in find_sources(inputs, Path(out))]


def test_a_folder_gives_all_below_it_with_its_subfolders(folder):
    assert found("in") == [
        ("in/B.JPG", "B"),
        ("in/[1].png", "[1]"),
        ("in/a.png", "a"),
        ("in/v1.0.tif", "v1.0"),
        ("in/sub/a.png", "sub/a"),
        ("in/sub/clip.MP4", "sub/clip"),
    ]


def test_a_file_stands_for_itself_whatever_its_name(folder):
    assert found("in/sub/a.png", "in/notes.txt", "in/[1].png") == [
        ("in/sub/a.png", "a"),
        ("in/notes.txt", "notes"),
        ("in/[1].png", "[1]"),
    ]


def test_globs(folder):
    assert found("in/*.png") == [("in/[1].png", "[1]"), ("in/a.png", "a")]
    assert found("in/**/*.png") == [
        ("in/[1].png", "[1]"),
        ("in/a.png", "a"),
        ("in/sub/a.png", "sub/a"),
    ]
    assert found("in/**") == found("in/**/*")
    assert len(found("in/**")) == 6
    assert ("in/sub/clip.MP4", "sub/clip") in found("in/*")
    assert ("in/.hidden.png", ".hidden") not in found("in/*")
    assert found(str(folder.absolute() / "s?b/a*"))[0][1] == "sub/a"


def test_a_file_meant_twice_is_predicted_once(folder):
    assert len(found("in", "in/sub", "in/a.png", "in/**/*.png")) == 6
    assert found("in/sub", "in")[0] == ("in/sub/a.png", "a")


@pytest.mark.parametrize("given", ["in/none.png", "in/*.bmp", "nowhere", "empty", "in/notes*"])
def test_nothing_found_is_told(given, folder):
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"there is no file or folder|no image or video there"):
        found("in", given)


def test_results_within_a_folder_are_no_inputs(folder):
    Path("in/out").mkdir()
    Path("in/out/a.png").touch()
    for given in ("in", "in/**", "in/*"):
        for out in ("in/out", folder.absolute() / "out"):
            assert len(found(given, out=out)) == 6
            assert ("in/out/a.png", "out/a") not in found(given, out=out)
            assert found("in/out", out=out) == [("in/out/a.png", "a")]


@pytest.mark.parametrize("given", ["in/*/../a.png", "in/*/../../c.png", "in/**/..", "s?b/.."])
def test_no_glob_leads_out_of_what_it_matches(given, folder):
    Path("c.png").touch()
    with pytest.raises(UserError, match=r"'\.\.' behind a wildcard leads out"):
        found(given)


def test_dots_before_a_wildcard_are_the_users(folder, monkeypatch):
    monkeypatch.chdir("in/sub")
    assert found("../*.png") == [("../[1].png", "[1]"), ("../a.png", "a")]
    assert found("../sub/../a.png") == [("../sub/../a.png", "a")]
    assert found("../sub/..")[0] == ("../sub/../B.JPG", "B")


RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (50, 40, 3), np.uint8)


def test_a_plain_tiff_is_mapped(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb")
    pixels = read_pixels(path, Preprocess(3))
    assert isinstance(pixels, np.memmap)
    assert (pixels == read_image(path)).all()
    tifffile.imwrite(path, RGB[..., 0], photometric="minisblack")
    pixels = read_pixels(path, Preprocess(1))
    assert isinstance(pixels, np.memmap)
    assert (pixels == read_image(path, 1)).all()
    four = np.concatenate([RGB, RGB[..., :1]], -1)
    tifffile.imwrite(path, four, photometric="rgb", extrasamples=["unspecified"])
    pixels = read_pixels(path, Preprocess(4))
    assert isinstance(pixels, np.memmap)
    assert (pixels == read_image(path, 4)).all()


def test_other_tiffs_are_read(tmp_path):
    path = tmp_path / "a.tif"
    colors = np.zeros((3, 256), np.uint16)
    colors[0] = 257 * np.arange(256)
    bilevel = {"photometric": "minisblack"}
    turned = {"photometric": "rgb", "extratags": [(274, "H", 1, 6, True)]}
    for pixels, options, channels, white in (
        (RGB, {"photometric": "rgb", "compression": "zlib"}, 3, None),
        (RGB, {"photometric": "rgb", "compression": "zlib", "predictor": 2}, 3, None),
        (RGB, turned, 3, None),
        (RGB[..., 0], {"photometric": "palette", "colormap": colors}, 3, None),
        (RGB[..., 0], {"photometric": "miniswhite"}, 1, None),
        (RGB[..., 0], {"photometric": "minisblack"}, 3, None),  # grey becomes RGB
        (RGB, {"photometric": "rgb"}, 1, None),
        (RGB.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, 3, None),
        (RGB[..., 0] > 99, bilevel, 1, None),
        (RGB.astype(np.uint16), {"photometric": "rgb"}, 3, 255.0),
    ):
        tifffile.imwrite(path, pixels, **options)
        found = read_pixels(path, Preprocess(channels, white))
        assert not isinstance(found, np.memmap)
        assert (found == read_image(path, channels, white)).all()
    tifffile.imwrite(path, RGB, photometric="rgb")
    transforms = ({"CLAHE": {"p": 1.0}},)
    assert not isinstance(read_pixels(path, Preprocess(3, transforms=transforms)), np.memmap)


def test_images_are_read_as_in_training(tmp_path):
    turned = Image.fromarray(RGB)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_pixels(tmp_path / "turned.jpg", Preprocess(3)).shape == (40, 50, 3)
    Image.fromarray(RGB).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(RGB[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([RGB, RGB[..., :1]])).save(tmp_path / "alpha.png")
    np.save(tmp_path / "deep.npy", RGB.astype(np.uint16) * 16)
    for name, channels, white in (
        ("turned.jpg", 3, None),
        ("palette.png", 3, None),
        ("grey.png", 3, None),
        ("grey.png", 1, None),
        ("alpha.png", 3, None),
        ("deep.npy", 3, 4095.0),
    ):
        found = read_pixels(tmp_path / name, Preprocess(channels, white))
        assert (found == read_image(tmp_path / name, channels, white)).all()


def test_a_damaged_tiff_is_told(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(UserError, match=r"a\.tif: cannot be read"):
        read_pixels(tmp_path / "a.tif", Preprocess(3))


def test_reading_ahead_keeps_order_and_is_one_ahead():
    made = []

    def items():
        for number in range(5):
            made.append(number)
            yield number

    for number in read_ahead(items()):
        assert len(made) <= number + 2
    assert made == list(range(5))
    assert list(read_ahead([])) == []


def test_an_error_while_reading_ahead_comes_in_its_turn():
    def items():
        yield 1
        raise ZeroDivisionError

    remaining = read_ahead(items())
    assert next(remaining) == 1
    with pytest.raises(ZeroDivisionError):
        next(remaining)
