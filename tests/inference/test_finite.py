"""Logits that are not finite are told, with the first layer and the checkpoint."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

import segkit
from segkit.inference import Predictor, Tiles
from segkit.inference.finite import NotFinite

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
NORMAL = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def network():
    torch.manual_seed(0)
    layers = [
        layer for _ in range(3) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
    ]
    return nn.Sequential(*layers, nn.Conv2d(3, 2, 1))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_layer_is_named(value):
    rng = random.Random(0)
    for _ in range(10):
        model = network()
        names = [name for name, kept in model.state_dict().items() if kept.ndim]
        poisoned = rng.sample([name for name in names if "running_var" not in name], 2)
        for name in poisoned:
            model.state_dict()[name].view(-1)[rng.randrange(2)] = value
        first = min(int(name.partition(".")[0]) for name in poisoned)
        kind = type(model[first]).__name__
        with pytest.raises(
            NotFinite, match=rf"of a\.pt are not finite, .*layer {first} \({kind}\)"
        ):
            Predictor(model, origin="a.pt", **NORMAL)(IMAGE)
        assert not any(module._forward_hooks for module in model.modules())


class Divided(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.conv, self.by = nn.Conv2d(3, 2, 1), by

    def forward(self, images):
        return {"out": self.conv(images) / self.by}


@pytest.mark.parametrize(
    "options",
    [{}, {"flip": True}, {"scales": (0.5, 1.0)}, {"tiles": Tiles(16, "blend")}],
)
def test_what_happens_between_layers_is_found_too(options):
    with pytest.raises(NotFinite, match=r"logits of the network are not finite, .*\(Divided\)"):
        Predictor(Divided(0), **NORMAL, **options)(IMAGE)
    assert Predictor(Divided(1), **NORMAL, **options)(IMAGE).mask.shape == IMAGE.shape[:2]


def test_a_tile_among_many_is_enough():
    class Bright(nn.Module):
        stride = 1

        def forward(self, images):
            return torch.stack([images[:, 0], images[:, 1] / (images[:, 0] < 0.9)], 1)

    image = np.zeros_like(IMAGE)
    model = Predictor(Bright(), tiles=Tiles(8, "blend", 0), **NORMAL)
    assert model(image).is_finite
    image[17, 20] = 255
    with pytest.raises(NotFinite):
        model(image)


def test_a_class_may_be_ruled_out():
    class Ruled(nn.Module):
        def forward(self, images):
            return torch.stack([images[:, 0], torch.full_like(images[:, 0], -math.inf)], 1)

    assert not Predictor(Ruled(), **NORMAL)(IMAGE).mask.any()


def test_an_evaluation_tells_it():
    model = network()
    model[2].weight.data[0] = math.nan
    loader = [(torch.from_numpy(IMAGE).permute(2, 0, 1)[None], torch.zeros(1, 20, 24).long())]
    with pytest.raises(NotFinite, match=r"first after the layer 2 \(Conv2d\); take an earlier"):
        segkit.evaluate(model, loader, 2, **NORMAL)
