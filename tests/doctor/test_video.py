"""Frames of one video in two splits: drawn pans, and CamVid's drives."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.doctor.fingerprint import Fingerprint, fingerprint, identical, near_identical
from segkit.doctor.video import continued_scenes


def film(frames, seed=0, pan=3):
    """A camera that pans over a landscape of noise, `pan` of 80 columns a frame."""
    rng = np.random.default_rng(seed)
    width = pan * frames + 80
    land = 128 + 400 * cv2.GaussianBlur(rng.standard_normal((60, width)), (0, 0), 5)
    land = land.clip(0, 255).astype(np.uint8)[..., None]
    return [fingerprint(land[:, pan * k : pan * k + 80]) for k in range(frames)]


def split(prints, chosen, name="drive_{:05}"):
    """Names and fingerprints of two splits, the chosen frames in the second."""
    first = [k for k in range(len(prints)) if not chosen(k)]
    second = [k for k in range(len(prints)) if chosen(k)]
    return [
        part for side in (first, second)
        for part in ([name.format(k) for k in side], [prints[k] for k in side])
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "count", "gap", "names"),
    [
        (lambda k: k >= 80, 20, 1, ("drive_00079", "drive_00080")),
        (lambda k: k % 5 == 2, 20, 1, ("drive_00001", "drive_00002")),
        (lambda k: 40 <= k < 60, 20, 1, ("drive_00039", "drive_00040")),
        (lambda k: k == 50, 1, 1, ("drive_00049", "drive_00050")),
    ],
    ids=["tail", "every fifth", "middle", "single"],
)
def test_a_video_in_both_splits_is_told_with_its_nearest_frames(chosen, count, gap, names):
    (found,) = continued_scenes(*split(film(100), chosen))
    assert found[:6] == ("drive_", 100 - count, count, gap, *names)
    assert found.border < 0.3 < 0.7 < found.unrelated


@pytest.mark.parametrize(
    ("name", "prefix", "gap"),
    [
        ("{:04}", "", 1),
        ("seq1/{}", "seq1/", 1),
        ("aachen/aachen_000000_{:06}", "aachen/aachen_000000_", 1),
        ("a_000000_{:06}_leftImg8bit", "a_000000_", 1),
        ("f{}0", "f", 10),
        ("10000000000000{:06}", "", 1),
    ],
)
def test_the_number_is_the_last_in_a_name(name, prefix, gap):
    sides = split(film(60), lambda k: k % 4 == 0, name)
    (found,) = continued_scenes(*(side[::-1] for side in sides))  # in any order
    assert (found.prefix, found.gap) == (prefix, gap)


def test_only_the_video_among_the_prefixes_is_told(prints, other_prints):
    video = split(film(60), lambda k: k >= 40)
    pictures = [
        [f"cat_{k}" for k in range(40)], prints, [f"cat_{k}" for k in range(40, 60)], other_prints,
    ]  # fmt: skip
    found = continued_scenes(*[x + y for x, y in zip(video, pictures, strict=True)])
    assert [entry.prefix for entry in found] == ["drive_"]


def test_short_clips_are_tested_together():
    sides = [[], [], [], []]
    for clip in range(8):
        parts = split(film(12, seed=clip, pan=4), lambda k: k >= 9, f"clip{clip}_{{:03}}")
        for side, part in zip(sides, parts, strict=True):
            side += part
    assert [entry.prefix for entry in continued_scenes(*sides)] == [f"clip{k}_" for k in range(8)]
    alone = [side[:n] for side, n in zip(sides, (9, 9, 3, 3), strict=True)]
    assert continued_scenes(*alone) == []


def test_a_video_of_its_own_in_each_split_is_no_leak():
    names = [f"{k:04}" for k in range(90)]
    for seed in range(20):
        first, second = film(60, seed=2 * seed), film(30, seed=2 * seed + 1)
        assert continued_scenes(names[:60], first, names[:30], second) == []
        assert continued_scenes(names[:60], first, names[60:], second) == []
    others = [[f"{prefix}{name}" for name in names] for prefix in "ab"]
    frames = film(90)
    assert continued_scenes(others[0][:60], frames[:60], others[1][60:], frames[60:]) == []


def test_neighbours_in_number_that_look_unlike_are_no_leak():
    first, second = ([mark for cut in range(8) for mark in film(8, seed=cut + s)] for s in (0, 50))
    even, odd = ([f"{2 * k + s:04}" for k in range(64)] for s in (0, 1))
    assert len(continued_scenes(even, first, odd, first)) == 1
    assert continued_scenes(even, first, odd, second) == []


def test_a_video_that_goes_on_more_than_three_steps_later_is_not_told():
    frames = film(100, pan=1)
    names = [f"{k:04}" for k in range(100)]
    (found,) = continued_scenes(names[:60], frames[:60], names[62:], frames[62:])
    assert found.gap == 3
    assert continued_scenes(names[:60], frames[:60], names[63:], frames[63:]) == []


def test_pictures_sorted_by_class_in_each_split_go_on_nowhere():
    rng = np.random.default_rng(0)
    kinds = rng.normal(0, 40, (12, 16, 16))
    marks = [
        Fingerprint(rng.bytes(16), 0, (128 + kinds[k // 10] + rng.normal(0, 20, (16, 16))))
        for k in range(120)
    ]
    names = [f"{k:04}" for k in range(120)]
    assert continued_scenes(names[:60], marks[::2], names[:60], marks[1::2]) == []


def test_numbered_pictures_are_no_video(prints, other_prints):
    names = [f"{k:04}" for k in range(60)]
    assert continued_scenes(names[:40], prints, names[:20], other_prints) == []
    assert continued_scenes(names[:40], prints, names[40:], other_prints) == []
    assert continued_scenes([], [], names[:20], other_prints) == []
    unnumbered = [f"img{k}x" if k else "x" for k in range(20)]
    assert continued_scenes(unnumbered, prints[:20], unnumbered, other_prints) == []


@pytest.mark.parametrize("name", ["breed{breed}_{k}", "{all:04}"], ids=["by name", "by number"])
def test_classes_of_random_pictures_are_no_videos(name):
    rng = np.random.default_rng(0)
    breeds = [cv2.GaussianBlur(rng.normal(0, 1, (16, 16)), (0, 0), 2) for _ in range(6)]
    for _ in range(20):
        sides = [[], [], [], []]
        for number in range(240):
            breed, k = divmod(number, 40)
            look = 128 + 200 * breeds[breed] + rng.normal(0, 40, (16, 16))
            side = 2 * bool(rng.random() < 0.2)
            sides[side].append(name.format(breed=breed, k=k + 1, all=number))
            sides[side + 1].append(Fingerprint(rng.bytes(16), 0, look.astype(np.float32)))
        assert continued_scenes(*sides) == []


def camvid(shared: Path, name: str, step: int = 1):
    files = sorted((shared / "data/camvid" / name).glob("*.webp"))[::step]
    return [f.stem for f in files], [fingerprint(np.array(Image.open(f))) for f in files]


def test_camvid_val_goes_on_where_train_was(shared):
    train, val = camvid(shared, "train"), camvid(shared, "val")
    (found,) = continued_scenes(*train, *val)
    assert found[:6] == ("0016E5_", 204, 101, 31, "0016E5_08190", "0016E5_08159")
    assert found.border < 0.25 < found.unrelated
    assert identical(train[1], val[1]) == near_identical(train[1], val[1]) == []
    drives = {}
    for name, mark in zip(*train, strict=True):
        drives.setdefault(name.split("_")[0], []).append(mark)
    for drive, marks in drives.items():
        for other, others in drives.items():
            assert drive == other or near_identical(marks, others) == []
    within = near_identical(train[1])  # where the car stood at a light
    assert 40 < len(within) < 90
    assert all(train[0][pair.a][:6] == train[0][pair.b][:6] for pair in within)
