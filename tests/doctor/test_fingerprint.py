"""Leaks that are planted are found and counted; pictures that only look alike are none."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from segkit.doctor import fingerprint as module
from segkit.doctor.fingerprint import (
    NEAR_BITS,
    NEAR_CORRELATION,
    Fingerprint,
    fingerprint,
    identical,
    near_identical,
)


def as_jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return np.array(Image.open(file))


def trimmed(image):
    top, left = (round(0.02 * side) for side in image.shape[:2])
    return image[top:-top, left:-left]


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


COPIES = {
    "jpeg": as_jpeg,
    "smaller": lambda image: cv2.resize(image, None, fx=0.8, fy=0.8),
    "brighter": lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.9).astype(np.uint8),
    "noisy": noisy,
    "trimmed": trimmed,
    "grey": lambda image: np.array(Image.fromarray(image).convert("L"))[..., None],
    "float": lambda image: image.astype(np.float32) / 255,
    "rgba": lambda image: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
}


def test_the_digest_is_of_pixels_shape_and_type(scenes):
    image = scenes[0]
    digest = fingerprint(image).digest
    assert len(digest) == 16
    assert fingerprint(image[::-1][::-1].copy()).digest == digest
    assert fingerprint(np.asfortranarray(image)).digest == digest
    changed = image.copy()
    changed[50, 50, 1] ^= 1
    others = [changed, image.reshape(160, 120, 3), image.view(np.int8)]
    assert len({digest, *(fingerprint(other).digest for other in others)}) == 4


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_the_hash_is_zauners_of_the_grey_image(channels, scenes):
    image = np.concatenate([scenes[0], scenes[1], scenes[2]], axis=-1)[..., :channels]
    grey = image[..., :3] @ [0.299, 0.587, 0.114] if channels > 2 else image[..., 0]
    small = np.repeat(grey, 4, axis=0).reshape(32, 15, 32, 5).mean((1, 3))  # 120x160
    lowest = dctn(small, norm="ortho")[:8, :8].ravel()
    bits = "".join(str(int(value > np.median(lowest))) for value in lowest)
    mark = fingerprint(image)
    assert 0 <= mark.hash < 2**64
    assert bin(mark.hash ^ int(bits, 2)).count("1") <= 2  # grey levels are rounded in between
    assert np.allclose(mark.thumbnail, small.reshape(16, 2, 16, 2).mean((1, 3)), atol=1.5)


def test_identical_images_are_paired_with_the_first_that_they_equal(prints):
    a = [prints[index] for index in (0, 1, 2, 1)]
    b = [prints[index] for index in (5, 1, 0, 1, 6)]
    assert identical(a, b) == [(1, 1, 0), (0, 2, 0), (1, 3, 0)]
    assert identical(a) == [(1, 3, 0)]
    assert identical(b) == [(1, 3, 0)]
    assert identical(prints) == []
    assert identical(prints, []) == identical([], prints) == []


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_in_spite_of_a_change(kind, scenes, prints):
    copies = [fingerprint(COPIES[kind](scene)) for scene in scenes[::4]]
    found = near_identical(prints, copies)
    assert [(pair.a, pair.b) for pair in found] == [(4 * k, k) for k in range(10)]
    assert all(pair.distance <= NEAR_BITS for pair in found)
    assert identical(prints, copies) == []


def test_scenes_that_only_look_alike_are_no_copies(prints, other_prints):
    assert near_identical(prints, other_prints) == []
    assert near_identical(prints) == near_identical(other_prints) == []


def test_copies_within_a_split_are_found_once(scenes, prints):
    marks = [*prints[:6], fingerprint(as_jpeg(scenes[4])), prints[3]]
    assert [(pair.a, pair.b) for pair in near_identical(marks)] == [(4, 6)]
    assert identical(marks) == [(3, 7, 0)]


def test_what_is_identical_is_not_told_twice(scenes, prints):
    marks = [prints[3], fingerprint(as_jpeg(scenes[3]))]
    assert [(pair.a, pair.b) for pair in near_identical(prints, marks)] == [(3, 1)]


def test_images_without_detail_are_like_none(prints):
    rng = np.random.default_rng(0)
    faint = np.kron(rng.random((2, 15, 20, 1)) < 0.1, np.ones((1, 4, 4, 3))).astype(np.uint8)
    flat = [np.full((60, 80, 3), 80, np.uint8), 80 + faint[0], 81 + faint[0], 80 + faint[1]]
    marks = [fingerprint(image) for image in flat]
    assert near_identical(marks) == near_identical(prints, marks) == []


@pytest.mark.parametrize("block", [(2048, 8192), (7, 5), (5, 16)])
@pytest.mark.parametrize("within", [False, True])
def test_pairs_are_those_of_a_count_by_hand(block, within, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(1)
    bases = [(int.from_bytes(rng.bytes(8), "big"), rng.normal(128, 40, (16, 16))) for _ in range(4)]

    def draw(count):
        for _ in range(count):
            bits, look = bases[rng.integers(4)]
            for bit in rng.choice(64, rng.integers(0, 10), replace=False):
                bits ^= 1 << int(bit)
            look = look + rng.normal(0, rng.uniform(0, 30), (16, 16))
            yield Fingerprint(rng.bytes(16), bits, look.astype(np.float32))

    a = list(draw(40))
    b = a if within else list(draw(23))
    expected = {}
    for j, mark in enumerate(b):
        likeness = {}
        for i, other in enumerate(a[:j] if within else a):
            details = [m.thumbnail - gaussian_filter(m.thumbnail, 2) for m in (mark, other)]
            correlation = np.corrcoef(*(detail.ravel() for detail in details))[0, 1]
            if bin(mark.hash ^ other.hash).count("1") <= NEAR_BITS:
                likeness[i] = correlation
        if likeness and max(likeness.values()) >= NEAR_CORRELATION:
            i = max(likeness, key=likeness.get)
            expected[j] = (i, j, bin(mark.hash ^ a[i].hash).count("1"))
    assert 5 < len(expected) < len(b)
    assert near_identical(a, None if within else b) == list(expected.values())
