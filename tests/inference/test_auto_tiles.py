"""Tiles as large as memory allows."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from segkit.errors import UserError
from segkit.inference import Tiles, memory
from segkit.inference.memory import Room, find_room, held_memory, peak_memory
from segkit.inference.region import grow
from segkit.receptive_field import Halo

CPU = torch.device("cpu")
AUTO = Tiles("auto")
on_linux = pytest.mark.skipif(not memory.STATM.exists(), reason="memory is measured under Linux")


def computed(tiles, size, stride, halo):
    return max(math.prod(grow(r, size, halo, stride).size) for r in tiles.cut(size, stride))


@pytest.mark.parametrize("size", [(900, 900), (4000, 700), (300, 5000), (1013, 2048)])
@pytest.mark.parametrize("pixels", [120_000, 400_000, 1_000_000])
def test_tiles_are_as_few_as_there_is_room_for(size, pixels):
    stride, halo = 16, Halo(138, 130)
    tiles = AUTO.sized(size, stride, halo, Room(pixels * 50.0, 50.0), 1.0)
    assert computed(tiles, size, stride, halo) <= pixels
    count = len(tiles.cut(size, stride))
    for side in range(tiles.size + stride, max(size) + stride, stride):
        larger = Tiles(side)
        fewer = len(larger.cut(size, stride)) < count
        assert not fewer or computed(larger, size, stride, halo) > pixels
    assert len(Tiles(tiles.size - stride).cut(size, stride)) > count  # as even as can be


def test_an_image_that_there_is_room_for_stays_whole():
    halo, room = Halo(138, 138), Room(1000.0 * 700, 1.0)
    for size in ((1000, 700), (700, 1000), (10, 70_000)):
        assert AUTO.sized(size, 16, halo, room, 1.0).fits(size, 16)
    assert not AUTO.sized((1001, 700), 16, halo, room, 1.0).fits((1001, 700), 16)
    assert not AUTO.sized((1000, 700), 16, halo, room, 1.5).fits((1000, 700), 16)


def test_views_of_other_sizes_count():
    room = Room(1e6, 1.0)
    for scale in (0.5, 2.0):
        tiles = AUTO.sized((9000, 9000), 16, Halo(100, 100), room, scale)
        assert 0.9e6 < (scale * tiles.size + 2 * 112) ** 2 <= 1e6


def test_blended_tiles_have_no_halo():
    tiles = Tiles("auto", "blend").sized((5000, 5000), 16, Halo(0, 0), Room(1e6, 1.0), 1.0)
    assert tiles == Tiles(992, "blend")


def test_too_little_memory_for_a_tile_and_its_halo():
    with pytest.raises(UserError, match=r"a tile of 16 pixels and its halo of 138\+138; allow"):
        AUTO.sized((5000, 5000), 16, Halo(138, 138), Room(1e6, 1000.0), 1.0)
    for amount in (0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="memory above 0"):
            Tiles("auto", memory=amount)


@on_linux
def test_the_peak_of_a_call():
    def run():
        x = torch.ones(3, 10_000_000)
        y = x + 1
        del x
        y.sum()

    before = held_memory(CPU)
    assert peak_memory(run, CPU) - before == pytest.approx(240e6, rel=0.1)


@on_linux
def test_memory_is_measured_on_growing_tiles(monkeypatch):
    sides = []

    class Backend:
        device = CPU

        def logits(self, pixels):
            assert pixels.dtype == torch.uint8
            sides.append(pixels.shape[-1])
            return torch.zeros(1, 4, 1, 1)

    def peak(run, device):
        run()
        return 7_000_000 + 100 * sides[-1] ** 2

    monkeypatch.setattr(memory, "held_memory", lambda device: 7_000_000)
    monkeypatch.setattr(memory, "peak_memory", peak)
    image = torch.zeros(3, 5, 5, dtype=torch.uint8)
    assert find_room(Backend(), image, 5e9) == Room(5e9, 100)
    assert sides == [64, 256, 512]  # the first to warm up
    sides.clear()
    find_room(Backend(), image, 2e7)  # four times as many pixels would take more
    assert sides == [64, 256]
    monkeypatch.setattr(memory, "free_memory", lambda device: 10_000_000_000)
    assert find_room(Backend(), image).memory == 5e9


@on_linux
@pytest.mark.parametrize(
    "views", [{}, pytest.param({"flip": True, "scales": (0.6, 1.3)}, marks=pytest.mark.slow)]
)
def test_auto_equals_whole_within_the_room(views, network, predictor_of, image, monkeypatch):
    model = network(name="fcn", stride=8)
    monkeypatch.setattr(
        "segkit.inference.predictor.find_room", lambda backend, pixels, memory: Room(memory, 10.0)
    )
    tiled = predictor_of(model, tiles=Tiles("auto", memory=1e6), **views)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    pixels = image((290, 410))
    found = tiled(pixels, confidence=True)
    assert len(seen) > len(tiled.views)
    slack = 2 * 32 if views else 0  # out to multiples of the stride
    assert max(math.prod(side - slack for side in shape[-2:]) for shape in seen) <= 1e5
    expected = predictor_of(model, **views)(pixels, confidence=True)
    assert (found.confidence - expected.confidence).abs().max() < 1e-4
    assert tiled.overhead(pixels).endswith("; auto: 0.0 GB at 10 bytes a pixel")
    assert tiled.overhead(pixels[:100, :100]) is None


def test_where_memory_cannot_be_measured_tiles_have_512_pixels(
    network, predictor_of, image, monkeypatch, tmp_path
):
    monkeypatch.setattr(memory, "STATM", tmp_path / "none")
    model = network(name="unet", widths=[8, 8, 8, 8])
    tiled = predictor_of(model, tiles=AUTO)
    assert tiled.overhead(image((600, 20))).startswith("tiles of 512 with a halo")
    assert tiled.overhead(image((500, 20))) is None


@on_linux
def test_a_tile_takes_what_it_may(predictor_of):
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 4, 1))
    model.stride = 8
    tiled = predictor_of(model, tiles=Tiles("auto", memory=5e8))
    pixels = np.zeros((1600, 1600, 3), np.uint8)
    before = held_memory(CPU)
    taken = peak_memory(lambda: tiled(pixels), CPU) - before
    assert tiled.overhead(pixels).startswith("tiles of")
    assert 3e8 < taken < 6e8
