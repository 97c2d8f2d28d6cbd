"""Reading every file of a data set once, and noting what there is to know about each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.data.doctor.leaks import Fingerprint, fingerprint
from segkit.data.doctor.shift import edge_correlation
from segkit.data.images import Pixels, read_image
from segkit.data.labels import IGNORE_INDEX, LabelMap, UnknownLabels
from segkit.data.pairs import Listing, Pair, Pairs, list_files
from segkit.data.parallel import in_parallel
from segkit.errors import UserError

SHIFT_SAMPLES = 400  # pairs of a split whose edges are compared; more add little certainty


@dataclass
class Facts:
    """What was found in an image and its mask.

    Args:
        image_error: why the image cannot be used.
        mask_error: why the mask cannot be used, unknown labels aside.
        image_size: (H, W).
        mask_size: (H, W).
        pixels: of each class, and of void as the last.
        unknown: pixels by label that the card does not name.
        seen: names of the classes beside those.
        constant: whether the image is of one colour.
        channels: number, sum and sum of squares of the pixels in each, white being 1, `(3, C)`.
        fingerprint: to find the image in another split.
        edges: how image and mask agree when moved against each other.
    """

    image_error: str | None = None
    mask_error: str | None = None
    image_size: tuple[int, int] | None = None
    mask_size: tuple[int, int] | None = None
    pixels: NDArray[np.int64] | None = None
    unknown: dict[int, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    constant: bool = False
    channels: NDArray[np.float64] | None = None
    fingerprint: Fingerprint | None = None
    edges: NDArray[np.float32] | None = None


@dataclass
class SplitFacts:
    """A split as it lies on disk.

    Args:
        name: of the split.
        error: why nothing could be listed.
        listing: the files, or None.
        facts: of each pair.
    """

    name: str
    error: str | None = None
    listing: Listing | None = None
    facts: list[Facts] = field(default_factory=list)

    @property
    def pairs(self) -> Pairs:
        """The pairs, one for each of `facts`."""
        return self.listing.pairs if self.listing else Pairs(Path(), Path(), [])


def list_splits(card: Card, names: Sequence[str]) -> list[SplitFacts]:
    """List the files of splits, without reading them."""
    splits = []
    for name in names:
        try:
            splits.append(SplitFacts(name, listing=list_files(card, name)))
        except UserError as error:
            splits.append(SplitFacts(name, error=str(error)))
    return splits


def scan(
    card: Card,
    splits: Sequence[SplitFacts],
    channels: int | None,
    on_pair: Callable[[], None] = lambda: None,
) -> None:
    """Read every pair and fill in the facts.

    Args:
        card: of the data set.
        splits: from `list_splits`.
        channels: the model's, or None for whatever the files hold.
        on_pair: called after each pair.
    """
    labels = LabelMap(card)
    seen: dict[tuple[Path, Path], Facts] = {}  # splits may overlap, as train and trainval do
    for split in splits:
        pairs = split.pairs
        every = max(1, len(pairs) // SHIFT_SAMPLES)

        def look(index: int, pairs: Pairs = pairs, every: int = every) -> Facts:
            pair = pairs[index]
            known = seen.get((pair.image, pair.mask))
            return known or _look(pair, card, labels, channels, edges=index % every == 0)

        for facts in in_parallel(look, len(pairs)):
            split.facts.append(facts)
            on_pair()
        seen.update({(p.image, p.mask): f for p, f in zip(pairs, split.facts, strict=True)})


def _look(pair: Pair, card: Card, labels: LabelMap, channels: int | None, edges: bool) -> Facts:
    facts = Facts()
    image = mask = None
    try:
        image = read_image(pair.image, channels, card.image_max)
        _look_at_image(image, facts)
    except UserError as error:
        facts.image_error = str(error)
    try:
        mask = labels.read(pair.mask)
        facts.mask_size = mask.shape
        counts = np.bincount(mask.ravel(), minlength=256)
        facts.pixels = np.append(counts[: card.num_classes], counts[IGNORE_INDEX])
    except UnknownLabels as error:
        facts.unknown, facts.seen, facts.mask_size = error.pixels, error.seen, error.size
    except UserError as error:
        facts.mask_error = str(error)
    if edges and image is not None and mask is not None and image.shape[:2] == mask.shape:
        facts.edges = edge_correlation(image, mask) if min(mask.shape) > 1 else None
    return facts


def _look_at_image(image: Pixels, facts: Facts) -> None:
    height, width, channels = image.shape
    facts.image_size = height, width
    pixels = image.reshape(-1, channels)
    facts.constant = bool((pixels == pixels[:1]).all())
    white = 255 if image.dtype == np.uint8 else 1
    shares = pixels / np.float32(white)
    number = np.full(channels, len(pixels), np.float64)
    squares = np.einsum("nc,nc->c", shares, shares, dtype=np.float64)
    facts.channels = np.stack([number, shares.sum(0, dtype=np.float64), squares])
    facts.fingerprint = fingerprint(image)
