"""Every fault that is planted is found, named and counted, alone and among all others."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from segkit.data.card import Card
from segkit.doctor.checks import check
from segkit.doctor.scan import list_splits, scan
from segkit.streets import CLASSES, VOID, draw_scene

COUNTS = {"train": 12, "val": 6, "test": 12}
NAMES = [name for name, _ in CLASSES]
POLE, PERSON, BUILDING = (NAMES.index(name) for name in ("pole", "person", "building"))
COLORS = np.array([color for _, color in CLASSES], np.uint8)


class Planted(NamedTuple):
    """A data set to spoil: its folder, and its card as plain values."""

    root: Path
    card: dict[str, Any]

    def file(self, split: str, kind: str, name: object) -> Path:
        return self.root / split / kind / f"{name}.png"

    def mask(self, split: str, index: int) -> np.ndarray:
        return np.array(Image.open(self.file(split, "masks", index)))

    def write_mask(self, split: str, index: int, mask: np.ndarray) -> None:
        Image.fromarray(mask).save(self.file(split, "masks", index))

    def change_masks(self, split: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        for index in range(COUNTS[split]):
            self.write_mask(split, index, change(self.mask(split, index)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "town"
    for split, count in COUNTS.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            image, mask = draw_scene(0, split, index)
            Image.fromarray(image).save(root / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")
    return root


@pytest.fixture
def town(sound, tmp_path) -> Planted:
    """Street scenes without a fault."""
    root = tmp_path / "town"
    shutil.copytree(sound, root)
    card = {
        "name": "town",
        "root": str(root),
        "classes": [{"name": name, "color": list(color)} for name, color in CLASSES],
        "label_map": {**dict(enumerate(NAMES)), VOID: "ignore"},
        "splits": {s: {"images": f"{s}/images", "masks": f"{s}/masks"} for s in COUNTS},
    }
    return Planted(root, card)


def examine(town, channels=None, needed=("train", "val")):
    card = Card.model_validate(town.card)
    splits = list_splits(card, list(card.splits))
    scan(card, splits, channels)
    return check(card, splits, needed)


def told(finding):
    return "\n".join([finding.text, *finding.examples])


def test_a_sound_set_passes(town):
    assert examine(town) == []


# Faults. Each has files to itself, so that all can be planted at once.


def unpaired(town):
    for index in range(7):
        town.file("train", "images", f"lonely_{index}").touch()
    for index in range(6):
        town.file("train", "masks", f"widow_{index}").touch()


def double_names(town):
    for kind, name in (("images", 0), ("images", 1), ("masks", 0)):
        town.file("train", kind, name).with_suffix(".tif").touch()


def broken_images(town):
    truncate(town.file("train", "images", 1))
    town.file("train", "images", 2).write_text("no image")


def broken_masks(town):
    truncate(town.file("train", "masks", 3))
    town.file("train", "masks", 4).write_bytes(b"")


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def colours_for_values(town):
    mask = town.mask("val", 3)
    town.write_mask("val", 3, COLORS[np.minimum(mask, 7)])


def other_sizes(town):
    town.write_mask("train", 5, town.mask("train", 5)[:100])


def unknown_values(town):
    for index, value in ((6, 77), (7, 78)):
        mask = town.mask("train", index)
        mask[:30] = value
        town.write_mask("train", index, mask)


def void_masks(town):
    town.write_mask("train", 8, np.full((120, 160), VOID, np.uint8))


def single_class(town):
    mask = np.full((120, 160), 3, np.uint8)
    mask[:50] = VOID
    town.write_mask("train", 9, mask)


def one_colour(town):
    Image.new("RGB", (160, 120), (9, 80, 200)).save(town.file("train", "images", 10))


def twins_within(town):
    shutil.copy(town.file("test", "images", 4), town.file("test", "images", 6))
    shutil.copy(town.file("test", "images", 4), town.file("test", "images", 5))


def same_image(town):
    pixels = Image.open(town.file("train", "images", 11))
    pixels.save(town.file("val", "images", 0), compress_level=1)  # the pixels count, not the bytes


def encoded_again(town):
    path = town.file("val", "images", 1)
    path.unlink()
    Image.open(town.file("train", "images", 0)).save(path.with_suffix(".jpg"), quality=70)


def deep_image(town):
    pixels = np.array(Image.open(town.file("val", "images", 2)), np.uint16)
    town.file("val", "images", 2).unlink()
    tifffile.imwrite(town.file("val", "images", 2).with_suffix(".tif"), 16 * pixels)


def missing_class(town):
    town.change_masks("val", lambda mask: np.where(mask == POLE, VOID, mask).astype(np.uint8))


def rare_class(town):
    def rarely(mask):
        mask[mask == PERSON] = BUILDING
        mask[60, :2] = PERSON
        return mask

    town.change_masks("val", rarely)


def much_void(town):
    town.card["splits"]["fog"] = {"images": "fog/images", "masks": "fog/masks"}
    for kind in ("images", "masks"):
        (town.root / "fog" / kind).mkdir(parents=True)
    for index in range(8):
        image, mask = draw_scene(1, "test", index)
        mask[:, 1::3] = mask[:, 2::3] = VOID
        Image.fromarray(image).save(town.file("fog", "images", index))
        town.write_mask("fog", index, mask)


def moved_masks(town):
    town.change_masks("test", lambda mask: np.roll(mask, (-1, 3), (0, 1)))


def video(town, prefix="drive_"):
    """Frames of a camera that pans over noise, 40 in one split and 20 in the next."""
    rng = np.random.default_rng(0)
    land = 128 + 400 * cv2.GaussianBlur(rng.standard_normal((60, 300)), (0, 0), 5)
    mask = np.arange(60 * 80, dtype=np.uint8).reshape(60, 80) % 8
    for split, frames in (("clip", range(40)), ("outtakes", range(42, 62))):
        town.card["splits"][split] = {"images": f"{split}/images", "masks": f"{split}/masks"}
        for kind in ("images", "masks"):
            (town.root / split / kind).mkdir(parents=True)
        for frame in frames:
            view = land[:, 3 * frame : 3 * frame + 80].clip(0, 255).astype(np.uint8)
            Image.fromarray(view).save(town.file(split, "images", f"{prefix}{frame:03}"))
            town.write_mask(split, f"{prefix}{frame:03}", mask)


def missing_folder(town):
    town.card["splits"]["night"] = {"images": "night/images", "masks": "night/masks"}


TOWN = "town/train"
# what is planted -> (severity, check, split, count), and what must be said of it
FAULTS = {
    unpaired: (
        ("error", "pairing", "train", 13),
        ["19 images in ", f"{TOWN}/images", "18 masks in ", f"{TOWN}/masks",
         "7 (lonely_0, lonely_1, lonely_2, lonely_3, lonely_4, ...) without a mask",
         "6 (widow_0, widow_1, widow_2, widow_3, widow_4, ...) without an image"],
    ),
    double_names: (
        ("error", "double names", "train", 3),
        [f"{TOWN}/images/0.png and 0.tif", "1.tif", f"{TOWN}/masks/0.png and 0.tif"],
    ),
    broken_images: (
        ("error", "images", "train", 2),
        [f"{TOWN}/images/1.png: cannot be read", f"{TOWN}/images/2.png: cannot be read"],
    ),
    broken_masks: (
        ("error", "masks", "train", 2),
        [f"{TOWN}/masks/3.png: cannot be read", f"{TOWN}/masks/4.png: cannot be read"],
    ),
    colours_for_values: (
        ("error", "masks", "val", 1),
        ["val/masks/3.png: is a colour mask of ", "128 64 128: road", "70 70 70: building"],
    ),
    other_sizes: (
        ("error", "sizes", "train", 1),
        [f"{TOWN}/images/5.png is 120x160 but ", f"{TOWN}/masks/5.png is 100x160"],
    ),
    unknown_values: (
        ("error", "labels", "train", 2),
        ["2 masks", "77 (", "78 (", "77: ignore", f"{TOWN}/masks/6.png", f"{TOWN}/masks/7.png"],
    ),
    void_masks: (
        ("warning", "empty masks", "train", 1),
        ["1 of 12 masks are void everywhere", f"{TOWN}/masks/8.png"],
    ),
    single_class: (
        ("warning", "single class", "train", 1),
        ["1 of 12 masks hold a single class", f"{TOWN}/masks/9.png"],
    ),
    one_colour: (("warning", "constant", "train", 1), [f"{TOWN}/images/10.png"]),
    twins_within: (("warning", "duplicates", "test", 2), ["4 | 5", "4 | 6"]),
    same_image: (
        ("error", "leak", "train and val", 1),
        ["1 of ", "images of val are in train as well", "11 | 0"],
    ),
    encoded_again: (
        ("warning", "near leak", "train and val", 1),
        ["images of val are nearly the same as one of train", "0 | 1"],
    ),
    deep_image: (
        ("error", "images", "val", 1),
        ["val/images/2.tif: has uint16 pixels", "image_max: 4095"],
    ),
    missing_class: (
        ("warning", "missing classes", "val", 1),
        ["no pixel of pole, while ", "% of the pixels are ignored (255): check that label_map"],
    ),
    rare_class: (("warning", "rare classes", "val", 1), ["under 0.1% of the pixels: person 0.0"]),
    much_void: (("warning", "void", "fog", 1), ["% of the pixels are ignored (255 in label_map)"]),
    moved_masks: (
        ("warning", "shift", "test", 12),
        [r"3\.0 px \[\S+, \S+\] right and ", r"1\.0 px \[\S+, \S+\] up "],
    ),
    video: (
        ("warning", "scene", "clip and outtakes", 20),
        ["20 of 20 frames of outtakes and 40 of 40 of clip are of the video 'drive_'",
         "the nearest 3 apart (drive_039 and drive_042)"],
    ),
    missing_folder: (
        ("warning", "missing", "night", 1),
        ["there is no folder ", "town/night/images"],
    ),
}  # fmt: skip


def key(finding):
    return finding.severity, finding.check, finding.split, finding.count


def says(finding, parts):
    return all(part in told(finding) or re.search(part, told(finding)) for part in parts)


def test_a_video_whose_frames_are_named_by_numbers_has_no_empty_name(town):
    video(town, prefix="")
    (found,) = examine(town)
    assert "40 of 40 of clip are of one video (names are numbers), the nearest 3" in found.text
    assert "''" not in found.text


@pytest.mark.parametrize(("dy", "dx"), [(6, 0), (-20, 12)])
def test_masks_moved_far_are_measured_too(dy, dx, town):
    town.change_masks("test", lambda mask: np.roll(mask, (dy, dx), (0, 1)))
    (found,) = examine(town)
    assert key(found) == ("warning", "shift", "test", 12)
    sides = re.findall(r"([\d.]+) px \[\S+, \S+\] (\w+)", found.text)
    expected = [(dx, "right"), (dy, "down" if dy > 0 else "up")]
    expected = [(abs(by), side) for by, side in expected if by]
    assert [side for _, side in sides] == [side for _, side in expected]
    measured = [float(by) for by, _ in sides]
    assert measured == pytest.approx([by for by, _ in expected], abs=0.1)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_alone_is_found_and_nothing_else(plant, town):
    plant(town)
    expected, parts = FAULTS[plant]
    (found,) = examine(town)
    assert key(found) == expected
    assert says(found, parts), told(found)


def test_all_faults_at_once_are_found_in_one_report(town):
    for plant in FAULTS:
        plant(town)
    found = examine(town)
    assert sorted(map(key, found)) == sorted(expected for expected, _ in FAULTS.values())
    for expected, parts in FAULTS.values():
        (finding,) = [f for f in found if key(f) == expected]
        assert says(finding, parts), told(finding)
    severities = [finding.severity for finding in found]
    assert severities == sorted(severities)  # errors first


# Labels the card does not name


def paste(town, text):
    """Put the proposed label_map into the card."""
    town.card.update(yaml.safe_load(re.search(r"label_map: \{.*?\}", text)[0]))


def test_unknown_values_are_told_with_shares_and_a_map_that_mends_the_card(town):
    unknown_values(town)
    (found,) = examine(town)
    share = 30 * 160 / (12 * 120 * 160)
    assert f"77 ({share:.1%} of the pixels), 78 ({share:.1%} of the pixels)" in found.text
    assert found.examples == tuple(str(town.file("train", "masks", n)) for n in (6, 7))
    paste(town, found.text)
    assert town.card["label_map"] == {
        **dict(enumerate(NAMES)), 77: "ignore", 78: "ignore", VOID: "ignore",
    }  # fmt: skip
    assert examine(town) == []


def test_of_many_unknown_values_five_are_told_and_twenty_mapped(town):
    for value in range(30):
        mask = town.mask("val", 0)
        mask[:, value] = 100 + value
        mask[: 60 + value, value] = 100 + value
        town.write_mask("val", 0, mask)
    (found,) = examine(town)
    assert "and 25 more" in found.text
    paste(town, found.text)
    assert len(town.card["label_map"]) == len(NAMES) + 1 + 20


def test_the_only_unknown_value_beside_one_of_two_classes_is_the_other(town):
    town.card["classes"] = town.card["classes"][:2]
    town.card["label_map"] = {0: "sky", 1: "building"}
    for split in COUNTS:
        town.change_masks(split, lambda mask: np.uint8(255) * (mask == BUILDING))
    found = examine(town)
    assert [key(f)[:2] for f in found] == [("error", "labels")] * 3
    paste(town, found[0].text)
    assert town.card["label_map"] == {0: "sky", 255: "building"}
    assert examine(town) == []


def test_a_class_seen_in_another_mask_is_not_mapped_anew(town):
    town.card["classes"] = town.card["classes"][:2]
    town.card["label_map"] = {0: "sky", 1: "building"}
    for split in COUNTS:
        town.change_masks(split, lambda mask: np.uint8(mask == BUILDING))
    town.write_mask("val", 0, np.uint8(7) * town.mask("val", 0))
    (found,) = examine(town)
    assert "label_map: {0: sky, 1: building, 7: ignore}" in found.text


def test_colours_that_match_no_class_are_told_with_the_nearest(town):
    table = np.zeros((256, 3), np.uint8)
    table[:8] = COLORS
    town.card["label_map"] = {" ".join(map(str, c)): n for n, c in CLASSES} | {"0 0 0": "ignore"}
    for split in COUNTS:
        town.change_masks(split, lambda mask: table[mask])
    assert examine(town) == []
    mask = town.mask("val", 2)
    mask[:12] = 126, 66, 130  # a road painted by hand
    town.write_mask("val", 2, mask)
    (found,) = examine(town)
    assert key(found) == ("error", "labels", "val", 1)
    share = 12 / 120 / 6
    told = f"126 66 130 ({share:.1%} of the pixels, nearest: 128 64 128 road)"
    assert told in found.text
    paste(town, found.text)
    assert examine(town) == []


# Splits


def test_a_missing_split_is_an_error_where_it_is_needed(town):
    missing_folder(town)
    (found,) = examine(town, needed=("train", "night"))
    assert key(found) == ("error", "missing", "night", 1)


def test_a_class_the_map_ignores_is_suspected(town):
    """As VOC's 255 or a class whose value is mapped to ignore by mistake."""
    town.card["label_map"][POLE] = "ignore"
    town.card["label_map"][99] = "pole"
    found = examine(town)
    assert [key(f) for f in found] == [("warning", "missing classes", s, 1) for s in COUNTS]
    for finding, split in zip(found, COUNTS, strict=True):
        masks = np.stack([town.mask(split, index) for index in range(COUNTS[split])])
        share = np.isin(masks, (POLE, VOID)).mean()
        assert (
            f"no pixel of pole, while {share:.1%} of the pixels are ignored (7, 255)"
            in finding.text
        )


