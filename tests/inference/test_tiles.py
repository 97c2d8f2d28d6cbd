"""Cutting, and fading one tile into the next."""

import numpy as np
import pytest
import torch
from torch import nn

from segkit.errors import UserError
from segkit.inference import Tiles
from segkit.inference.region import Region
from segkit.inference.tiles import blend


class Pixelwise(nn.Module):
    """Sees one pixel at a time."""

    def __init__(self, stride=8):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 1)
        self.stride = stride
        self.seen = []

    def forward(self, x):
        self.seen.append(x.shape)
        return 3 * self.conv(x)


SIZES = [(64, 200), (37, 91), (129, 64), (65, 65), (33, 300), (300, 7)]


@pytest.mark.parametrize("size", SIZES)
def test_exact_tiles_cover_every_pixel_once(size):
    count = np.zeros(size, int)
    for region in Tiles(30).cut(size, 8):
        assert region.top % 8 == region.left % 8 == 0
        assert max(region.size) <= 32
        assert min(region.size) > 0
        count[region.top : region.bottom, region.left : region.right] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("size", SIZES)
def test_bands_of_blended_tiles_cover_every_pixel_once(size, overlap):
    tiles = Tiles(32, "blend", overlap)
    count, asked = np.zeros(size, int), np.zeros(size, int)

    def one(region):
        assert region.size == tuple(min(32, length) for length in size)
        asked[region.top : region.bottom, region.left : region.right] += 1
        return torch.ones(2, *region.size)

    for region, values in blend(tiles, size, 8, one):
        assert values.shape == (2, *region.size)
        torch.testing.assert_close(values, torch.ones(2, *region.size))  # weights sum to one
        count[region.top : region.bottom, region.left : region.right] += 1
    assert (count == 1).all()
    assert asked.min() >= 1
    assert tiles.overhead(size, 8, None) == pytest.approx(asked.sum() / asked.size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("views", [{}, {"flip": True}])
def test_blended_equals_whole_for_a_pixelwise_network(size, views, predictor_of, image):
    model = Pixelwise()
    whole = predictor_of(model, **views)(image(size), confidence=True)
    tiled = predictor_of(model, tiles=Tiles(32, "blend", 0.3), **views)
    found = tiled(image(size), confidence=True)
    torch.testing.assert_close(found.confidence, whole.confidence, atol=1e-5, rtol=0)
    assert (found.mask == whole.mask).float().mean() > 0.999


def test_blended_tiles_may_see_another_scale(predictor_of, image):
    model = Pixelwise()
    views = {"scales": (0.5, 1.0)}
    smooth = np.linspace(0, 1, 60 * 90 * 3, dtype=np.float32).reshape(60, 90, 3)
    whole = predictor_of(model, **views)(smooth, confidence=True)
    found = predictor_of(model, tiles=Tiles(32, "blend"), **views)(smooth, confidence=True)
    torch.testing.assert_close(found.confidence, whole.confidence, atol=2e-3, rtol=0)


def test_blended_equals_whole_in_the_middle_of_a_constant(network, predictor_of):
    model = network(name="unet", widths=[8, 8, 8, 8])
    grey = np.full((640, 640, 3), 0.4, np.float32)
    whole = predictor_of(model)(grey, confidence=True)
    tiled = predictor_of(model, tiles=Tiles(512, "blend"))(grey, confidence=True)
    middle = slice(310, 330)
    assert torch.equal(tiled.mask[middle, middle], whole.mask[middle, middle])
    torch.testing.assert_close(
        tiled.confidence[middle, middle], whole.confidence[middle, middle], atol=1e-4, rtol=0
    )


def test_a_tile_counts_most_in_its_middle():
    """Where two disagree, the change from one to the other is gradual."""

    def numbered(region):
        return torch.full((1, *region.size), float(region.left > 0))

    [(_, values)] = blend(Tiles(64, "blend", 0.5), (64, 96), 8, numbered)
    row = values[0, 32]
    assert (row[:32] == 0).all()
    assert (row[64:] == 1).all()
    assert (row[32:65].diff() > 0).all()
    assert row[32:64].diff().max() < 0.06
    torch.testing.assert_close(row + row.flip(0), torch.ones(96))


def test_blending_holds_one_row_of_tiles():
    """The accumulator is as high as a tile, and bands come out as soon as they are done."""
    asked = []

    def note(region):
        asked.append(region.top)
        return torch.ones(1, *region.size)

    bottoms = []
    for region, values in blend(Tiles(32, "blend", 0.25), (320, 64), 8, note):
        assert values.shape[1] <= 32
        assert max(asked) == region.top  # no tile below was asked for yet
        bottoms.append(region.bottom)
    assert bottoms == sorted(bottoms)
    assert bottoms[-1] == 320


def test_tiles_of_a_stride():
    assert Tiles(100).aligned(32) == 128
    assert Tiles(100).fits((128, 5), 32)
    assert not Tiles(100).fits((129, 5), 32)
    assert Tiles(64).overhead((64, 64), 32, None) == 1
    assert Tiles(32).cut((40, 20), 32) == [Region(0, 32, 0, 20), Region(32, 40, 0, 20)]
    assert Tiles(64, "blend", 0.25).starts(64, 32) == [0]
    assert Tiles(64, "blend", 0.25).starts(160, 32) == [0, 48, 96]


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"size": -4}, {"size": 64, "overlap": 0.6}, {"size": 64, "overlap": -1}],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="tile"):
        Tiles(**options)
