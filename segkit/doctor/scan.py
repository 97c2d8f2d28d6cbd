"""Facts about every file of a data set, gathered by reading each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.data.images import read_image
from segkit.data.inspect import MaskFacts, channel_sums, inspect_mask
from segkit.data.label_map import LabelMap
from segkit.data.pairs import Listing, Pair, Pairs, list_files
from segkit.data.parallel import parallel_map
from segkit.doctor.distant import CELL, coarse_correlation, distant_shift
from segkit.doctor.fingerprint import Fingerprint, fingerprint
from segkit.doctor.shift import Shift, edge_correlation, estimate_shift
from segkit.errors import UserError

SHIFT_SAMPLES = 400  # pairs of a split whose edges are compared; more add little certainty
FAR_SAMPLES = 100  # of them that are read again where masks are shifted far


@dataclass
class Facts:
    """Facts about an image and its mask."""

    mask: MaskFacts
    image_error: str | None = None  # why the image cannot be used
    image_size: tuple[int, int] | None = None  # (H, W)
    constant: bool = False  # of one colour
    channels: NDArray[np.float64] | None = None  # see `channel_sums`, (3, C)
    fingerprint: Fingerprint | None = None
    descriptor: NDArray[np.float32] | None = None  # if asked for, see `describe_splits`
    edges: NDArray[np.float32] | None = None  # see `edge_correlation`; None for most pairs
    far_edges: NDArray[np.float32] | None = None  # see `coarse_correlation`; the same


@dataclass
class SplitFacts:
    """A split as it lies on disk."""

    name: str
    error: str = ""  # why its files could not be listed
    listing: Listing | None = None
    facts: list[Facts] = field(default_factory=list)  # of each pair, once scanned
    shift: Shift | None = None  # of the masks, if it can be told
    encoder: str = ""  # that the descriptors are from

    @property
    def pairs(self) -> Pairs:
        """The pairs, in the order of `facts`."""
        return self.listing.pairs if self.listing else Pairs(Path(), Path(), [])

    def __iter__(self) -> Iterator[tuple[Pair, Facts]]:
        return zip(self.pairs, self.facts, strict=True)


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
    """Read every pair and fill in the facts; `channels` is what the model expects, if known."""
    labels = LabelMap(card)
    seen: dict[tuple[Path, Path], Facts] = {}  # splits may overlap, as train and trainval do
    for split in splits:
        pairs = split.pairs
        every = max(1, len(pairs) // SHIFT_SAMPLES)

        def inspect(index: int, pairs: Pairs = pairs, every: int = every) -> Facts:
            pair = pairs[index]
            known = seen.get((pair.image, pair.mask))
            return known or _inspect(pair, card, labels, channels, edges=index % every == 0)

        for facts in parallel_map(inspect, len(pairs)):
            split.facts.append(facts)
            on_pair()
        split.shift = _measure_shift(split, card, labels, channels)
        seen.update({(pair.image, pair.mask): facts for pair, facts in split})


def _inspect(pair: Pair, card: Card, labels: LabelMap, channels: int | None, edges: bool) -> Facts:
    mask_facts, mask = inspect_mask(pair.mask, labels)
    try:
        image = read_image(pair.image, channels, card.image_max)
    except UserError as error:
        return Facts(mask_facts, image_error=str(error))
    size = image.shape[0], image.shape[1]
    near = far = None
    if edges and mask is not None and size == mask.shape and min(size) > 1:
        near, far = edge_correlation(image, mask), coarse_correlation(image, mask)
    return Facts(
        mask_facts,
        image_size=size,
        constant=bool((image == image[:1, :1]).all()),
        channels=channel_sums(image),
        fingerprint=fingerprint(image),
        edges=near,
        far_edges=far,
    )


def _measure_shift(
    split: SplitFacts, card: Card, labels: LabelMap, channels: int | None
) -> Shift | None:
    """Measure how masks are shifted; where that is far, by reading some pairs again."""
    near = estimate_shift([facts.edges for facts in split.facts])
    found = [(pair, facts.far_edges) for pair, facts in split if facts.far_edges is not None]
    place = distant_shift([surface for _, surface in found])
    if place is None or (near is not None and max(map(abs, place)) <= CELL):
        return near
    chosen = [pair for pair, _ in found][:: 1 + len(found) // FAR_SAMPLES]

    def measure(index: int) -> NDArray[np.float32] | None:
        image = read_image(chosen[index].image, channels, card.image_max)
        return edge_correlation(image, labels.read(chosen[index].mask), place)

    return estimate_shift(list(parallel_map(measure, len(chosen))), around=place) or near
