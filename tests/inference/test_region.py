"""Sampling a region alone gives that region of the whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segkit.inference.region import Region, grow, sample, source_of, whole
from segkit.receptive_field import Halo

PAIRS = [
    ((9, 13), (18, 26)),
    ((9, 13), (5, 6)),
    ((30, 41), (23, 52)),
    ((31, 17), (31, 40)),
    ((1, 1), (4, 7)),
    ((8, 9), (1, 1)),
    ((100, 77), (33, 231)),
]


def random_region(size, rng):
    ends = []
    for length in size:
        start = int(rng.integers(0, length))
        ends += [start, int(rng.integers(start + 1, length + 1))]
    return Region(*ends)


@pytest.mark.parametrize(("source", "size"), PAIRS)
def test_sampling_equals_interpolate(source, size):
    x = torch.rand(3, *source)
    expected = F.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]
    found = sample(x, whole(source), source, size, whole(size))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("source", "size"), PAIRS)
def test_a_region_reads_only_what_it_says(source, size):
    rng = np.random.default_rng(0)
    x = torch.rand(2, *source)
    expected = F.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]
    for _ in range(20):
        region = random_region(size, rng)
        part = source_of(region, size, source)
        assert 0 <= part.top < part.bottom <= source[0]
        assert 0 <= part.left < part.right <= source[1]
        found = sample(x[part.within(whole(source)).cells], part, source, size, region)
        inner = region.within(whole(size)).cells
        torch.testing.assert_close(found, expected[inner], atol=1e-5, rtol=0)


def test_sampling_to_the_same_size_changes_nothing():
    x = torch.rand(2, 6, 7)
    assert torch.equal(sample(x, whole((6, 7)), (6, 7), (6, 7), whole((6, 7))), x)
    assert source_of(Region(2, 4, 1, 6), (6, 7), (6, 7)) == Region(2, 4, 1, 6)


def test_mirroring_twice_is_nothing():
    region = Region(3, 8, 2, 11)
    assert region.mirrored(20) == Region(3, 8, 9, 18)
    assert region.mirrored(20).mirrored(20) == region


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (Region(0, 32, 0, 32), Region(0, 48, 0, 48)),  # at the corner, no halo outside
        (Region(64, 96, 64, 96), Region(48, 100, 48, 112)),
        (Region(96, 100, 96, 121), Region(80, 100, 80, 121)),  # at the other
        (Region(70, 71, 33, 35), Region(48, 96, 16, 64)),  # a view's region, of any phase
    ],
)
def test_a_halo_stays_within_the_image_and_on_the_stride(region, expected):
    assert grow(region, (100, 121), Halo(5, 10), stride=16) == expected
