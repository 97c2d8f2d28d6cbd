"""Frames of one video in two splits: a scene that goes on from training into validation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, rankdata

from segkit.data.doctor.leaks import Fingerprint, thumbnails, unit

VIDEO_LEVEL = 0.001  # of the test that numbered files are a video, over all prefixes together
VIDEO_LAG = 10  # frames; more would take numbering by class or season for a video
VIDEO_ODDS = 0.8  # that successive frames are more alike than those VIDEO_LAG apart
BORDER_ODDS = 0.75  # that neighbours in two splits are more alike than frames far apart
BORDER_EXCESS = 1.5  # times the distance of 95 % of such neighbours within a split
MIN_PAIRS = 20  # of successive frames for a test of their own
MAX_STEPS = 3  # between neighbours in two splits, in usual distances of frames within one
MAX_FRAMES = 500  # of a prefix and split that are looked at for what is far apart


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

    What looks like a video is taken for one: pictures sorted by class and numbered through, with
    less than some 30 of each in a split.

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
        sequences[key] = _Frames(np.array(numbers), list(stems), unit(thumbnails(marks)))
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
