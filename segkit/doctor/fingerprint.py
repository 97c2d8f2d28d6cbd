"""Fingerprints of images, by which copies and near copies are found.

A score on images that a network has seen in training says nothing about images it has not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segkit.data.images import to_grey

NEAR_BITS = 10  # of 64; a crop of 2 % at each side changes up to 10, another image 28 in the median
NEAR_CORRELATION = 0.85  # of the thumbnails' detail; such a crop leaves 0.89, others reach 0.6
FLAT = 0.5  # grey levels of detail below which an image has nothing to be compared by

_SIDE, _SMALL = 32, 16
_BLOCK = 2048, 8192  # pairs compared at once: 64 MiB of float32


class Fingerprint(NamedTuple):
    """A summary of an image, to find copies of it."""

    digest: bytes  # 16 bytes of shape, type and pixels: equal where they are
    hash: int  # 64 bits of the coarse structure, few of which change with the encoding
    thumbnail: NDArray[np.float32]  # (16, 16), grey levels 0 ... 255


class Twins(NamedTuple):
    """The indices of two images that are alike, and how many of 64 bits differ."""

    a: int
    b: int
    distance: int


def fingerprint(image: NDArray) -> Fingerprint:
    """Compute the fingerprint of an image.

    The hash is Zauner's pHash (Implementation and Benchmarking of Perceptual Image Hash Functions,
    2010) in its common form: the 8x8 lowest frequencies of the 32x32 grey image against their
    median.

    Shape: `(H, W, C)` of any number of channels, uint8 or float 0 ... 1.
    """
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    small = cv2.resize(to_grey(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float32)
    lowest = cv2.dct(small)[:8, :8]
    bits = np.packbits(lowest > np.median(lowest))
    thumbnail = cv2.resize(small, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    return Fingerprint(digest.digest(), int.from_bytes(bits.tobytes(), "big"), thumbnail)


def identical(
    prints_a: Sequence[Fingerprint], prints_b: Sequence[Fingerprint] | None = None
) -> list[Twins]:
    """Find the images of b that equal one of a; without b, images of a that equal an earlier one.

    Each comes once, with the first of a that it equals.
    """
    first = {mark.digest: index for index, mark in reversed(list(enumerate(prints_a)))}
    pairs = (
        Twins(first[mark.digest], index, 0)
        for index, mark in enumerate(prints_a if prints_b is None else prints_b)
        if mark.digest in first
    )
    return [pair for pair in pairs if prints_b is not None or pair.a < pair.b]


def near_identical(
    prints_a: Sequence[Fingerprint], prints_b: Sequence[Fingerprint] | None = None
) -> list[Twins]:
    """Find the images of b that differ from one of a only in size, encoding, brightness or a trim.

    Two images are that alike if at most NEAR_BITS = 10 bits of their hashes differ and the
    detail of their thumbnails (less their own blur, as all street scenes are bright above and
    dark below) correlates by NEAR_CORRELATION = 0.85 or more. Images without detail match none.

    Without b, images of a are compared to earlier ones. Each image that is not `identical` to one
    comes once, with the image of a that it is most like.
    """
    same = {pair.b for pair in identical(prints_a, prints_b)}
    within = prints_b is None
    prints_b = prints_a if prints_b is None else prints_b
    signs_a, signs_b = _signs(prints_a), _signs(prints_b)
    detail_a, detail_b = _detail(prints_a), _detail(prints_b)
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
    """Return the hashes' bits as -1 and +1, `(N, 64)`."""
    words = b"".join(mark.hash.to_bytes(8, "big") for mark in prints)
    bits = np.unpackbits(np.frombuffer(words, np.uint8)).reshape(-1, 64)
    return 2 * bits.astype(np.float32) - 1


def _detail(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """Return what each thumbnail has beyond its blur as a unit vector; zero if nothing."""
    stack = thumbnails(prints)
    stack -= gaussian_filter(stack, (0, 2, 2))
    return unit_vectors(stack)


def thumbnails(prints: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """Stack the thumbnails, `(N, 16, 16)`."""
    return np.array([mark.thumbnail for mark in prints], np.float32).reshape(-1, _SMALL, _SMALL)


def unit_vectors(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flatten, centre and scale each picture, so that scalar products are correlations."""
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    length[length < FLAT * _SMALL] = np.inf
    return flat / length