def test_splits_meant_to_overlap_are_no_leak(town):
    listed(town, train=range(1, 6), train_aug=range(3, 8), val=range(8, 12))
    listed(town, trainval=range(1, 12), all=range(12))
    assert leaks(town) == []


@pytest.mark.parametrize("train", [range(12), range(4, 12), (0, 1, 8)])
def test_a_split_for_judging_within_the_training_split_is_a_leak(train, town):
    listed(town, train=train, val=(8, 9, 10, 11))
    count = len({8, 9, 10, 11} & set(train))
    assert leaks(town) == [("error", "leak", "train and val", count)]


def listed(town, **chosen):
    """Define splits as lists of the files of one folder."""
    for split, names in chosen.items():
        (town.root / f"{split}.txt").write_text("\n".join(map(str, names)))
        folders = {kind: f"train/{kind}" for kind in ("images", "masks")}
        town.card["splits"][split] = {**folders, "list": f"{split}.txt"}


def leaks(town):
    return [key(f) for f in examine(town) if "leak" in f.check or f.check == "scene"]


def test_a_split_without_a_readable_image_is_compared_with_none(town):
    for path in (town.root / "val/images").iterdir():
        truncate(path)
    (found,) = examine(town)
    assert key(found) == ("error", "images", "val", 6)
    assert len(found.examples) == 5


