"""Leaks: images that a network would be evaluated on after training on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

import numpy as np

from segkit.data.pairs import Pair
from segkit.doctor.finding import Finding, Severity
from segkit.doctor.fingerprint import (
    NEAR_BITS,
    NEAR_CORRELATION,
    Fingerprint,
    identical,
    near_identical,
)
from segkit.doctor.look_alikes import ALIKE, look_alikes
from segkit.doctor.scan import SplitFacts
from segkit.doctor.video import continued_scenes

PICTURES = 3  # pairs of images shown for each finding


def duplicates(split: SplitFacts) -> Iterator[Finding]:
    """Find copies within a split."""
    pairs, prints = _fingerprinted(split)
    twins = [(pairs[t.a], pairs[t.b]) for t in identical(prints)]
    if twins:
        text = f"{len(twins)} of {len(split.facts)} images are copies of others in the split"
        yield _shown("warning", "duplicates", split.name, text, twins)


def leaks(splits: Sequence[SplitFacts]) -> Iterator[Finding]:
    """Find images of one split in another: copies, near copies, and frames of one video."""
    for a, b in combinations(splits, 2):
        if not _are_alternatives(a, b):
            yield from _leaks(a, b)


def _leaks(a: SplitFacts, b: SplitFacts) -> Iterator[Finding]:
    both = f"{a.name} and {b.name}"
    pairs_a, prints_a = _fingerprinted(a)
    pairs_b, prints_b = _fingerprinted(b)
    if not prints_a or not prints_b:
        return
    same, near = (
        [(pairs_a[twins.a], pairs_b[twins.b]) for twins in find(prints_a, prints_b)]
        for find in (identical, near_identical)
    )
    if same:
        text = (
            f"{len(same)} of {len(prints_b)} images of {b.name} are in {a.name} as well; take them "
            "out of one"
        )
        yield _shown("error", "leak", both, text, same)
    if near:
        text = (
            f"{len(near)} of {len(prints_b)} images of {b.name} are nearly the same as one of "
            f"{a.name}: at most {NEAR_BITS} of 64 bits of a perceptual hash differ, and their "
            f"thumbnails correlate by {NEAR_CORRELATION} or more; a score on {b.name} will flatter"
        )
        yield _shown("warning", "near leak", both, text, near)
    names_a, names_b = [pair.name for pair in pairs_a], [pair.name for pair in pairs_b]
    scenes = continued_scenes(names_a, prints_a, names_b, prints_b)
    told = {pair_b.name for _, pair_b in (*same, *near)}
    yield from _look_alikes(a, b, told, [scene.prefix for scene in scenes])
    for scene in scenes:
        image_a = pairs_a[names_a.index(scene.name_a)].image
        image_b = pairs_b[names_b.index(scene.name_b)].image
        video = f"the video '{scene.prefix}'" if scene.prefix else "one video (names are numbers)"
        text = (
            f"{b.name} continues a scene of {a.name}: {scene.count_b} of {len(b.facts)} frames of "
            f"{b.name} and {scene.count_a} of {len(a.facts)} of {a.name} are of {video}, "
            f"the nearest {scene.gap} apart ({scene.name_a} and {scene.name_b}); "
            f"neighbours across the border look alike (median distance {scene.border:.2f}, frames "
            f"far apart {scene.unrelated:.2f}); a score on {b.name} says little about unseen places"
        )
        pictures = ((str(image_a), str(image_b)),)
        yield Finding("warning", "scene", both, text, scene.count_b, pictures=pictures)


def _look_alikes(
    a: SplitFacts, b: SplitFacts, told: Collection[str], prefixes: Sequence[str]
) -> Iterator[Finding]:
    """Find what looks alike to an encoder, other than images of b that are told of already.

    Frames of a video that continues from one split into the other are left out too.
    """
    described_a, described_b = (
        [(pair, facts.descriptor) for pair, facts in split if facts.descriptor is not None]
        for split in (a, b)
    )
    described_b = [(pair, vector) for pair, vector in described_b if pair.name not in told]
    if not described_a or not described_b:
        return
    pairs_a, vectors_a = zip(*described_a, strict=True)
    pairs_b, vectors_b = zip(*described_b, strict=True)
    videos_a, videos_b = (
        np.array([_video_of(pair.name, prefixes) for pair in pairs]) for pairs in (pairs_a, pairs_b)
    )
    found = look_alikes(np.array(vectors_a), np.array(vectors_b), videos_a, videos_b)
    if found:
        names = [
            f"{pairs_a[i].name} | {pairs_b[j].name}  {likeness:.2f}" for i, j, likeness in found
        ]
        pictures = tuple((str(pairs_a[i].image), str(pairs_b[j].image)) for i, j, _ in found)
        text = (
            f"{len(found)} of {len(b.facts)} images of {b.name} look to {a.encoder} like one of "
            f"{a.name}: the cosine similarity of their whitened descriptors is {ALIKE} or more, as "
            "that of mirrored, cropped and recoloured copies; look at the pairs, and keep copies "
            "in one split"
        )
        both = f"{a.name} and {b.name}"
        yield Finding.of("warning", "look-alikes", both, text, names, pictures[:PICTURES])


def _video_of(name: str, prefixes: Sequence[str]) -> int:
    """Return which of the videos a file is a frame of, or -1."""
    found = (
        i for i, p in enumerate(prefixes) if name.startswith(p) and name[len(p) :][:1].isdigit()
    )
    return next(found, -1)


def _are_alternatives(a: SplitFacts, b: SplitFacts) -> bool:
    """Whether splits share images on purpose: trainval includes val, train_aug is a train."""
    if a.name.startswith("train") and b.name.startswith("train"):
        return True
    files_a, files_b = ({pair.image for pair in split.pairs} for split in (a, b))
    held = [(a, b)] * (files_a <= files_b) + [(b, a)] * (files_b <= files_a)
    # but a val within train is a leak, the worst there is
    return bool(held) and not any(
        outer.name.startswith("train") and inner.name not in outer.name for inner, outer in held
    )


def _fingerprinted(split: SplitFacts) -> tuple[list[Pair], list[Fingerprint]]:
    found = [(pair, facts.fingerprint) for pair, facts in split if facts.fingerprint]
    return [pair for pair, _ in found], [mark for _, mark in found]


def _shown(
    severity: Severity, check: str, split: str, text: str, twins: Sequence[tuple[Pair, Pair]]
) -> Finding:
    names = [f"{a.name} | {b.name}" for a, b in twins]
    pictures = tuple((str(a.image), str(b.image)) for a, b in twins[:PICTURES])
    return Finding.of(severity, check, split, text, names, pictures)
