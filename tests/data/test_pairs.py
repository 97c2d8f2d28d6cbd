"""Which image belongs to which mask: by name, in folders of any shape."""

import random

import pytest

from segkit.data.card import Card
from segkit.data.pairs import list_files, pair_files
from segkit.errors import UserError


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
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (root / kind / name).touch()


def paired(root, **split):
    """Pair the files and give (name, image, mask), the files relative to the root."""
    return [
        (pair.name, str(pair.image.relative_to(root)), str(pair.mask.relative_to(root)))
        for pair in pair_files(make_card(root, **split), "train")
    ]


def refusal(root, **split):
    with pytest.raises(UserError) as error:
        pair_files(make_card(root, **split), "train")
    return str(error.value)


# Names


def test_files_pair_by_stem_in_any_suffix_and_case_sorted(tmp_path):
    images = ["a.png", "b.JPG", "c.v2.Jpeg", "d.webp", "e.TIFF", "f.Npy", "g.bmp", "h.tif"]
    masks = ["a.PNG", "b.png", "c.v2.png", "d.gif", "e.Png", "f.npy", "g.TIF", "h.JPG"]
    strangers = [".hidden.png", "notes.txt", "Thumbs.db", "._a.png", "a.png.txt", "a"]
    lay_out(tmp_path, [*reversed(images), *strangers], [*masks, *strangers])
    pairs = pair_files(make_card(tmp_path), "train")
    assert pairs.names == ["a", "b", "c.v2", "d", "e", "f", "g", "h"]
    assert [pair.image for pair in pairs] == [tmp_path / "images" / name for name in images]
    assert [pair.mask for pair in pairs] == [tmp_path / "masks" / name for name in masks]
    assert len(pairs) == 8
    assert pairs[2] == list(pairs)[2]


def test_folders_below_are_part_of_the_name(tmp_path):
    lay_out(
        tmp_path,
        ["bonn/1.jpg", "ulm/1.jpg", "ulm/old/2.jpg", "0.jpg"],
        ["bonn/1.png", "ulm/1.png", "ulm/old/2.png", "0.png"],
    )
    assert paired(tmp_path) == [
        (name, f"images/{name}.jpg", f"masks/{name}.png")
        for name in ("0", "bonn/1", "ulm/1", "ulm/old/2")
    ]


def test_the_folder_counts_in_pairing(tmp_path):
    lay_out(tmp_path, ["bonn/1.jpg"], ["ulm/1.png"])
    message = refusal(tmp_path)
    assert "1 (bonn/1) without a mask" in message
    assert "1 (ulm/1) without an image" in message


def test_hidden_folders_are_left_alone(tmp_path):
    lay_out(
        tmp_path,
        ["a.png", ".ipynb_checkpoints/a-checkpoint.png", "town/.cache/b.png"],
        ["a.png", ".thumbnails/a.png"],
    )
    assert paired(tmp_path) == [("a", "images/a.png", "masks/a.png")]