# Images as a model wants them


def test_an_array_without_pixels_is_no_image(town):
    np.save(town.root / "val/images/none.npy", np.zeros((0, 5, 3), np.uint8))
    np.save(town.root / "val/masks/none.npy", np.zeros((0, 5), np.uint8))
    found = examine(town)
    assert [key(f) for f in found] == [("error", kind, "val", 1) for kind in ("images", "masks")]
    assert "none.npy: has shape (0, 5, 3)" in told(found[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_make_an_image_useless(value, town):
    town.card["image_max"] = 1
    for path in town.root.glob("*/images/*"):
        pixels = np.array(Image.open(path)) / np.float32(255)
        pixels[5, 5, 1] = value if path == town.file("val", "images", 3) else 0
        np.save(path.with_suffix(".npy"), pixels)
        path.unlink()
    (found,) = examine(town)
    assert key(found) == ("error", "images", "val", 1)
    assert "val/images/3.npy: holds pixels that are NaN or infinite" in told(found)


@pytest.mark.parametrize(("channels", "faults"), [(None, 0), (4, 0), (3, 12), (5, 12)])
def test_images_must_have_the_channels_of_the_model(channels, faults, town):
    for index in range(COUNTS["train"]):
        path = town.file("train", "images", index)
        pixels = np.array(Image.open(path))
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), np.dstack([pixels, pixels[..., :1]]))
    town.card["splits"] = {"train": town.card["splits"]["train"]}
    found = examine(town, channels)
    assert [key(f) for f in found] == [("error", "images", "train", 12)] * bool(faults)
    for finding in found:
        assert f"(120, 160, 4) (H, W, C), but model.in_channels is {channels}" in told(finding)
