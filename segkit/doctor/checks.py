"""The checks of a data set's facts: what is an error, and what deserves a warning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from segkit.data.card import Card
from segkit.data.label_map import LabelMap
from segkit.data.pairs import explain_unpaired
from segkit.doctor.finding import Finding, Severity
from segkit.doctor.leaks import duplicates, leaks
from segkit.doctor.scan import SplitFacts
from segkit.doctor.shift import NOTABLE
from segkit.labels import IGNORE

RARE = 0.001  # share of the valid pixels below which a class is called rare
MUCH_VOID = 0.5  # share of a split's pixels


def check(card: Card, splits: Sequence[SplitFacts], needed: Sequence[str]) -> list[Finding]:
    """Return all that is wrong with scanned splits, errors first.

    The absence of a needed split is an error, that of another a warning.
    """
    findings: list[Finding] = []
    for split in splits:
        findings += [*_files(card, split, needed), *_labels(card, split)]
        findings += [*_contents(card, split), *duplicates(split)]
    findings += chain(leaks(splits), *map(_shifts, splits))
    return sorted(findings, key=lambda finding: finding.severity)  # "error" < "warning"


def _files(card: Card, split: SplitFacts, needed: Sequence[str]) -> Iterator[Finding]:
    if split.listing is None:
        severity: Severity = "error" if split.name in needed else "warning"
        yield Finding(severity, "missing", split.name, split.error)
        return
    listing = split.listing
    if listing.doubles:
        text = f"names that are not unique: {len(listing.doubles)}"
        yield Finding.of("error", "double names", split.name, text, listing.doubles)
    if listing.without_mask or listing.without_image or not listing.pairs.files:
        lonely = [*listing.without_mask, *listing.without_image]
        text = explain_unpaired(card, split.name, listing)
        yield Finding.of("error", "pairing", split.name, text, lonely)

    images = [facts.image_error for facts in split.facts if facts.image_error]
    yield from _some("error", "images", split, "images cannot be used", images)
    masks = [facts.mask.error for facts in split.facts if facts.mask.error]
    yield from _some("error", "masks", split, "masks cannot be used", masks)
    sizes = [
        f"{pair.image} is {_size(facts.image_size)} but {pair.mask} is {_size(facts.mask.size)}"
        for pair, facts in split
        if facts.image_size and facts.mask.size and facts.image_size != facts.mask.size
    ]
    what = "pairs differ in size (H x W); they must show the same pixels"
    yield from _some("error", "sizes", split, what, sizes)


def _labels(card: Card, split: SplitFacts) -> Iterator[Finding]:
    """Check for labels that the card does not name."""
    labels = LabelMap(card)
    unknown: Counter[int] = Counter()
    pixels, files, seen = 0, [], set()
    for pair, facts in split:
        mask = facts.mask
        if mask.size:
            pixels += mask.size[0] * mask.size[1]
        if mask.pixels is not None:
            seen |= {card.class_names[i] for i in np.flatnonzero(mask.pixels[:-1])}
        if mask.unknown:
            unknown.update(mask.unknown.pixels)
            seen |= mask.unknown.seen
            files.append(pair.mask)
    if not unknown:
        return
    common = dict(unknown.most_common(20))
    text = (
        f"{len(files)} of {len(split.facts)} masks hold labels the card does not name: "
        f"{labels.describe(unknown, pixels)}; name their class or ignore them in the card, e.g. "
        f"{labels.proposal(common, seen)}"
    )
    yield Finding.of("error", "labels", split.name, text, files)


def _contents(card: Card, split: SplitFacts) -> Iterator[Finding]:
    """Check for masks and images that can be read but hardly learned from."""
    counted = [(p.mask, f.mask.pixels) for p, f in split if f.mask.pixels is not None]
    empty = [path for path, pixels in counted if not pixels[:-1].any()]
    yield from _some("warning", "empty masks", split, "masks are void everywhere", empty)
    single = [path for path, pixels in counted if np.count_nonzero(pixels[:-1]) == 1]
    yield from _some("warning", "single class", split, "masks hold a single class", single)
    constant = [pair.image for pair, facts in split if facts.constant]
    yield from _some("warning", "constant", split, "images are of one colour all over", constant)
    if not counted:
        return

    total = np.sum([pixels for _, pixels in counted], axis=0)
    valid, void = int(total[:-1].sum()), int(total[-1])
    names = np.array(card.class_names)
    ignored = [str(key) for key, name in card.label_map.items() if name == IGNORE]
    missing = names[total[:-1] == 0].tolist()
    if missing:
        text = f"no pixel of {', '.join(missing)}"
        if void:
            share = void / (valid + void)
            text += (
                f", while {share:.1%} of the pixels are ignored ({', '.join(ignored)}): check that "
                "label_map does not ignore a class"
            )
        text += "; a score there counts the other classes alone"
        yield Finding("warning", "missing classes", split.name, text, len(missing), tuple(missing))
    rare = [
        f"{name} {count / valid:.3%}"
        for name, count in zip(names, total[:-1], strict=True)
        if 0 < count < RARE * valid
    ]
    if rare:
        text = f"under {RARE:.1%} of the pixels: {', '.join(rare)}; see train.loss.class_weights"
        yield Finding("warning", "rare classes", split.name, text, len(rare), tuple(rare))
    if void > MUCH_VOID * (valid + void):
        text = (
            f"{void / (valid + void):.1%} of the pixels are ignored ({', '.join(ignored)} in "
            "label_map): neither trained nor judged"
        )
        yield Finding("warning", "void", split.name, text)


def _shifts(split: SplitFacts) -> Iterator[Finding]:
    shift = split.shift
    if shift is not None and shift.is_shifted:
        sides = [
            f"{abs(value):.1f} px [{low:.1f}, {high:.1f}] {word[value > 0]}"
            for value, (low, high), word in (
                (shift.dx, shift.dx_interval, ("left", "right")),
                (shift.dy, shift.dy_interval, ("up", "down")),
            )
            if low > NOTABLE or high < -NOTABLE
        ]
        text = (
            f"masks lie {' and '.join(sides)} of their images, by the edges of {shift.images} of "
            "them (95 % intervals, right and down positive); shift them back, or look for a "
            "resize that moved them"
        )
        yield Finding("warning", "shift", split.name, text, shift.images)


def _some(
    severity: Severity, check: str, split: SplitFacts, what: str, files: Sequence[object]
) -> Iterator[Finding]:
    if files:
        text = f"{len(files)} of {len(split.facts)} {what}"
        yield Finding.of(severity, check, split.name, text, files)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
