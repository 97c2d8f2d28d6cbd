"""The contract kit: segkit's own parts keep the contract, and broken ones are caught."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segkit.decoders import Decoder
from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Wants
from segkit.labels import IGNORE_INDEX
from segkit.registry import find, names
from segkit.testing import check_decoder, check_encoder, check_loss

WIDE = {"in_channels": (8, 16, 64), "strides": (2, 4, 8)}
GAP = {"in_channels": (4, 8), "strides": (4, 16)}
POOLED = {"in_channels": (4, 6, 8), "strides": (2, 4, 8)}
DECODERS = {
    "interpolate-nearest": ("interpolate", {"mode": "nearest"}, {}),
    "interpolate-bilinear": ("interpolate", {"norm": "none"}, {}),
    "interpolate-bicubic": ("interpolate", {"mode": "bicubic"}, {}),
    "transposed": ("transposed", {"kernel_size": 6}, {}),
    "unet-nearest": ("unet", {"upsample": "nearest", "normalize_maps": True}, {}),
    "unet-bilinear": ("unet", {}, {}),
    "unet-nails": ("unet", {"upsample": "bed_of_nails"}, {}),
    "unet-transposed": ("unet", {"upsample": "transposed"}, POOLED),
    "unet-group": ("unet", {"norm": "group"}, {}),
    "unpool-max": ("unpool", {"depths": [1, 2, 1]}, POOLED),
    "unpool-nails": ("unpool", {"mode": "bed_of_nails"}, POOLED),
    "fcn-8": ("fcn", {"stride": 2}, POOLED),
    "fcn-norm": ("fcn", {"stride": 2, "normalize_skips": True}, POOLED),
    "fcn-32": ("fcn", {"stride": 8}, {"in_channels": (8,), "strides": (8,)}),
    "fcn-classifier": (
        "fcn",
        {"stride": 4, "classifier": "conv", "classifier_width": 8},
        {"in_channels": (6, 8), "strides": (4, 8)},
    ),
    "fpn": ("fpn", {"pyramid_width": 8, "width": 8, "norm": "batch"}, GAP),
    "linknet": ("linknet", {}, {}),
    "linknet-bilinear": ("linknet", {"upsample": "bilinear"}, GAP),
    "pspnet": ("pspnet", {"width": 16}, WIDE),
    "deeplabv3": ("deeplabv3", {"width": 16}, POOLED),
    "deeplabv3plus": ("deeplabv3plus", {"width": 16, "rates": [1, 2]}, GAP),
    "upernet": ("upernet", {"width": 16}, WIDE),
    "segformer": ("segformer", {"width": 8}, GAP),
    "unetplusplus": ("unetplusplus", {}, {}),
    "unetplusplus-gap": ("unetplusplus", {"depth": 1}, GAP),
    "pan": ("pan", {}, WIDE),
    "manet": ("manet", {"attention_width": 4}, {}),
    "dpt": ("dpt", {"width": 8}, GAP),
    "dpt-finest": ("dpt", {"width": 8, "finest": 1}, {}),
    "unet-gates": ("unet", {"attention": "gates"}, {}),
    "unet-scse": ("unet", {"attention": "scse"}, {}),
    "unet-deep": ("unet", {"deep_supervision": True}, {}),
}


@pytest.mark.parametrize("decoder", DECODERS)
def test_our_decoders_keep_the_contract(decoder):
    name, options, where = DECODERS[decoder]
    check_decoder(partial(find("decoder", name), **options), **where)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg11", {}),
        ("vgg11_lrn", {}),
        ("vgg13_bn", {}),
        ("vgg16_1x1", {"pool": "avg"}),
        ("vgg11", {"norm": "group", "checkpointing": True}),
        ("vgg11_bn", {"frozen_stages": 2}),
    ],
)
def test_our_encoders_keep_the_contract(name, options):
    check_encoder(partial(find("encoder", name), width=1 / 16, **options))


# they have more of their family's layers, and are compared with torchvision's
DEEPER = r"resnet(34|101|152)|efficientnet_b[1-7]|convnext_(small|base)"
LARGE = [
    name
    for name in names("encoder")
    if not name.startswith(("vgg", "lenet")) and name != "resnet18"
    if not re.fullmatch(DEEPER, name)
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lenet", {}),
        ("lenet", {"pool": "max", "activation": "relu", "frozen_stages": 1}),
        ("resnet18", {"checkpointing": True, "frozen_stages": 1}),
        pytest.param("resnet50", {"dilate": 8}, marks=pytest.mark.slow),
        *(pytest.param(name, {}, marks=pytest.mark.slow) for name in LARGE),
    ],
)
def test_encoders_of_one_width_keep_the_contract(name, options):
    check_encoder(partial(find("encoder", name), **options))


@pytest.mark.parametrize("name", names("loss"))
def test_our_losses_keep_the_contract(name):
    check_loss(find("loss", name))


# Parts that break one point each


class Fair(Decoder):
    """The smallest decoder that keeps the contract: score the finest map."""

    def __init__(self, in_channels, strides, num_classes):
        super().__init__(in_channels, strides)
        self.head = nn.Conv2d(in_channels[0], num_classes, 3, padding=1)

    def decode(self, maps, sizes, indices):
        return self.head(maps[0])


class Small(Fair):
    def decode(self, maps, sizes, indices):
        return super().decode(maps, sizes, indices)[..., :-1]


class EvenOnly(Fair):
    def decode(self, maps, sizes, indices):
        coarse = F.interpolate(self.head(maps[0])[..., ::4, ::4], scale_factor=4)
        return coarse[..., : maps[0].shape[-2] // 4 * 4, :]


class EvalOnly(Fair):
    def decode(self, maps, sizes, indices):
        x = super().decode(maps, sizes, indices)
        return x / 0 if self.training else x


class Unused(Fair):
    def __init__(self, in_channels, strides, num_classes):
        super().__init__(in_channels, strides, num_classes)
        self.forgotten = nn.Conv2d(1, 1, 1)


class Silenced(Unused):
    def decode(self, maps, sizes, indices):
        x = super().decode(maps, sizes, indices)
        return x + 0 * self.forgotten(x[:, :1])


class Random(Fair):
    def decode(self, maps, sizes, indices):
        return super().decode(maps, sizes, indices) + torch.rand(())


class Unseeded(Fair):
    def __init__(self, in_channels, strides, num_classes):
        super().__init__(in_channels, strides, num_classes)
        nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(id(self) % 9973))


class Strided(Fair):
    def decode(self, maps, sizes, indices):
        x = super().decode(maps, sizes, indices)
        n, c, h, w = x.shape
        return x.as_strided((n, c, h, w), (c * h * w, h * w, w, 1))


class Overflowing(Fair):
    def decode(self, maps, sizes, indices):
        x = super().decode(maps, sizes, indices)
        return x / (x.dtype == torch.float32)


class Branching(Fair):
    def decode(self, maps, sizes, indices):
        x = super().decode(maps, sizes, indices)
        return x if x.sum() > 0 else 2 * x


class Stretching(Fair):
    def forward(self, maps, sizes=None, indices=None, size=None):
        x = super().forward(maps, sizes, indices)
        return x if size is None else F.interpolate(x, size)


class SeesAll(Fair):
    def decode(self, maps, sizes, indices):
        x = super().decode(maps, sizes, indices)
        return x + x.mean((2, 3), keepdim=True)


class SeesSize(Fair):
    """Nothing that a receptive field shows, but another number in a tile than in the whole."""

    def decode(self, maps, sizes, indices):
        return super().decode(maps, sizes, indices) * maps[0].shape[-1] * maps[0].shape[-2]


class Declared(SeesAll):
    sees_all = True


@pytest.mark.parametrize("decoder", [Fair, Declared])
def test_a_decoder_of_somebody_else_can_keep_the_contract(decoder):
    check_decoder(decoder)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (Small, ["as large as the image, (8, 16)", "not (2, 3, 8, 15)"]),
        (EvenOnly, ["as large as the image, (11, 9)", "not (2, 3, 8, 12)"]),
        (EvalOnly, ["finite", "train mode"]),
        (Unused, ["every parameter", "forgotten.weight"]),
        (Silenced, ["every parameter", "forgotten.weight", "zero"]),
        (Random, ["eval mode", "same bits"]),
        (Unseeded, ["same seed"]),
        (Strided, ["channels_last"]),
        (Overflowing, ["bf16"]),
        (Branching, ["torch.export"]),
        (Stretching, ["size=(H, W) crops"]),
        (SeesAll, ["halo", "sees_all is True", "whole image"]),
        (SeesSize, ["halo", "sees_all is True"]),
    ],
)
def test_a_broken_decoder_is_caught(decoder, words):
    with pytest.raises(AssertionError) as caught:
        check_decoder(decoder)
    assert all(word in str(caught.value) for word in words), str(caught.value)


class Pools(nn.Module):
    """An encoder of two pools."""

    taken = staticmethod(lambda wants: wants.choose([2, 4]))
    channels = property(lambda self: [4, 5])
    spoil = staticmethod(lambda pyramid: pyramid)

    def __init__(self, wants, in_channels=3):
        super().__init__()
        self.wants = wants
        strides = self.taken(wants)
        self.convs = nn.ModuleList([nn.Conv2d(in_channels, 4, 3, 1, 1), nn.Conv2d(4, 5, 3, 1, 1)])
        if strides == [2]:
            del self.convs[1]
        self.specs = [FeatureSpec(f"p{s}", self.channels[s // 4], s) for s in strides]
        self.stride = strides[-1]

    def forward(self, x):
        pyramid = Pyramid([], [], [] if self.wants.indices else None)
        for number, conv in enumerate(self.convs):
            pyramid.sizes.append(tuple(x.shape[-2:]))
            x, indices = F.max_pool2d(conv(x), 2, return_indices=True)
            if self.wants.indices:
                pyramid.indices.append(indices)
            if 2 ** (number + 1) in [spec.stride for spec in self.specs]:
                pyramid.maps.append(x)
        return self.spoil(pyramid)


def spoiled(**members):
    return type("Spoiled", (Pools,), members)


def test_an_encoder_of_somebody_else_can_keep_the_contract():
    check_encoder(Pools)

    class NoIndices(Pools):
        def __init__(self, wants, in_channels=3):
            if wants.indices:
                raise UserError("there are none")
            super().__init__(wants, in_channels)

    check_encoder(NoIndices)


def drop_a_row(pyramid):
    return pyramid._replace(maps=[m[:, :, 1:] for m in pyramid.maps])


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (spoiled(channels=[4, 6]), ["channels (4, 5), but specs promise (4, 6)"]),
        (spoiled(spoil=staticmethod(drop_a_row)), ["at stride 2, an image of (8, 12) has a grid"]),
        (spoiled(spoil=staticmethod(lambda p: p._replace(sizes=[]))), ["IndexError"]),
        (spoiled(spoil=staticmethod(lambda p: p._replace(indices=None))), ["indices are None"]),
        (spoiled(taken=staticmethod(lambda wants: [2, 4])), ["answered by strides (2, 4)"]),
        (
            spoiled(taken=staticmethod(lambda w: [4] if w.coarsest else list(w.strides or (2, 4)))),
            ["Error"],
        ),
        (
            spoiled(spoil=staticmethod(lambda p: p._replace(maps=[m.detach() for m in p.maps]))),
            ["gradients", "does not require grad"],
        ),
        (
            spoiled(
                spoil=staticmethod(lambda p: p._replace(maps=[m + torch.rand(()) for m in p.maps]))
            ),
            ["eval mode", "same bits"],
        ),
        (lambda wants, in_channels=3: Pools(wants, 3), ["images may have 1 channels"]),
        (lambda wants, in_channels=3: 1 / 0, ["ZeroDivisionError", "UserError says why"]),
    ],
)
def test_a_broken_encoder_is_caught(encoder, words):
    with pytest.raises(AssertionError) as caught:
        check_encoder(encoder)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def pixel_loss(logits, target):
    """The mean over valid pixels, and zero where there are none."""
    total = F.cross_entropy(logits.float(), target, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (target != IGNORE_INDEX).sum().clamp(min=1)


class Terms:
    def __init__(self, void_counts=False):
        self.void_counts = void_counts

    def terms(self, logits, target):
        return F.cross_entropy(logits.float(), target, ignore_index=IGNORE_INDEX, reduction="sum")[
            None
        ]

    def normalizer(self, target):
        return (target != IGNORE_INDEX).sum()[None] + 1 * self.void_counts

    def __call__(self, logits, target):
        return self.terms(logits, target).sum() / self.normalizer(target).clamp(min=1).sum()


def test_losses_of_somebody_else_can_keep_the_contract():
    check_loss(lambda: pixel_loss)
    check_loss(Terms)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX), ["nothing but void", "the loss is nan"]),
        (nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX, reduction="none"), ["scalar", "(3, 6, 5)"]),
        (lambda x, t: pixel_loss(x, t) + 1e-3 * x.square().mean(), ["void count nowhere"]),
        (lambda x, t: pixel_loss(x, t).detach() + 0 * x.sum(), ["gradient is zero"]),
        (lambda x, t: pixel_loss(x, t) / 0, ["the loss is inf"]),
        (lambda x, t: pixel_loss(x[:1], t[:1]), ["order of the images"]),
        (lambda x, t: pixel_loss(x, t) * (x.dtype == torch.float32), ["bf16"]),
        (Terms(void_counts=True), ["add up"]),
    ],
)
def test_a_broken_loss_is_caught(loss, words):
    with pytest.raises(AssertionError) as caught:
        check_loss(lambda: loss)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_role_is_asked_for():
    asked = []

    def factory(wants, in_channels=3):
        asked.append(wants)
        return Pools(wants, in_channels)

    check_encoder(factory)
    places = {(wants.place, wants.coarsest, wants.indices) for wants in asked}
    assert len(places) == 6
    assert Wants(strides=(4,)) in asked
