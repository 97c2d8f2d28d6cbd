"""Images that a network would be judged on after having been trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

from segkit.data.doctor.finding import Finding, few
from segkit.data.doctor.leaks import (
    NEAR_BITS,
    NEAR_CORRELATION,
    Fingerprint,
    identical,
    near_identical,
)
from segkit.data.doctor.scan import SplitFacts
from segkit.data.doctor.video import Continuation, continued_scenes
from segkit.data.pairs import Pair

PICTURES = 3  # pairs of images shown for each finding


def duplicates(split: SplitFacts) -> Iterator[Finding]:
    """Look for copies within a split."""
    pairs, prints = _fingerprinted(split)
    twins = [(pairs[t.a], pairs[t.b]) for t in identical(prints)]
    if twins:
        text = f"{len(twins)} of {len(split.facts)} images are copies of others in the split"
        yield _shown("warning", "duplicates", split.name, text, twins, len(twins))


def leaks(splits: Sequence[SplitFacts]) -> Iterator[Finding]:
    """Look for images of one split in another: the same, nearly the same, the next of a video."""
    for a, b in combinations(splits, 2):
        if not _are_alternatives(a, b):
            yield from _leaks(a, b)


def _leaks(a: SplitFacts, b: SplitFacts) -> Iterator[Finding]:
    both = f"{a.name} and {b.name}"
    pairs_a, prints_a = _fingerprinted(a)
    pairs_b, prints_b = _fingerprinted(b)
    if not prints_a or not prints_b:
        return
    same = identical(prints_a, prints_b)
    if same:
        text = (
            f"{len(same)} of {len(prints_b)} images of {b.name} are in {a.name} as well; take them "
            "out of one"
        )
        twins = [(pairs_a[t.a], pairs_b[t.b]) for t in same]
        yield _shown("error", "leak", both, text, twins, len(same))
    near = near_identical(prints_a, prints_b)
    if near:
        concerned = len(near)
        text = (
            f"{concerned} of {len(prints_b)} images of {b.name} are nearly the same as one of "
            f"{a.name}: at most {NEAR_BITS} of 64 bits of a perceptual hash differ, and their "
            f"thumbnails correlate by {NEAR_CORRELATION} or more; a score on {b.name} will flatter"
        )
        twins = [(pairs_a[t.a], pairs_b[t.b]) for t in near]
        yield _shown("warning", "near leak", both, text, twins, concerned)
    names_a, names_b = [pair.name for pair in pairs_a], [pair.name for pair in pairs_b]
    for scene in continued_scenes(names_a, prints_a, names_b, prints_b):
        nearest = (
            pairs_a[names_a.index(scene.name_a)],
            pairs_b[names_b.index(scene.name_b)],
        )
        text, pictures = _tell(scene, a, b), ((str(nearest[0].image), str(nearest[1].image)),)
        yield Finding("warning", "scene", both, text, scene.count_b, pictures=pictures)


def _tell(scene: Continuation, a: SplitFacts, b: SplitFacts) -> str:
    return (
        f"{b.name} continues a scene of {a.name}: {scene.count_b} of {len(b.facts)} frames of "
        f"{b.name} and {scene.count_a} of {len(a.facts)} of {a.name} are of the video "
        f"'{scene.prefix}', the nearest {scene.gap} apart ({scene.name_a} and {scene.name_b}); "
        f"neighbours across the border look alike (median distance {scene.border:.2f}, frames far "
        f"apart {scene.unrelated:.2f}); a score on {b.name} says little about unseen places"
    )


def _are_alternatives(a: SplitFacts, b: SplitFacts) -> bool:
    """Tell whether sharing images is meant: trainval holds val, train_aug is another train."""
    if a.name.startswith("train") and b.name.startswith("train"):
        return True
    files_a, files_b = ({pair.image for pair in split.pairs} for split in (a, b))
    held = [(a, b)] * (files_a <= files_b) + [(b, a)] * (files_b <= files_a)
    # but a val within train is a leak, the worst there is
    return bool(held) and not any(
        outer.name.startswith("train") and inner.name not in outer.name for inner, outer in held
    )


def _fingerprinted(split: SplitFacts) -> tuple[list[Pair], list[Fingerprint]]:
    pairs, prints = [], []
    for pair, facts in zip(split.pairs, split.facts, strict=True):
        if facts.fingerprint:
            pairs.append(pair)
            prints.append(facts.fingerprint)
    return pairs, prints


def _shown(
    severity: Literal["error", "warning"],
    check: str,
    split: str,
    text: str,
    pairs: Sequence[tuple[Pair, Pair]],
    count: int,
) -> Finding:
    examples = few([f"{a.name} | {b.name}" for a, b in pairs])
    pictures = tuple((str(a.image), str(b.image)) for a, b in pairs[:PICTURES])
    return Finding(severity, check, split, text, count, examples, pictures)