def test_linked_folders_are_followed(tmp_path):
    lay_out(tmp_path, [], ["town/a.png"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    (tmp_path / "images" / "town").symlink_to(tmp_path / "elsewhere")
    assert paired(tmp_path) == [("town/a", "images/town/a.jpg", "masks/town/a.png")]


# Suffixes


def test_suffixes_are_cut_off_on_both_sides(tmp_path):
    lay_out(
        tmp_path,
        ["ulm/ulm_1_leftImg8bit.png", "ulm/ulm_2_leftImg8bit.png", "ulm/ulm_1_rightImg8bit.png"],
        ["ulm/ulm_1_gtFine_labelIds.png", "ulm/ulm_2_gtFine_labelIds.png",
         "ulm/ulm_1_gtFine_color.png", "ulm/ulm_1_gtFine_polygons.json"],
    )  # fmt: skip
    suffixes = {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"}
    assert paired(tmp_path, **suffixes) == [
        (
            f"ulm/ulm_{n}",
            f"images/ulm/ulm_{n}_leftImg8bit.png",
            f"masks/ulm/ulm_{n}_gtFine_labelIds.png",
        )
        for n in (1, 2)
    ]


def test_images_and_masks_may_share_a_folder(tmp_path):
    lay_out(tmp_path, ["a.jpg", "a_mask.png", "b/c.jpg", "b/c_mask.png"])
    split = {"masks": "images", "mask_suffix": "_mask"}
    assert paired(tmp_path, **split) == [
        ("a", "images/a.jpg", "images/a_mask.png"),
        ("b/c", "images/b/c.jpg", "images/b/c_mask.png"),
    ]


def test_in_one_folder_the_longer_suffix_may_be_the_images(tmp_path):
    lay_out(tmp_path, ["a_image.jpg", "a.png", "b_image.jpg", "b.png"])
    split = {"masks": "images", "image_suffix": "_image"}
    assert [(image, mask) for _, image, mask in paired(tmp_path, **split)] == [
        (f"images/{name}_image.jpg", f"images/{name}.png") for name in "ab"
    ]


@pytest.mark.parametrize(("image", "mask"), [("_x", "_mask_x"), ("_image_x", "_x")])
def test_in_one_folder_one_suffix_may_end_in_the_other(tmp_path, image, mask):
    lay_out(tmp_path, [f"a{image}.jpg", f"a{mask}.png"])
    split = {"masks": "images", "image_suffix": image, "mask_suffix": mask}
    assert paired(tmp_path, **split) == [("a", f"images/a{image}.jpg", f"images/a{mask}.png")]


def test_one_folder_for_both_needs_a_suffix():
    with pytest.raises(ValueError, match=r"share a folder.*mask_suffix: _mask"):
        make_card("data", masks="images")


@pytest.mark.parametrize("suffix", ["_mask", ".label", "_L"])
def test_a_suffix_of_all_masks_is_proposed(tmp_path, suffix):
    lay_out(tmp_path, ["a.jpg", "b.jpg"], [f"a{suffix}.png", f"b{suffix}.png"])
    hint = f"say mask_suffix: {suffix}"
    assert refusal(tmp_path).endswith(hint)
    assert len(paired(tmp_path, mask_suffix=suffix)) == 2


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["a.jpg", "b.jpg"], ["a_mask.png", "b_seg.png"]),
        (["a.jpg", "b.jpg"], ["c.png", "d.png"]),
        (["a.jpg", "b.jpg"], ["a_mask.png"]),
        (["a.jpg"], []),
    ],
)
def test_no_suffix_is_proposed_that_would_not_do(tmp_path, images, masks):
    lay_out(tmp_path, images, masks)
    assert "mask_suffix" not in refusal(tmp_path)


# Lists


def test_a_list_chooses_and_orders(tmp_path):
    names = ["a", "b", "frame.0001", "frame.0002", "x.png.big", "ulm/c"]
    lay_out(tmp_path, [f"{n}.jpg" for n in names], [f"{n}.png" for n in names])
    (tmp_path / "train.txt").write_text(
        "frame.0002\n\n b.png \nx.png.big\nframe.0001.JPG\r\nulm/c\n"
    )
    pairs = pair_files(make_card(tmp_path, list="train.txt"), "train")
    assert pairs.names == ["frame.0002", "b", "x.png.big", "frame.0001", "ulm/c"]


def test_a_list_may_name_the_images_with_their_suffix(tmp_path):
    lay_out(tmp_path, ["a_rgb.jpg", "b_rgb.jpg"], ["a.png", "b.png"])
    (tmp_path / "train.txt").write_text("b_rgb.jpg\na\n")
    split = {"list": "train.txt", "image_suffix": "_rgb"}
    assert [name for name, _, _ in paired(tmp_path, **split)] == ["b", "a"]


