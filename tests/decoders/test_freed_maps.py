"""Memory in prediction: a map is freed once the decoder has read it."""

import weakref

import pytest
import torch

from segkit.decoders import UNetDecoder
from segkit.features import Disposable
from segkit.model import create_model

TINY = {"width": 1 / 16}


@pytest.mark.parametrize("normalize_maps", [False, True])
def test_no_map_outlives_its_step(normalize_maps):
    model = create_model(
        "unet", "vgg11", num_classes=2, encoder_options=TINY, normalize_maps=normalize_maps
    ).eval()
    maps, alive = [], []
    model.encoder.register_forward_hook(
        lambda module, inputs, found: maps.extend(map(weakref.ref, found.maps))
    )
    for step in model.decoder.steps:
        step.convs.register_forward_pre_hook(
            lambda module, inputs: alive.append([m() is not None for m in maps])
        )
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 64))
    in_hand = not normalize_maps  # the coarsest map, from which the first step climbs
    assert alive == [
        [True, True, True, False, in_hand],
        [True, True, False, False, False],
        [True, False, False, False, False],
        [False] * 5,
    ]


def test_a_list_of_the_caller_stays_as_it_is():
    decoder = UNetDecoder([4, 8, 16], [1, 2, 4], num_classes=2).eval()
    maps = [torch.rand(1, 4 * 2**k, 16 >> k, 16 >> k) for k in range(3)]
    kept = list(maps)
    expected = decoder(maps)
    assert all(a is b for a, b in zip(maps, kept, strict=True))
    disposable = Disposable(maps)
    assert torch.equal(decoder(disposable), expected)
    assert not disposable
