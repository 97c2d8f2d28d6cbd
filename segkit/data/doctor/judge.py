"""Judging the facts: what is an error, what deserves a warning, and how it is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from segkit.data.card import IGNORE, Card
from segkit.data.doctor.finding import Finding, few
from segkit.data.doctor.overlap import duplicates, leaks
from segkit.data.doctor.scan import Facts, SplitFacts
from segkit.data.doctor.shift import NOTABLE, estimate_shift
from segkit.data.labels import LabelMap
from segkit.data.pairs import explain_unpaired

RARE = 0.001  # share of the valid pixels below which a class is called rare
MUCH_VOID = 0.5  # share of a split's pixels


def judge(card: Card, splits: Sequence[SplitFacts], needed: Sequence[str]) -> list[Finding]:
    """Find all that is wrong with a data set, errors first.

    Args:
        card: of the data set.
        splits: scanned.
        needed: splits whose absence is an error.
    """
    findings = [
        finding
        for split in splits
        for finding in (
            *_files(card, split, needed),
            *_labels(card, split),
            *_contents(card, split),
            *duplicates(split),
        )
    ]
    findings += leaks(splits)
    findings += [finding for split in splits for finding in _shifts(split)]
    return sorted(findings, key=lambda finding: finding.severity)  # "error" < "warning"


def _files(card: Card, split: SplitFacts, needed: Sequence[str]) -> Iterator[Finding]:
    if split.listing is None:
        severity: Literal["error", "warning"] = "error" if split.name in needed else "warning"
        yield Finding(severity, "missing", split.name, split.error or "")
        return
    listing = split.listing
    if listing.doubles:
        several = f"names that are not unique: {len(listing.doubles)}"
        yield _several("double names", split, several, listing.doubles)
    if listing.without_mask or listing.without_image or not listing.pairs.files:
        lonely = [*listing.without_mask, *listing.without_image]
        text = explain_unpaired(card, split.name, listing)
        yield Finding("error", "pairing", split.name, text, len(lonely), few(lonely))

    def bad(errors: Sequence[str | None], check: str, what: str) -> Iterator[Finding]:
        found = [error for error in errors if error]
        if found:
            total = len(split.facts)
            yield _several(check, split, f"{len(found)} of {total} {what}", found)

    yield from bad([f.image_error for f in split.facts], "images", "images cannot be used")
    yield from bad([f.mask_error for f in split.facts], "masks", "masks cannot be used")
    sizes = [
        f"{pair.image} is {_size(f.image_size)} but {pair.mask} is {_size(f.mask_size)}"
        for pair, f in zip(split.pairs, split.facts, strict=True)
        if f.image_size and f.mask_size and f.image_size != f.mask_size
    ]
    yield from bad(sizes, "sizes", "pairs differ in size (H x W); they must show the same pixels")


def _labels(card: Card, split: SplitFacts) -> Iterator[Finding]:
    """Gather the labels that the card does not name over all masks."""
    labels = LabelMap(card)
    unknown: Counter[int] = Counter()
    pixels, files, seen = 0, [], set()
    for pair, facts in zip(split.pairs, split.facts, strict=True):
        if facts.mask_size and not facts.mask_error:
            pixels += facts.mask_size[0] * facts.mask_size[1]
        unknown.update(facts.unknown)
        seen |= facts.seen | _present(card, facts)
        if facts.unknown:
            files.append(str(pair.mask))
    if not unknown:
        return
    common = dict(unknown.most_common(20))
    text = (
        f"{len(files)} of {len(split.facts)} masks hold labels the card does not name: "
        f"{labels.describe(unknown, pixels)}; name their class or ignore them in the card, e.g. "
        f"{labels.proposal(common, seen)}"
    )
    yield Finding("error", "labels", split.name, text, len(files), few(files))


def _contents(card: Card, split: SplitFacts) -> Iterator[Finding]:
    """Warn of what can be read but hardly learned from."""
    counted = [
        (pair, facts.pixels)
        for pair, facts in zip(split.pairs, split.facts, strict=True)
        if facts.pixels is not None
    ]

    def files(check: str, what: str, which: Callable[[np.ndarray], bool]) -> Iterator[Finding]:
        names = [str(pair.mask) for pair, pixels in counted if which(pixels)]
        if names:
            text = f"{len(names)} of {len(split.facts)} masks {what}"
            yield Finding("warning", check, split.name, text, len(names), few(names))

    yield from files("empty masks", "are void everywhere", lambda p: p[:-1].sum() == 0)
    one = "hold a single class"
    yield from files("single class", one, lambda p: (p[:-1] > 0).sum() == 1)
    plain = [str(p.image) for p, f in zip(split.pairs, split.facts, strict=True) if f.constant]
    if plain:
        text = f"{len(plain)} of {len(split.facts)} images are of one colour all over"
        yield Finding("warning", "constant", split.name, text, len(plain), few(plain))
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
    shift = estimate_shift([facts.edges for facts in split.facts])
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


def _present(card: Card, facts: Facts) -> set[str]:
    if facts.pixels is None:
        return set()
    names = zip(card.class_names, facts.pixels[:-1], strict=True)
    return {name for name, count in names if count}


def _several(check: str, split: SplitFacts, what: str, sentences: Sequence[str]) -> Finding:
    return Finding("error", check, split.name, what, len(sentences), few(sentences))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