def test_a_list_may_not_name_what_is_not_there(tmp_path):
    lay_out(tmp_path, ["a.png", "b.png"], ["a.png", "c.png"])
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    message = refusal(tmp_path, list="train.txt")
    assert "1 (b) without a mask" in message
    assert "1 (c) without an image" in message


def test_a_list_may_not_name_anything_twice(tmp_path):
    lay_out(tmp_path, ["a.png", "b.png"], ["a.png", "b.png"])
    (tmp_path / "train.txt").write_text("a\nb\na.png\nb\n")
    lines = refusal(tmp_path, list="train.txt").splitlines()
    assert lines == [f"{tmp_path / 'train.txt'} names {name} twice; keep it once" for name in "ab"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00bad"])
def test_a_list_that_cannot_be_read_is_named(tmp_path, content):
    lay_out(tmp_path, ["a.png"], ["a.png"])
    if content is not None:
        (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(
        UserError, match=r"train\.txt cannot be read: .*; its path in the card is relative"
    ):
        pair_files(make_card(tmp_path, list="train.txt"), "train")


def test_a_list_never_shows_what_a_file_holds(tmp_path):
    lay_out(tmp_path, ["a.png", "b.png"], ["a.png", "b.png"])
    rng = random.Random(0)
    for number in range(50):
        secrets = [f"secret{rng.getrandbits(64):x}:{rng.random()}" for _ in range(number % 9 + 1)]
        held = [*secrets, *rng.choices(["a", "b", "", *secrets], k=number % 5)]
        rng.shuffle(held)
        (tmp_path / "passwd").write_text("\n".join(held))
        message = refusal(tmp_path, list=rng.choice(["passwd", str(tmp_path / "passwd")]))
        assert "secret" not in message
        assert "passwd" in message


def test_a_list_tells_the_lines_of_what_no_file_is_called(tmp_path):
    lay_out(tmp_path, ["a.png", "b.png"], ["a.png", "c.png"])
    (tmp_path / "train.txt").write_text("a\n\nb\nno such name\n")
    message = refusal(tmp_path, list="train.txt")
    assert "2 (b, line 4 of train.txt) without a mask" in message
    assert "1 (line 4 of train.txt) without an image" in message


@pytest.mark.parametrize("file", ["/dev/zero", "images"])
def test_a_list_is_a_file(tmp_path, file):
    lay_out(tmp_path, ["a.png"], ["a.png"])
    assert "cannot be read: it is no file" in refusal(tmp_path, list=file)


# What does not pair up


def test_no_pair_shows_folders_counts_and_five_names_a_side(tmp_path):
    lay_out(tmp_path, [f"img_{i}.jpg" for i in range(8)], [f"mask_{i}.png" for i in range(3)])
    message = refusal(tmp_path)
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
    assert "1 (c) without a mask, 0 without an image" in refusal(tmp_path)


def test_a_listing_tells_what_fits_and_what_does_not(tmp_path):
    lay_out(tmp_path, ["a.png", "b.png", "b.jpg", "c.png"], ["a.png", "b.png", "d.png"])
    found = list_files(make_card(tmp_path), "train")
    assert found.pairs.names == ["a", "b"]
    assert (found.image_count, found.mask_count) == (3, 3)
    assert (found.without_mask, found.without_image) == (["c"], ["d"])
    assert len(found.doubles) == 1


def test_empty_folders_do_not_pair(tmp_path):
    lay_out(tmp_path)
    message = refusal(tmp_path)
    assert "0 images in" in message
    assert "0 masks in" in message


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_two_files_of_one_name_are_refused(tmp_path, kind):
    lay_out(tmp_path, ["town/a.png"], ["town/a.png"])
    (tmp_path / kind / "town" / "a.jpg").touch()
    message = refusal(tmp_path)
    for part in (str(tmp_path / kind / "town"), "a.jpg", "a.png", "keep one"):
        assert part in message


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"no folder .*masks; .*--data-root DIR"):
        pair_files(make_card(tmp_path), "train")
