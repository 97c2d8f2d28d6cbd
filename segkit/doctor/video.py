"""Frames of one video in two splits: a scene that continues from training into validation."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from segkit.doctor.fingerprint import Fingerprint, thumbnails, unit_vectors

VIDEO_LAG = 10  # frames; more would take numbering by class or season for a video
VIDEO_ODDS = 0.8  # that successive frames are more alike than those VIDEO_LAG apart
BORDER_ODDS = 0.75  # that neighbours in two splits are more alike than frames far apart
BORDER_EXCESS = 1.5  # times the distance of 95 % of such neighbours within a split
MIN_PAIRS = 20  # of successive frames; by chance one set in 1500 then reaches VIDEO_ODDS
MAX_STEPS = 3  # between neighbours in two splits, in usual distances of frames within one
MAX_FRAMES = 500  # of a prefix and split that are looked at for what is far apart


class Continuation(NamedTuple):
    """Frames of one video in two splits; a distance is 1 less the correlation of thumbnails."""

    prefix: str  # what the names have before the frame number
    count_a: int  # files with this prefix
    count_b: int
    gap: int  # difference of the nearest two frame numbers across the border
    name_a: str  # names of these two
    name_b: str
    border: float  # median distance of neighbours across the border
    unrelated: float  # median distance of frames far apart, one from each split


class _Frames(NamedTuple):
    """The files of a split that share a prefix, sorted by frame number."""

    numbers: NDArray[np.int64]
    names: list[str]
    looks: NDArray[np.float32]  # unit thumbnails
    step: float  # the median distance of successive numbers

    def likeness(self, start: NDArray[np.intp], lag: int) -> NDArray[np.float32]:
        """Correlate frames with those `lag` files later."""
        return np.einsum("nd,nd->n", self.looks[start], self.looks[start + lag])


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
      files (or half the split) apart, with odds of VIDEO_ODDS = 0.8 or more. Prefixes of fewer than
      MIN_PAIRS = 20 pairs of frames are tested together, and need as many.
    - It continues in b: the numbers do (most are new, and some within MAX_STEPS = 3 usual steps),
      and neighbours across the border are more alike than frames far apart, with odds of
      BORDER_ODDS = 0.75 or more, and at no more than BORDER_EXCESS = 1.5 times the distance of
      95 % of the frames that are as many numbers apart in the larger split.

    Whatever looks like a video is taken for one, for example pictures that are sorted by class and
    numbered, with fewer than about 30 of each class in a split. Each prefix is one entry, sorted.
    """
    # what all names end in, such as _leftImg8bit, but no part of a number
    reverse = [name[::-1] for name in (*names_a, *names_b)]
    ending = os.path.commonprefix(reverse)[::-1].lstrip("0123456789")  # noqa: RUF071
    videos_a = _sequences(names_a, prints_a, ending)
    videos_b = _sequences(names_b, prints_b, ending)
    groups = defaultdict(list)
    for prefix in videos_a.keys() & videos_b.keys():
        a, b = videos_a[prefix], videos_b[prefix]
        pairs = len(a.names) // 2 + len(b.names) // 2
        groups[prefix if pairs >= MIN_PAIRS else None].append((prefix, a, b))
    found = [
        _continuation(*video)
        for videos in groups.values()
        if _are_videos([frames for _, *splits in videos for frames in splits])
        for video in videos
    ]
    return sorted(entry for entry in found if entry)


def find_videos(names: Sequence[str], prints: Sequence[Fingerprint]) -> list[str]:
    """Return the prefixes of names whose numbered files are frames of a video, sorted."""
    videos = _sequences(names, prints, "")
    several = {prefix: frames for prefix, frames in videos.items() if len(frames.names) > 2}
    return sorted(several) if _are_videos(list(several.values())) else []


def _sequences(
    names: Sequence[str], prints: Sequence[Fingerprint], ending: str
) -> dict[str, _Frames]:
    members = defaultdict(list)
    for name, mark in zip(names, prints, strict=True):
        match = re.fullmatch(r"(.*?)(\d+)", name.removesuffix(ending), re.DOTALL)
        if match:  # 18 digits are what an int64 holds
            members[match[1]].append((int(match[2][-18:]), name, mark))
    sequences = {}
    for prefix, files in members.items():
        files.sort(key=lambda file: file[:2])
        numbers, stems, marks = zip(*files, strict=True)
        step = float(np.median(np.diff(numbers))) if len(files) > 1 else 0.0
        looks = unit_vectors(thumbnails(marks))
        sequences[prefix] = _Frames(np.array(numbers), list(stems), looks, step)
    return sequences


def _are_videos(splits: Sequence[_Frames]) -> bool:
    """Whether successive frames are alike; of each split by itself, as they may differ in speed."""
    pairs, odds = [], []
    for frames in splits:
        count = len(frames.names)
        if count > 1:
            # Each image is in one pair of either kind, so that pairs are independent of each other.
            lag = min(VIDEO_LAG, count // 2)
            start = np.arange(count - lag)
            later = frames.likeness(start[start // lag % 2 == 0], lag)
            successive = frames.likeness(np.arange(0, count - 1, 2), 1)
            pairs.append(len(successive))
            odds.append(_odds(successive, later))
    return sum(pairs) >= MIN_PAIRS and bool(np.average(odds, weights=pairs) >= VIDEO_ODDS)


def _odds(alike: NDArray, apart: NDArray) -> float:
    """Return how often a value of the first exceeds one of the second."""
    return float(mannwhitneyu(alike, apart).statistic) / (len(alike) * len(apart))


def _continuation(prefix: str, a: _Frames, b: _Frames) -> Continuation | None:
    after = np.searchsorted(a.numbers, b.numbers).clip(max=len(a.numbers) - 1)
    before = (after - 1).clip(min=0)
    gap_after, gap_before = (abs(a.numbers[side] - b.numbers) for side in (after, before))
    nearest = np.where(gap_before <= gap_after, before, after)
    gaps = np.minimum(gap_after, gap_before)
    step = max(a.step, b.step)
    renumbered = (gaps == 0).sum() > min(len(a.names), len(b.names)) / 2
    if renumbered or gaps.min() > MAX_STEPS * step:
        return None
    border = np.flatnonzero(gaps <= 1.5 * max(step, gaps.min()))
    neighbours = (a.looks[nearest[border]] * b.looks[border]).sum(axis=1)
    some_a, some_b = (slice(None, None, 1 + len(f.names) // MAX_FRAMES) for f in (a, b))
    away = abs(a.numbers[some_a, None] - b.numbers[some_b])
    strangers = (a.looks[some_a] @ b.looks[some_b].T)[away >= np.median(away)]
    longer = a if len(a.names) >= len(b.names) else b
    lag = max(1, round(np.median(gaps[border]) / max(longer.step, 1)))
    within = longer.likeness(np.arange(len(longer.names) - lag), lag)
    usual = 1 - np.quantile(within, 0.05) if within.size else 2.0
    distance = float(1 - np.median(neighbours))
    if distance > BORDER_EXCESS * usual or _odds(neighbours, strangers) < BORDER_ODDS:
        return None
    at = int(gaps.argmin())
    return Continuation(
        prefix, len(a.names), len(b.names), int(gaps[at]), a.names[nearest[at]], b.names[at],
        distance, float(1 - np.median(strangers)),
    )  # fmt: skip
