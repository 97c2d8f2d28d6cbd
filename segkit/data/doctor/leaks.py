"""Images that two splits share: the same file, nearly the same picture, the same scene on film.

A score on images that a network has seen in training says nothing about images it has not.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import mannwhitneyu, rankdata

NEAR_BITS = 10  # of 64; a crop of 2 % at each side changes up to 10, another image 28 in the median
NEAR_CORRELATION = 0.85  # of the thumbnails' detail; such a crop leaves 0.89, others reach 0.6
FLAT = 0.5  # grey levels of detail below which an image has nothing to be compared by
VIDEO_LEVEL = 0.001  # of the test that numbered files are a video, over all prefixes together
VIDEO_LAG = 10  # frames; more would take numbering by class or season for a video
VIDEO_ODDS = 0.8  # that successive frames are more alike than those VIDEO_LAG apart
BORDER_ODDS = 0.75  # that neighbours in two splits are more alike than frames far apart
BORDER_EXCESS = 1.5  # times the distance of 95 % of such neighbours within a split
MIN_PAIRS = 20  # of successive frames for a test of their own
MAX_STEPS = 3  # between neighbours in two splits, in usual distances of frames within one
MAX_FRAMES = 500  # of a prefix and split that are looked at for what is far apart

_SIDE, _SMALL = 32, 16
_BLOCK = 2048, 8192  # pairs compared at once: 64 MiB of float32


class Fingerprint(NamedTuple):
    """What is kept of an image to find it again.

    Args:
        digest: 16 bytes of shape, type and pixels: equal where they are.
        hash: 64 bits of the coarse structure, few of which change when the image is re-encoded.
        thumbnail: float32 `(16, 16)`, grey levels 0 ... 255.
    """

    digest: bytes
    hash: int
    thumbnail: NDArray[np.float32]


class Twins(NamedTuple):
    """Two images that are alike: their indices, and how many of 64 bits differ."""

    a: int
    b: int
    distance: int


class Continuation(NamedTuple):
    """Frames of one video in two splits.

    Args:
        prefix: of the names, up to the frame number.
        count_a, count_b: files with this prefix.
        gap: frame numbers between the nearest two across the border.
        name_a, name_b: these two.
        border: median distance of neighbours across the border, 0 (alike) ... 2 (inverse):
            1 less the correlation of the thumbnails.
        unrelated: median distance of frames far apart, one from each split.
    """

    prefix: str
    count_a: int
    count_b: int
    gap: int
    name_a: str
    name_b: str
    border: float
    unrelated: float


def grey(image: NDArray) -> NDArray:
    """Weigh the first three channels into one, as ITU-R BT.601 does; of fewer take the first.

    Shape: `(H, W, C)`, uint8 or float 0 ... 1, to `(H, W)`, uint8 or float32 0 ... 255.
    """
    if image.dtype != np.uint8:
        image = np.float32(255) * image.astype(np.float32)
    if image.shape[-1] < 3:
        return image[..., 0]
    return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)


def fingerprint(image: NDArray) -> Fingerprint:
    """Take the fingerprint of an image.

    The hash is Zauner's pHash (Implementation and Benchmarking of Perceptual Image Hash Functions,
    2010) in its common form: the 8x8 lowest frequencies of the 32x32 grey image against their
    median.

    Shape: `(H, W, C)` of any number of channels, uint8 or float 0 ... 1.
    """
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    small = cv2.resize(grey(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float32)
    lowest = cv2.dct(small)[:8, :8]
    bits = np.packbits(lowest > np.median(lowest))
    thumbnail = cv2.resize(small, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    return Fingerprint(digest.digest(), int.from_bytes(bits.tobytes(), "big"), thumbnail)


def identical(
    prints_a: Sequence[Fingerprint], prints_b: Sequence[Fingerprint] | None = None
) -> list[Twins]:
    """Find the images of b that are in a, pixel by pixel.

    Args:
        prints_b: None looks within a, for images that an earlier one (`Twins.a`) equals.

    Returns:
        Each such image of b once, with the first of a that it equals.
    """
    first: dict[bytes, int] = {}
    for index, mark in enumerate(prints_a):
        first.setdefault(mark.digest, index)
    pairs = [
        Twins(first[mark.digest], index, 0)
        for index, mark in enumerate(prints_a if prints_b is None else prints_b)
        if mark.digest in first
    ]
    return [pair for pair in pairs if prints_b is not None or pair.a < pair.b]


def near_identical(
    prints_a: Sequence[Fingerprint], prints_b: Sequence[Fingerprint] | None = None
) -> list[Twins]:
    """Find the images of b that are an image of a but for size, encoding, brightness or a trim.

    Two images are so alike where at most NEAR_BITS = 10 bits of their hashes differ and the
    detail of their thumbnails (less their own blur, as all street scenes are bright above and
    dark below) correlates by NEAR_CORRELATION = 0.85 or more. Images without detail match none.

    Args:
        prints_b: None looks within a, for images that are like an earlier one (`Twins.a`).

    Returns:
        Each such image of b once, with the image of a that it is most like; those that are
        `identical` to one are left out.
    """
    same = {pair.b for pair in identical(prints_a, prints_b)}
    within = prints_b is None
    prints_b = prints_a if prints_b is None else prints_b
    signs_a, signs_b = _signs(prints_a), _signs(prints_b)
    detail_a = _detail(prints_a)
    detail_b = detail_a if within else _detail(prints_b)
    best = np.full(len(prints_b), NEAR_CORRELATION, np.float32)
    partner = np.full(len(prints_b), -1)
    rows, columns = _BLOCK
    for top in range(0, len(prints_a), rows):
        part = slice(top, top + rows)
        for left in range(0, len(prints_b), columns):
            # With bits as -1 and +1 the scalar product counts 64 less twice the differences.
            near = signs_a[part] @ signs_b[left : left + columns].T >= 64 - 2 * NEAR_BITS
            if within:  # a pair once, and none with itself
                near = np.triu(near, 1 + top - left)
            hits = np.flatnonzero(near.any(axis=0))
            if not hits.size:
                continue
            likeness = detail_a[part] @ detail_b[left + hits].T
            likeness[~near[:, hits]] = -1
            winner = likeness.argmax(axis=0)
            value = likeness[winner, np.arange(len(hits))]
            better = value >= best[left + hits]
            best[left + hits[better]] = value[better]
            partner[left + hits[better]] = top + winner[better]
    return [
        Twins(int(a), b, (prints_a[a].hash ^ prints_b[b].hash).bit_count())
        for b, a in enumerate(partner)
        if a >= 0 and b not in same
    ]


def _signs(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """Bits as -1 and +1, `(N, 64)`."""
    words = b"".join(mark.hash.to_bytes(8, "big") for mark in prints)
    bits = np.unpackbits(np.frombuffer(words, np.uint8)).reshape(-1, 64)
    return 2 * bits.astype(np.float32) - 1


def _detail(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """What a thumbnail has beyond its blur, as a unit vector; zero where there is nothing."""
    stack = _thumbnails(prints)
    stack -= gaussian_filter(stack, (0, 2, 2))
    return _unit(stack)


def _thumbnails(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    return np.array([mark.thumbnail for mark in prints], np.float32).reshape(-1, _SMALL, _SMALL)


def _unit(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flatten, centre and scale each picture, so that scalar products are correlations."""
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    length[length < FLAT * _SMALL] = np.inf
    return flat / length


