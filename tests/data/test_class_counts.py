"""What the masks of a split hold, against counting one by one, and when it is looked up again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.data.cached import cache_folder, cached
from segkit.data.card import load_card
from segkit.data.reader import SampleReader
from segkit.data.statistics import count_classes
from segkit.errors import UserError

RAW = (0, 10, 20)  # of the tiny set's three classes; 99 is void


def open_split(tiny_set, split="train", **changes):
    card = load_card(tiny_set.card).model_copy(update=changes)
    return SampleReader(card, split)


def set_mask(root, name, mask, split="train"):
    Image.fromarray(mask).save(root / split / "masks" / f"{name}.png")


def count(root, split="train"):
    """Count pixels, pixels of images with the class, images, and void, by loops."""
    pixels, around, images, void = [0] * 3, [0] * 3, [0] * 3, 0
    for path in (root / split / "masks").iterdir():
        values = np.array(Image.open(path)).ravel().tolist()
        void += values.count(99)
        for index, value in enumerate(RAW):
            if value in values:
                pixels[index] += values.count(value)
                around[index] += len(values) - values.count(99)
                images[index] += 1
    return (pixels, around, images, void)


def spoil(path):
    """Replace a file by garbage of the same size and time."""
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# Counts


@pytest.mark.parametrize("split", ["train", "val"])
def test_counts_are_those_of_the_masks(tiny_set, split):
    assert tuple(count_classes(open_split(tiny_set, split))) == count(tiny_set.root, split)


def test_classes_that_are_not_everywhere_and_images_of_void_alone(tiny_set):
    set_mask(tiny_set.root, "train_0", np.full((40, 48), 99, np.uint8))
    set_mask(tiny_set.root, "train_1", np.full((40, 48), 10, np.uint8))
    set_mask(tiny_set.root, "train_2", np.zeros((40, 48), np.uint8))
    found = count_classes(open_split(tiny_set))
    assert tuple(found) == count(tiny_set.root)
    assert found.images == [4, 4, 3]
    assert found.void > 40 * 48


def test_more_files_than_a_thread_takes_at_once(tiny_set):
    rng = np.random.default_rng(0)
    for index in range(150):
        name = f"x_{index:03}"
        Image.new("RGB", (4, 3)).save(tiny_set.root / "train/images" / f"{name}.png")
        set_mask(tiny_set.root, name, rng.choice([*RAW, 99], (3, 4)).astype(np.uint8))
    assert tuple(count_classes(open_split(tiny_set))) == count(tiny_set.root)


# Problems


def test_all_problems_are_told_at_once(tiny_set):
    root = tiny_set.root / "train"
    set_mask(tiny_set.root, "train_0", np.full((40, 48), 77, np.uint8))
    set_mask(tiny_set.root, "train_1", np.zeros((48, 40), np.uint8))
    (root / "masks" / "train_2.png").write_bytes(b"")
    (root / "images" / "train_3.png").write_text("no image")
    colors = np.zeros((40, 48, 3), np.uint8)
    colors[0, 0] = 1, 2, 3
    set_mask(tiny_set.root, "train_4", colors)
    with pytest.raises(UserError) as error:
        count_classes(open_split(tiny_set))
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    assert f"{root / 'masks' / 'train_0.png'}" in lines[0]
    assert "77 (100.0% of the pixels)" in lines[0]
    for part in ("images/train_1.png is 40x48", "masks/train_1.png is 48x40", "the same pixels"):
        assert part in lines[1]
    assert "masks/train_2.png: cannot be read" in lines[2]
    assert "images/train_3.png: cannot be read" in lines[3]
    assert "masks/train_4.png: is a colour mask" in lines[4]


def test_ten_files_are_shown_and_the_rest_is_counted(tiny_set):
    for index in range(13):
        image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
        image.save(tiny_set.root / "train/images" / f"x_{index:02}.png")
        set_mask(tiny_set.root, f"x_{index:02}", np.full((8, 8), 55, np.uint8))
    with pytest.raises(UserError) as error:
        count_classes(open_split(tiny_set))
    lines = str(error.value).splitlines()
    assert len(lines) == 11
    assert "x_09.png" in lines[9]
    assert lines[10] == "... and 3 more files"


def test_a_problem_is_not_remembered(tiny_set):
    mask = tiny_set.root / "train/masks/train_0.png"
    good = mask.read_bytes()
    mask.write_bytes(b"")
    with pytest.raises(UserError):
        count_classes(open_split(tiny_set))
    mask.write_bytes(good)
    assert tuple(count_classes(open_split(tiny_set))) == count(tiny_set.root)


def test_a_file_that_is_gone_is_named(tiny_set):
    reader = open_split(tiny_set)
    (tiny_set.root / "train/masks/train_2.png").unlink()
    with pytest.raises(UserError, match=r"a file of 'tiny' is gone: .*train_2\.png"):
        count_classes(reader)


# Memory


def test_a_second_count_reads_no_file(tiny_set):
    first = count_classes(open_split(tiny_set))
    for kind in ("images", "masks"):
        for path in (tiny_set.root / "train" / kind).iterdir():
            spoil(path)
    assert count_classes(open_split(tiny_set)) == first


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_file_that_is_touched_is_looked_at_again(tiny_set, kind):
    count_classes(open_split(tiny_set))
    path = tiny_set.root / "train" / kind / "train_3.png"
    spoil(path)
    count_classes(open_split(tiny_set))
    os.utime(path)
    with pytest.raises(UserError, match=rf"{kind}/train_3\.png: cannot be read"):
        count_classes(open_split(tiny_set))


def test_a_file_of_another_size_is_looked_at_again(tiny_set):
    count_classes(open_split(tiny_set))
    path = tiny_set.root / "train/masks/train_3.png"
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:50])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UserError, match=r"train_3\.png: cannot be read"):
        count_classes(open_split(tiny_set))


def test_another_label_map_is_another_count(tiny_set):
    first = count_classes(open_split(tiny_set))
    swapped = {0: "box", 10: "ground", 20: "bar", 99: "ignore"}
    second = count_classes(open_split(tiny_set, label_map=swapped))
    assert second.pixels == [first.pixels[1], first.pixels[0], first.pixels[2]]
    without_void = count_classes(open_split(tiny_set, label_map={**swapped, 99: "bar"}))
    assert without_void.void == 0


def test_a_file_that_comes_or_goes_is_noticed(tiny_set):
    count_classes(open_split(tiny_set))
    for kind in ("images", "masks"):
        (tiny_set.root / "train" / kind / "train_0.png").unlink()
    assert tuple(count_classes(open_split(tiny_set))) == count(tiny_set.root)


@pytest.mark.parametrize("content", [b"", b"[[1, 2", b"\xff\xfe"])
def test_a_damaged_memory_is_computed_anew(tiny_set, content):
    count_classes(open_split(tiny_set))
    [kept] = cache_folder().iterdir()
    kept.write_bytes(content)
    assert tuple(count_classes(open_split(tiny_set))) == count(tiny_set.root)


def test_a_folder_that_cannot_be_written_does_no_harm(tiny_set, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "file" / "below"))
    for _ in range(2):
        assert tuple(count_classes(open_split(tiny_set))) == count(tiny_set.root)
    assert (tmp_path / "file").read_bytes() == b""


def test_nothing_but_the_result_is_left_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "new" / "cache"))
    assert cached("thing", "abc", lambda: [1, 2.5, "x"]) == [1, 2.5, "x"]
    [kept] = (tmp_path / "new" / "cache").iterdir()
    assert kept.name == "thing-abc.json"
    assert json.loads(kept.read_text()) == [1, 2.5, "x"]
    assert cached("thing", "abc", lambda: 1 / 0) == [1, 2.5, "x"]
    assert cached("thing", "abd", lambda: 7) == 7


def test_without_a_setting_the_folder_is_in_the_home(monkeypatch):
    monkeypatch.delenv("SEGKIT_CACHE")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/.cache/segkit")
