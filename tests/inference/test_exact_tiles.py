"""Tiles with a halo give what the whole image gives, for every network."""

import numpy as np
import pytest
import torch
from torch import nn

from segkit.errors import UserError
from segkit.inference import Tiles

CLIMB = [8, 8, 8, 8, 8]
DECODERS = {
    "unet": {"name": "unet", "widths": CLIMB[:4]},
    "unet_nearest": {"name": "unet", "upsample": "nearest", "widths": CLIMB[:4]},
    "unet_bicubic": {"name": "unet", "upsample": "bicubic", "widths": CLIMB[:4]},
    "unet_bed_of_nails": {"name": "unet", "upsample": "bed_of_nails", "widths": CLIMB[:4]},
    "unet_transposed": {"name": "unet", "upsample": "transposed", "widths": CLIMB[:4]},
    "unet_normalize_maps": {"name": "unet", "normalize_maps": True, "widths": CLIMB[:4]},
    "unpool": {"name": "unpool"},
    "unpool_nails": {"name": "unpool", "mode": "bed_of_nails"},
    "transposed": {"name": "transposed", "widths": CLIMB},
    "bilinear": {"name": "interpolate", "widths": CLIMB},
    "nearest": {"name": "interpolate", "mode": "nearest", "widths": CLIMB},
    "fcn32s": {"name": "fcn", "stride": 32},
    "fcn16s": {"name": "fcn", "stride": 16},
    "fcn8s": {"name": "fcn", "stride": 8},
    "fcn8s_conv": {"name": "fcn", "classifier": "conv", "classifier_width": 16},
}
DIRECTIONS = {"up": (0, 1), "down": (2, 1), "left": (1, 0), "right": (1, 2)}  # of 3x3 taps


def look_into(model, direction):
    """Let convolutions read nothing but the pixel that is farthest in one direction."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1:
            half = module.kernel_size[0] // 2
            row, column = (place * half for place in DIRECTIONS[direction])
            shares = torch.rand(module.weight.shape[:2]) ** 4
            with torch.no_grad():
                module.weight.zero_()
                module.weight[:, :, row, column] = shares / shares.sum(1, keepdim=True)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return model


def check_equal(tiled, whole):
    """Compare predictions; where two classes come out equal, either may win."""
    assert tiled.mask.shape == whole.mask.shape
    assert difference(tiled, whole) < 1e-4
    first, second = whole.probabilities.float().topk(2, 0).values
    clear = first - second > 2e-3  # they have 11 bits
    assert clear.float().mean() > 0.9
    assert torch.equal(tiled.mask[clear], whole.mask[clear])


def difference(tiled, whole):
    """Give the largest of one class's probability; where the class differs too, it is no less."""
    same = tiled.mask == whole.mask
    return (tiled.confidence - whole.confidence).abs()[same].max().item()


def predict(predictor, pixels):
    return predictor(pixels, confidence=True, probabilities=True)


QUICK = ("unet", "unpool", "transposed", "bilinear", "fcn8s")  # one of each way up
ALL = [d if d in QUICK else pytest.param(d, marks=pytest.mark.slow) for d in DECODERS]


@pytest.mark.parametrize("decoder", ALL)
def test_tiled_equals_whole_at_random_sizes(decoder, network, predictor_of, image):
    rng = np.random.default_rng(sorted(DECODERS).index(decoder))
    model = network(**DECODERS[decoder])
    whole = predictor_of(model)
    narrow, long = rng.integers(20, 60, 2), rng.integers(520, 640, 2)
    sizes = [
        (int(narrow[0]), int(long[0]) | 1),
        (int(long[1]), int(narrow[1])),
        tuple(map(int, rng.integers(100, 200, 2))),
    ]
    for number, size in enumerate(sizes):
        pixels = image(size, seed=number)
        tile = int(rng.integers(90, 260)) if max(size) > 500 else 64
        tiled = predictor_of(model, tiles=Tiles(tile))
        assert not tiled.tiles.fits(size, model.stride)
        check_equal(predict(tiled, pixels), predict(whole, pixels))


SIDES = {"left": "before", "right": "after", "up": "before", "down": "after"}
FAR = [(decoder, "left") for decoder in DECODERS]
FAR += [pytest.param(decoder, "right", marks=pytest.mark.slow) for decoder in DECODERS]
FAR += [(decoder, direction) for decoder in ("unet", "unpool") for direction in ("up", "down")]


@pytest.mark.parametrize(("decoder", "direction"), FAR)
def test_tiled_equals_whole_where_far_pixels_matter(
    decoder, direction, network, predictor_of, image
):
    model = look_into(network(**DECODERS[decoder]), direction)
    pixels = image((45, 603) if direction in ("left", "right") else (603, 45))
    expected = predict(predictor_of(model), pixels)
    tiled = predictor_of(model, tiles=Tiles(96))
    check_equal(predict(tiled, pixels), expected)
    # one stride less is too little, though of some climbs the farthest pixels weigh too little to
    # tell
    side, own = SIDES[direction], tiled.halo
    steps = -(-getattr(own, side) // model.stride) - (4 if "bicubic" in decoder else 1)
    tiled.halo = own._replace(**{side: steps * model.stride})
    assert difference(predict(tiled, pixels), expected) > 1e-4


@pytest.mark.parametrize("tile", [64, 72])
@pytest.mark.parametrize("decoder", ["unet", "unpool"])
def test_views_and_tiles_go_together(decoder, tile, network, predictor_of, image):
    model = network(**DECODERS[decoder])
    views = {"flip": True, "scales": (0.6, 1.0, 1.7)}
    for size in ((37, 201), (150, 61)):
        tiled = predictor_of(model, tiles=Tiles(tile), **views)
        check_equal(predict(tiled, image(size)), predict(predictor_of(model, **views), image(size)))


@pytest.mark.parametrize("mode", ["exact", "blend"])
@pytest.mark.parametrize("views", [{}, {"flip": True, "scales": (0.8, 1.0)}])
def test_an_image_that_fits_a_tile_is_bit_identical(mode, views, network, predictor_of, image):
    model = network(**DECODERS["unet"])
    whole = predictor_of(model, **views)
    # rounded up to the stride of 16
    tiled = predictor_of(model, tiles=Tiles(85, mode), **views)
    for size in ((96, 96), (17, 33), (96, 5), (1, 1)):
        pairs = zip(predict(tiled, image(size)), predict(whole, image(size)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs if a is not None)


def test_group_norm_is_refused_where_tiles_are_exact(network, predictor_of):
    model = network(name="unet", norm="group", widths=CLIMB[:4])
    with pytest.raises(UserError, match=r"group norm.*blend"):
        predictor_of(model, tiles=Tiles(64))
    predictor_of(model, tiles=Tiles(64, "blend"))


def test_no_call_takes_more_pixels_than_a_tile_with_its_halo(network, predictor_of, image):
    model = network(**DECODERS["unet"])
    tiled = predictor_of(model, tiles=Tiles(112))
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    size = (700, 50)
    tiled(image(size))
    halo = tiled.halo
    side = 112 + sum(-(-side // 16) * 16 for side in halo)
    assert max(max(shape[-2:]) for shape in seen) <= side
    computed = sum(shape[-2] * shape[-1] for shape in seen) / (size[0] * size[1])
    assert tiled.tiles.overhead(size, model.stride, halo) == pytest.approx(computed)
    assert tiled.tiles.cost(size, model.stride, halo) == (
        f"tiles of 112 with a halo of {halo.before}+{halo.after}: {computed:.1f} pixels computed "
        "for each pixel"
    )