class _Frames(NamedTuple):
    """The files of a prefix in a split, by frame number."""

    numbers: NDArray[np.int64]
    names: list[str]
    looks: NDArray[np.float32]  # unit thumbnails


def continued_scenes(
    names_a: Sequence[str],
    prints_a: Sequence[Fingerprint],
    names_b: Sequence[str],
    prints_b: Sequence[Fingerprint],
) -> list[Continuation]:
    """Find videos whose frames are in both splits, such as `0016E5` in CamVid's train and val.

    Names are a prefix and a frame number (`0016E5_07959`, `seq1/0042`; what all names end in
    does not count). Two things must hold:

    - The files of a prefix are a video: successive ones are more alike than those VIDEO_LAG = 10
      files (or half the split) apart, by Mann and Whitney's rank test at VIDEO_LEVEL = 0.001
      (divided by the number of tests; of ranks within each split) and with odds of
      VIDEO_ODDS = 0.8 or more. Prefixes of less than MIN_PAIRS = 20 pairs of frames are tested
      together.
    - It goes on in b: the numbers do (most are new, and some within MAX_STEPS = 3 usual steps),
      and neighbours across the border are more alike than frames far apart, with odds of
      BORDER_ODDS = 0.75 or more, and at no more than BORDER_EXCESS = 1.5 times the distance of
      95 % of the frames that are as many numbers apart in the larger split.

    Returns:
        One entry a prefix, in the order of their names.
    """
    ending = _common_ending([*names_a, *names_b])
    videos_a = _sequences(names_a, prints_a, ending)
    videos_b = _sequences(names_b, prints_b, ending)
    shared = sorted(videos_a.keys() & videos_b.keys())
    groups: dict[str | None, list[str]] = defaultdict(list)
    for key in shared:
        pairs = len(videos_a[key].names) // 2 + len(videos_b[key].names) // 2
        groups[key if pairs >= MIN_PAIRS else None].append(key)
    found = []
    for group in groups.values():
        splits = [videos[key] for key in group for videos in (videos_a, videos_b)]
        if _is_video(splits, VIDEO_LEVEL / len(groups)):
            found += [_continuation(key, videos_a[key], videos_b[key]) for key in group]
    return sorted(entry for entry in found if entry)


