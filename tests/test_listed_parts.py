"""What the list of parts says of each is what the summary of a model with it says."""

import math

import pytest
import torch
from torch import nn

from segkit.decoders import Decoder
from segkit.features import Wants
from segkit.model import create_model
from segkit.registry import find, names, register, unregister
from segkit.summary import list_decoders, list_encoders, summarize
from segkit.summary.parts import NUM_CLASSES

SIZE = (64, 96)


@pytest.mark.parametrize(
    "name",
    [
        "unet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ["fcn", "unpool", "pspnet", "fpn"]),
    ],
)
def test_a_decoder_costs_what_it_costs_in_a_model(name):
    [listed] = list_decoders([name], "vgg11", SIZE)
    model = create_model(name, "vgg11", num_classes=NUM_CLASSES)
    summary = summarize(model, 3, SIZE)
    assert not listed.refusal
    assert listed.parameters == sum(p.numel() for p in model.decoder.parameters())
    assert (listed.macs, listed.field) == (summary.decoder_macs, summary.field)
    assert listed.strides == model.decoder.strides


@pytest.mark.parametrize(
    ("name", "strides", "field"),
    [
        ("vgg11", (1, 2, 4, 8, 16, 32), 150),
        ("lenet", (1, 2, 4), 16),
        ("resnet18", (2, 4, 8, 16, 32), 435),
        ("alexnet", (4, 8, 16, 32), 195),
    ],
)
def test_an_encoder_costs_what_it_costs_under_a_decoder_of_its_deepest_map(name, strides, field):
    """The fields are those of Araujo et al. 2019, or follow from its formula."""
    size = (60, 90)  # a model pads it to 64x96
    [listed] = list_encoders([name], size)
    summary = summarize(create_model("interpolate", name, num_classes=2), 3, size)
    assert (listed.strides, listed.field) == (strides, field)
    assert (listed.parameters, listed.macs) == (summary.encoder_parameters, summary.encoder_macs)


def test_the_receptive_field_of_an_encoder_with_global_pools_is_the_image():
    [listed] = list_encoders(["mobilenet_v3_large"], SIZE)
    assert listed.field == math.inf


def test_parts_that_do_not_fit_say_why():
    fcn, unpool, unet = list_decoders(["fcn", "unpool", "unet"], "lenet", SIZE)
    assert fcn.refusal == (
        "the decoder needs maps of strides [8, 16, 32] after a pool, but the encoder has strides "
        "[2, 4] there"
    )
    assert "indices" in unpool.refusal
    assert (unet.refusal, unet.strides) == ("", (1, 2))


@pytest.fixture
def own_parts():
    """Register an encoder that cannot be built, and a decoder that cannot be run."""

    @register("encoder", "unbuilt")
    def build(wants: Wants, in_channels: int = 3, *, depth: int):
        raise AssertionError

    @register("decoder", "unrun")
    class Unrun(Decoder):
        def __init__(self, in_channels, strides, num_classes):
            super().__init__(in_channels, strides)
            self.head = nn.Conv2d(1, num_classes, 1)

        def decode(self, maps, sizes, indices):
            return self.head(maps[-1])

    yield
    unregister("encoder", "unbuilt")
    unregister("decoder", "unrun")


def test_broken_parts_of_the_users_do_not_end_the_list(own_parts):
    broken, sound = list_encoders(["unbuilt", "lenet"], SIZE)
    assert broken.refusal.startswith("TypeError: ")
    assert "depth" in broken.refusal
    assert sound.parameters > 0
    [broken] = list_decoders(["unrun"], "lenet", SIZE)
    assert "RuntimeError" in broken.refusal
    assert "\n" not in broken.refusal


@pytest.mark.slow
@pytest.mark.parametrize("name", names("encoder"))
def test_every_encoder_of_ours_is_listed_with_its_costs(name):
    [listed] = list_encoders([name], SIZE)
    with torch.device("meta"):
        encoder = find("encoder", name)(Wants(place="after_pool"))
    assert not listed.refusal
    assert listed.parameters == sum(p.numel() for p in encoder.parameters())
    assert listed.macs > 0
    assert listed.field is not None
    assert listed.strides[-1] == encoder.stride
