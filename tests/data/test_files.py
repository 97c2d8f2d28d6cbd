"""Reading images and masks in every encoding, and pairing them, against Pillow and NumPy."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from segkit.data.card import Card
from segkit.data.files import image_size, pair_files, read_image, read_mask
from segkit.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 5, (9, 14), dtype=np.uint8)


# Masks


def save_mask(path, encoding, labels=LABELS):
    image = Image.fromarray(labels)
    if encoding == "palette":
        # colours whose grey values and channels are all different from the indices
        image.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200, 250, 250, 0, 90, 90, 90])
    elif encoding == "16 bit":
        image = Image.fromarray(labels.astype(np.uint16))
    elif encoding == "1 bit":
        image = Image.fromarray(labels > 0)
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("encoding", "mode"), [("grey", "L"), ("palette", "P"), ("16 bit", "I;16")]
)
def test_one_mask_in_every_encoding_reads_the_same(tmp_path, encoding, mode):
    path = save_mask(tmp_path / "mask.png", encoding)
    with Image.open(path) as image:
        assert image.mode == mode
    assert np.array_equal(read_mask(path), LABELS)


def test_a_one_bit_mask_reads_as_0_and_1(tmp_path):
    path = save_mask(tmp_path / "mask.png", "1 bit")
    with Image.open(path) as image:
        assert image.mode == "1"
    assert np.array_equal(read_mask(path), (LABELS > 0).astype(np.uint8))


@pytest.mark.parametrize(("bits", "colors"), [(1, 2), (2, 4), (4, 16)])
def test_packed_palettes_read_as_indices(tmp_path, bits, colors):
    labels = (np.arange(9 * 14) % colors).astype(np.uint8).reshape(9, 14)
    image = Image.fromarray(labels)
    image.putpalette(RNG.integers(0, 256, 3 * colors).tolist())
    image.save(tmp_path / "mask.png", bits=bits)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), labels)


def test_16_bit_values_are_kept(tmp_path):
    labels = np.array([[0, 255, 256], [1000, 40000, 65535]], np.uint16)
    Image.fromarray(labels).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_colours_is_refused(tmp_path, mode):
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "mask.png")
    with pytest.raises(UserError) as error:
        read_mask(tmp_path / "mask.png")
    for part in (str(tmp_path / "mask.png"), f"mode {mode}", "grey or palette PNG"):
        assert part in str(error.value)


# Images


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "tiff", "webp"])
def test_lossless_formats_equal_the_pixels(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(PIXELS).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_image(path), PIXELS)
    assert image_size(path) == (9, 14)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_jpeg_is_near_the_pixels(tmp_path, suffix):
    smooth = np.zeros((16, 24, 3), np.uint8) + np.arange(0, 240, 10, dtype=np.uint8)[:, None]
    Image.fromarray(smooth).save(tmp_path / f"image.{suffix}", quality=98)
    assert np.abs(read_image(tmp_path / f"image.{suffix}").astype(int) - smooth).max() <= 6


def test_channels_are_what_the_model_asks_for(tmp_path):
    rgba = RNG.integers(0, 256, (9, 14, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "rgba.png", 4), rgba)
    assert np.array_equal(read_image(tmp_path / "rgba.png", 3), rgba[..., :3])
    assert np.array_equal(read_image(tmp_path / "grey.png", 1), rgba[..., :1])
    assert np.array_equal(read_image(tmp_path / "grey.png", 3), np.repeat(rgba[..., :1], 3, 2))
    red, green, blue = (rgba[..., i].astype(float) for i in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R 601
    grey = read_image(tmp_path / "rgba.png", 1)
    assert grey.shape == (9, 14, 1)
    assert np.abs(grey[..., 0] - luma).max() <= 1


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_other_numbers_of_channels_are_refused(tmp_path, channels):
    with pytest.raises(UserError, match=rf"1, 3 or 4 channels.*model\.in_channels is {channels}"):
        read_image(tmp_path / "image.png", channels)


def test_palette_images_read_as_their_colours(tmp_path):
    image = Image.fromarray(LABELS)
    palette = RNG.integers(0, 256, (5, 3), dtype=np.uint8)
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), palette[LABELS])


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_deep_images_are_not_clipped_in_silence(tmp_path, kind):
    path = tmp_path / "image.tif"
    Image.fromarray(np.full((4, 4), 1000, kind)).save(path)
    with pytest.raises(UserError, match=r"image\.tif.*convert it to 8 bits"):
        read_image(path)


# EXIF orientation -> what turns the stored pixels upright (TIFF 6.0, tag 274)
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
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(PIXELS).save(path, exif=exif, **options)
    upright = UPRIGHT[orientation](PIXELS)
    assert np.array_equal(read_image(path), upright)
    assert image_size(path) == upright.shape[:2]


def test_a_rotated_jpeg_is_as_pillow_turns_it(tmp_path):
    path = tmp_path / "image.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    with Image.open(path) as image:
        assert np.array_equal(read_image(path), np.array(ImageOps.exif_transpose(image)))
    assert image_size(path) == (14, 9)


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
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_broken_file_is_one_sentence_with_its_name(tmp_path, suffix, damage):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    BROKEN[damage](path)
    readers = [read_image, read_mask] + ([] if damage in ("cut", "scrambled") else [image_size])
    for reader in readers:
        with pytest.raises(UserError) as error:
            reader(path)
        assert str(path) in str(error.value)
        assert "replace the file or take it out" in str(error.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_no_damage_brings_another_exception(tmp_path, suffix):
    rng = np.random.default_rng(1)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for trial in range(60):
        data = bytearray(whole[: rng.integers(0, len(whole))] if trial % 2 else whole)
        for position in rng.integers(0, 200, 8 * (trial % 2 == 0)):
            data[position] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        for reader in (read_image, read_mask, image_size):
            try:
                reader(path)
            except UserError as error:
                assert str(path) in str(error)  # noqa: PT017


# Pairs


def make_card(root, **split):
    return Card.model_validate(
        {
            "name": "things",
            "root": str(root),
            "classes": [{"name": n, "color": [0, 0, 0]} for n in ("a", "b")],
            "label_map": {0: "a", 1: "b"},
            "splits": {"train": {"images": "images", "masks": "masks", **split}},
        }
    )


def lay_out(root, images=(), masks=()):
    for kind, names in (("images", images), ("masks", masks)):
        (root / kind).mkdir(exist_ok=True)
        for name in names:
            (root / kind / name).touch()


def test_files_pair_by_stem_in_any_suffix_and_case_sorted(tmp_path):
    images = ["b.JPG", "a.png", "c.v2.Jpeg", "d.webp", "e.TIFF"]
    masks = ["a.PNG", "b.png", "c.v2.png", "d.png", "e.Png"]
    lay_out(tmp_path, [*images, ".hidden.png", "notes.txt"], [*masks, "Thumbs.db", "._a.png"])
    pairs = pair_files(make_card(tmp_path), "train")
    assert [pair.name for pair in pairs] == ["a", "b", "c.v2", "d", "e"]
    assert [pair.image.name for pair in pairs] == [
        "a.png",
        "b.JPG",
        "c.v2.Jpeg",
        "d.webp",
        "e.TIFF",
    ]
    assert [pair.mask.name for pair in pairs] == masks
    assert all(pair.image.parent == tmp_path / "images" for pair in pairs)


def test_a_list_chooses_and_orders(tmp_path):
    names = ["a", "b", "frame.0001", "frame.0002", "x.png.big"]
    lay_out(tmp_path, [f"{n}.jpg" for n in names], [f"{n}.png" for n in names])
    (tmp_path / "train.txt").write_text("frame.0002\n\n b.png \nx.png.big\nframe.0001.JPG\r\n")
    pairs = pair_files(make_card(tmp_path, list="train.txt"), "train")
    assert [pair.name for pair in pairs] == ["frame.0002", "b", "x.png.big", "frame.0001"]


def test_a_list_may_not_name_what_is_not_there(tmp_path):
    lay_out(tmp_path, ["a.png", "b.png"], ["a.png", "c.png"])
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError) as error:
        pair_files(make_card(tmp_path, list="train.txt"), "train")
    assert "1 (b) without a mask" in str(error.value)
    assert "1 (c) without an image" in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00bad"])
def test_a_list_that_cannot_be_read_is_named(tmp_path, content):
    lay_out(tmp_path, ["a.png"], ["a.png"])
    if content is not None:
        (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"list .*train\.txt cannot be read"):
        pair_files(make_card(tmp_path, list="train.txt"), "train")


def test_no_pair_shows_folders_counts_and_five_names_a_side(tmp_path):
    lay_out(tmp_path, [f"img_{i}.jpg" for i in range(8)], [f"mask_{i}.png" for i in range(3)])
    with pytest.raises(UserError) as error:
        pair_files(make_card(tmp_path), "train")
    message = str(error.value)
    for part in (
        "split 'train' of 'things'",
        f"8 images in {tmp_path / 'images'}",
        f"3 masks in {tmp_path / 'masks'}",
        "8 (img_0, img_1, img_2, img_3, img_4, ...) without a mask",
        "3 (mask_0, mask_1, mask_2) without an image",
    ):
        assert part in message
    assert "img_5" not in message


def test_one_file_without_a_partner_is_an_error_too(tmp_path):
    lay_out(tmp_path, ["a.png", "b.png", "c.png"], ["a.png", "b.png"])
    with pytest.raises(UserError, match=r"1 \(c\) without a mask, 0 without an image"):
        pair_files(make_card(tmp_path), "train")


def test_empty_folders_do_not_pair(tmp_path):
    lay_out(tmp_path)
    with pytest.raises(UserError, match=r"0 images in .*0 masks in"):
        pair_files(make_card(tmp_path), "train")


def test_two_files_of_one_name_are_refused(tmp_path):
    lay_out(tmp_path, ["a.png", "a.jpg"], ["a.png"])
    with pytest.raises(UserError) as error:
        pair_files(make_card(tmp_path), "train")
    for part in (str(tmp_path / "images"), "a.jpg", "a.png", "keep one"):
        assert part in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"no folder .*masks; .*--set data\.root=DIR"):
        pair_files(make_card(tmp_path), "train")


def test_jpeg_masks_are_no_masks(tmp_path):
    lay_out(tmp_path, ["a.png"], ["a.jpg"])
    with pytest.raises(UserError, match="0 masks in"):
        pair_files(make_card(tmp_path), "train")