def _common_ending(names: Sequence[str]) -> str:
    """What all names end in, such as `_leftImg8bit`, but no part of a number."""
    ending = ""
    for letters in zip(*(reversed(name) for name in names), strict=False):
        if len(set(letters)) > 1:
            break
        ending = letters[0] + ending
    return ending.lstrip("0123456789")


def _sequences(
    names: Sequence[str], prints: Sequence[Fingerprint], ending: str
) -> dict[str, _Frames]:
    members = defaultdict(list)
    for index, name in enumerate(names):
        match = re.fullmatch(r"(.*?)(\d+)", name.removesuffix(ending), re.DOTALL)
        if match:  # 18 digits are what an int64 holds
            members[match[1]].append((int(match[2][-18:]), name, prints[index]))
    sequences = {}
    for key, files in members.items():
        files.sort(key=lambda file: file[:2])
        numbers, stems, marks = zip(*files, strict=True)
        sequences[key] = _Frames(np.array(numbers), list(stems), _unit(_thumbnails(marks)))
    return sequences


def _is_video(splits: Sequence[_Frames], level: float) -> bool:
    near, far = [], []
    for frames in splits:
        count = len(frames.names)
        lag = max(1, min(VIDEO_LAG, count // 2))
        start = np.arange(max(0, count - lag))
        # Each image is in one pair of either kind, so that pairs are independent of each other.
        successive = _likeness(frames.looks, np.arange(0, count - 1, 2), 1)
        later = _likeness(frames.looks, start[start // lag % 2 == 0], lag)
        # Ranks, as splits may differ in speed.
        ranks = rankdata([*successive, *later]) / max(1, len(successive) + len(later))
        near.append(ranks[: len(successive)])
        far.append(ranks[len(successive) :])
    alike, apart = np.concatenate(near), np.concatenate(far)
    if not alike.size:
        return False
    test = mannwhitneyu(alike, apart, alternative="greater")
    return bool(test.pvalue < level and _odds(alike, apart) >= VIDEO_ODDS)


def _likeness(looks: NDArray[np.float32], start: NDArray[np.intp], lag: int) -> NDArray:
    return (looks[start] * looks[start + lag]).sum(axis=1)


def _odds(alike: NDArray, apart: NDArray) -> float:
    """How often one of the first is more than one of the second."""
    return float(mannwhitneyu(alike, apart).statistic) / (len(alike) * len(apart))


def _continuation(prefix: str, a: _Frames, b: _Frames) -> Continuation | None:
    after = np.searchsorted(a.numbers, b.numbers).clip(max=len(a.numbers) - 1)
    before = (after - 1).clip(min=0)
    gap_after, gap_before = (abs(a.numbers[side] - b.numbers) for side in (after, before))
    nearest = np.where(gap_before <= gap_after, before, after)
    gaps = np.minimum(gap_after, gap_before)
    step = max(_step(a), _step(b))
    renumbered = (gaps == 0).sum() > min(len(a.names), len(b.names)) / 2
    if renumbered or gaps.min() > MAX_STEPS * step:
        return None
    border = np.flatnonzero(gaps <= 1.5 * max(step, gaps.min()))
    neighbours = (a.looks[nearest[border]] * b.looks[border]).sum(axis=1)
    some_a, some_b = (slice(None, None, 1 + len(f.names) // MAX_FRAMES) for f in (a, b))
    away = abs(a.numbers[some_a, None] - b.numbers[some_b])
    strangers = (a.looks[some_a] @ b.looks[some_b].T)[away >= np.median(away)]
    distance = float(1 - np.median(neighbours))
    usual = _usual_distance(a if len(a.names) >= len(b.names) else b, np.median(gaps[border]))
    if distance > BORDER_EXCESS * usual or _odds(neighbours, strangers) < BORDER_ODDS:
        return None
    at = int(gaps.argmin())
    return Continuation(
        prefix, len(a.names), len(b.names), int(gaps[at]), a.names[nearest[at]], b.names[at],
        distance, float(1 - np.median(strangers)),
    )  # fmt: skip


def _usual_distance(frames: _Frames, gap: float) -> float:
    """What 95 % of the frames of one split that are so far apart do not exceed."""
    lag = max(1, round(gap / max(_step(frames), 1)))
    likeness = _likeness(frames.looks, np.arange(len(frames.names) - lag), lag)
    return float(1 - np.quantile(likeness, 0.05)) if likeness.size else 2.0


def _step(frames: _Frames) -> float:
    """The usual distance of two successive frame numbers."""
    return float(np.median(np.diff(frames.numbers))) if len(frames.names) > 1 else 0.0
