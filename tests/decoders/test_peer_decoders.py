"""Our decoders give the numbers of segmentation_models.pytorch's, with the same weights.

Two differences hold throughout. The peer aligns the corners where it interpolates bilinearly, and
we do not; a patch of `F.interpolate` makes it interpolate as we do. Our heads are convolutions of
1x1, which the peer's head is asked for. What else differs is stated at each test.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segkit.decoders import (
    DeepLabV3Decoder,
    DeepLabV3PlusDecoder,
    FPNDecoder,
    LinkNetDecoder,
    PANDecoder,
    PSPNetDecoder,
    SegFormerDecoder,
    UNetDecoder,
    UNetPlusPlusDecoder,
    UPerNetDecoder,
)

smp = pytest.importorskip("segmentation_models_pytorch")
decoders = pytest.importorskip("segmentation_models_pytorch.decoders")

CLASSES = 5
CHANNELS = [8, 12, 16, 24, 32]
STRIDES = [2, 4, 8, 16, 32]


@pytest.fixture(autouse=True)
def half_pixel_centres(monkeypatch):
    """Let the peer interpolate without aligned corners."""
    theirs = F.interpolate

    def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None, **rest):
        corners = None if mode == "nearest" else False
        return theirs(x, size, scale_factor, mode, align_corners=corners, **rest)

    monkeypatch.setattr(F, "interpolate", interpolate)


@pytest.fixture(autouse=True)
def float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trained(module):
    """Give a network of the peer's statistics and scales such as training leaves."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_(std=0.3)
            each.running_var.uniform_(0.5, 2)
        if isinstance(each, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.normal_(each.bias, std=0.3)
    return module.eval()


def make_head(channels, stride=1):
    return trained(smp.base.SegmentationHead(channels, CLASSES, kernel_size=1, upsampling=stride))


def make_maps(channels, strides=STRIDES, size=(64, 96)):
    height, width = size
    return [
        torch.randn(2, c, height // s, width // s) for c, s in zip(channels, strides, strict=True)
    ]


def copy(theirs, ours):
    """Copy the weights of one layer, or of a convolution with its norm and ReLU."""
    ours.load_state_dict(theirs.state_dict())


def copy_folded(conv, norm, ours):
    """Copy a convolution whose batch norm, which ours does not have, is folded into it."""
    copy(fuse_conv_bn_eval(conv, norm), ours)


@torch.no_grad()
def joined_otherwise(conv, parts):
    """Reorder a convolution's input channels: `parts` are widths and their places in our order."""
    weights = conv.weight.split([width for width, _ in parts], dim=1)
    order = sorted(range(len(parts)), key=lambda k: parts[k][1])
    conv.weight.copy_(torch.cat([weights[k] for k in order], dim=1))


def check_equal(ours, theirs, maps, score):
    """Compare the logits, on which each of our parameters has an influence.

    The peer's decoders are given the image, too, of which they read the size at the most.
    """
    with torch.no_grad():
        expected = score(theirs([torch.zeros(2, 3, 64, 96), *maps]))
    logits = ours.eval()(maps)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    logits.square().sum().backward()
    assert [name for name, p in ours.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_unet(mode):
    """Nothing else differs but the default: the peer doubles to the nearest."""
    widths = [32, 24, 16, 12, 8]
    theirs = trained(
        decoders.unet.decoder.UnetDecoder([3, *CHANNELS], widths, interpolation_mode=mode)
    )
    head = make_head(8)
    ours = UNetDecoder(CHANNELS, STRIDES, CLASSES, upsample=mode, widths=widths[::-1])
    for block, step in zip(theirs.blocks, ours.steps, strict=True):
        copy(block.conv1, step.convs[0])
        copy(block.conv2, step.convs[1])
    copy(head[0], ours.head)
    check_equal(ours, theirs, make_maps(CHANNELS), head)


def test_unetplusplus():
    """The peer joins what a node reads in the opposite order.

    Its outermost nodes may have other widths than the rest of their level, which ours have not.
    """
    widths = [24, 16, 12, 8, 6]
    theirs = trained(
        decoders.unetplusplus.decoder.UnetPlusPlusDecoder(
            [3, *CHANNELS], widths, interpolation_mode="bilinear"
        )
    )
    head = make_head(6)
    ours = UNetPlusPlusDecoder(CHANNELS, STRIDES, CLASSES, widths=widths[::-1])
    for key, convs in ours.nodes.items():
        level, number = map(int, key.split("_"))
        row = 3 - level  # of the peer, coarsest first
        block = theirs.blocks[f"x_{row - number}_{row}"]
        copy(block.conv1, convs[0])
        copy(block.conv2, convs[1])
        width = CHANNELS[level]
        below = convs[0][0].in_channels - (number + 1) * width
        joined_otherwise(
            convs[0][0], [(below, 9), *((width, number - k) for k in range(number + 1))]
        )
    copy(theirs.blocks["x_0_4"].conv1, ours.last_steps[0][0])
    copy(theirs.blocks["x_0_4"].conv2, ours.last_steps[0][1])
    copy(head[0], ours.head)
    check_equal(ours, theirs, make_maps(CHANNELS), head)


class Replicated(nn.Module):
    """Transpose a convolution as ours does, which repeats the border instead of adding zeros."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        x = F.conv_transpose2d(
            F.pad(x, (1, 1, 1, 1), mode="replicate"), self.conv.weight, self.conv.bias, stride=2
        )
        return x[..., 3:-3, 3:-3]


def test_linknet():
    """Ours repeats the border of what it transposes; the peer has zeros there."""
    theirs = trained(decoders.linknet.decoder.LinknetDecoder([3, *CHANNELS]))
    head = make_head(32)
    ours = LinkNetDecoder(CHANNELS, STRIDES, CLASSES)
    for block, step in zip(theirs.blocks, ours.steps, strict=True):
        narrow, up, widen = block.block
        copy(narrow, step.narrow)
        copy(up[0], step.up.conv)
        copy(up[1], step.after[0])
        copy(widen, step.widen)
        up[0] = Replicated(up[0])
    copy(head[0], ours.head)
    check_equal(ours, theirs, make_maps(CHANNELS), head)


def test_fpn():
    """Nothing else differs."""
    theirs = trained(decoders.fpn.decoder.FPNDecoder([3, *CHANNELS], 5, 16, 32))
    head = make_head(32, stride=4)
    ours = FPNDecoder(CHANNELS, STRIDES, CLASSES, pyramid_width=16, width=32)
    laterals = theirs.p2.skip_conv, theirs.p3.skip_conv, theirs.p4.skip_conv, theirs.p5
    for lateral, own in zip(laterals, ours.top_down.laterals, strict=True):
        copy(lateral, own)
    for block, way in zip(reversed(theirs.seg_blocks), ours.ways, strict=True):
        for conv, own in zip(block.block, way.convs, strict=True):
            copy(conv.block, own)
    copy(head[0], ours.head.score)
    check_equal(ours, theirs, make_maps(CHANNELS), head)


def test_pspnet():
    """The peer joins the averages by 1x1, before the map; ours, as published, by 3x3, after it."""
    from segmentation_models_pytorch.base.modules import Conv2dReLU

    theirs = decoders.pspnet.decoder.PSPDecoder([3, 8, 12, 16], out_channels=20)
    theirs.conv = Conv2dReLU(32, 20, 3, padding=1)
    trained(theirs)
    head = make_head(20, stride=8)
    ours = PSPNetDecoder([16], [8], CLASSES, width=20)
    for block, pool in zip(theirs.psp.blocks, ours.pooling.pools, strict=True):
        conv, norm, _ = block.pool[1]
        copy(conv, pool.conv[0])
        if not isinstance(norm, nn.Identity):
            copy(norm, pool.conv[1])
    copy(theirs.conv, ours.pooling.join)
    joined_otherwise(ours.pooling.join[0], [(4, 1), (4, 2), (4, 3), (4, 4), (16, 0)])
    copy(head[0], ours.head.score)
    maps = make_maps([16], [8])
    check_equal(ours, theirs, maps, head)


def copy_atrous_pooling(theirs, ours):
    """The batch norm after the average over the image is folded: ours has none there."""
    for branch, own in zip(theirs.convs[:-1], ours.branches[:-1], strict=True):
        copy(branch, own)
    _, conv, norm, _ = theirs.convs[-1]
    copy_folded(conv, norm, ours.branches[-1].conv[0])
    copy(theirs.project[:3], ours.join[0])


def test_deeplabv3():
    """Ours has no batch norm after the average over the image."""
    rates = (1, 2, 3)
    theirs = trained(
        decoders.deeplabv3.decoder.DeepLabV3Decoder(16, 12, rates, False, aspp_dropout=0.5)
    )
    head = make_head(12, stride=8)
    ours = DeepLabV3Decoder([16], [8], CLASSES, width=12, rates=rates)
    copy_atrous_pooling(theirs.aspp, ours.pooling)
    copy(theirs.conv, ours.conv[0])
    copy(theirs.bn, ours.conv[1])
    copy(head[0], ours.head.score)
    check_equal(ours, theirs, make_maps([16], [8]), head)


@torch.no_grad()
def copy_separable(theirs, ours):
    """Multiply a separable convolution's two steps, which nothing parts, to a plain one."""
    (depthwise, pointwise), norm = theirs[0], theirs[1]
    ours[0].weight.copy_(pointwise.weight * depthwise.weight.transpose(0, 1))
    copy(norm, ours[1])


def test_deeplabv3plus():
    """The peer has one convolution before the maps are joined and one after; ours, two after.

    Those of the peer are separable. Ours has no batch norm after the average over the image.
    """
    rates = (1, 2, 3)
    make = decoders.deeplabv3.decoder.DeepLabV3PlusDecoder
    theirs = make([3, *CHANNELS], 5, 20, rates, 16, aspp_separable=False, aspp_dropout=0.5)
    second = make([3, *CHANNELS], 5, 20, rates, 16, aspp_separable=False, aspp_dropout=0.5).aspp[1:]
    theirs.aspp = theirs.aspp[0]
    theirs.block2.extend(second)
    trained(theirs)
    head = make_head(20, stride=4)
    ours = DeepLabV3PlusDecoder([12, 32], [4, 16], CLASSES, width=20, rates=rates)
    copy_atrous_pooling(theirs.aspp, ours.pooling)
    copy(theirs.block1, ours.narrow)
    copy_separable(theirs.block2[:3], ours.convs[0])
    copy_separable(theirs.block2[3:], ours.convs[1])
    copy(head[0], ours.head.score)
    fine, coarse = make_maps([12, 32], [4, 16])
    of_peer = [fine, fine, coarse]  # it reads the third, after the image and one of stride 2
    with torch.no_grad():
        expected = head(theirs([fine, *of_peer]))
        logits = ours.eval()([fine, coarse])
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


def test_upernet():
    """The peer normalises each map over its channels first, which ours leaves to the encoder.

    Its averages have the width of all maps, ours a fourth of their map's; the widths here agree.
    Ours has no batch norm after the average over the image.
    """
    theirs = decoders.upernet.decoder.UPerNetDecoder([3, *CHANNELS], decoder_channels=8)
    theirs.feature_norms = nn.ModuleList(nn.Identity() for _ in theirs.feature_norms)
    trained(theirs)
    head = make_head(8, stride=4)
    ours = UPerNetDecoder(CHANNELS, STRIDES, CLASSES, width=8)
    (_, first), *others = theirs.psp.blocks
    copy_folded(first[0], first[1], ours.pooling.pools[0].conv[0])
    for (_, conv), pool in zip(others, ours.pooling.pools[1:], strict=True):
        copy(conv, pool.conv)
    copy(theirs.psp.out_conv, ours.pooling.join)
    for block, own in zip(reversed(theirs.fpn_lateral_blocks), ours.laterals, strict=True):
        copy(block.conv_norm_relu, own)
    for conv, own in zip(reversed(theirs.fpn_conv_blocks), ours.convs, strict=True):
        copy(conv, own)
    copy(theirs.fusion_block, ours.join.join)
    copy(head[0], ours.head.score)
    check_equal(ours, theirs, make_maps(CHANNELS), head)


def test_segformer():
    """The peer joins the coarsest map first; it would read one of stride 2, if there were any."""
    channels = [0, *CHANNELS[1:]]
    theirs = trained(decoders.segformer.decoder.SegformerDecoder([3, *channels], 5, 20))
    head = make_head(20, stride=4)
    ours = SegFormerDecoder(CHANNELS[1:], STRIDES[1:], CLASSES, width=20)
    for mlp, own in zip(reversed(theirs.mlp_stage), ours.linears, strict=True):
        own.weight.data.copy_(mlp.linear.weight[..., None, None])
        own.bias.data.copy_(mlp.linear.bias)
    copy(theirs.fuse_stage, ours.join.join)
    joined_otherwise(ours.join.join[0], [(20, 3), (20, 2), (20, 1), (20, 0)])
    copy(head[0], ours.head.score)
    nothing, *maps = make_maps(channels)
    check_equal(ours, lambda given: theirs([given[0], nothing, *given[1:]]), maps, head)


@torch.no_grad()
def copy_as_one_channel(theirs, ours):
    """Copy a convolution of the peer's attention to every channel of ours, without its norm."""
    folded = fuse_conv_bn_eval(theirs.conv, theirs.bn)
    shares = ours.in_channels // folded.in_channels  # so many channels of ours hold the same
    ours.weight.copy_(folded.weight.repeat(ours.out_channels, shares, 1, 1) / shares)
    ours.bias.copy_(folded.bias.expand(ours.out_channels))


def test_pan():
    """The peer's attention has one channel and batch norm, ours `width` channels and no norm.

    Nor has ours a norm after averages over the image.
    """
    width = 6
    theirs = trained(decoders.pan.decoder.PANDecoder([3, *CHANNELS], 5, width))
    head = make_head(width, stride=4)
    ours = PANDecoder(CHANNELS, STRIDES, CLASSES, width=width)
    block, attention = theirs.fpa, ours.attention
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.num_features == 1:
            nn.init.ones_(norm.bias)  # the only channel must be above zero somewhere
    copy_folded(block.branch1[1].conv, block.branch1[1].bn, attention.pooled.conv[0])
    for conv, own in zip(
        (block.down1[1], block.down2[1], block.down3[1]), attention.down, strict=True
    ):
        copy_as_one_channel(conv, own[0])
    for conv, own in zip((block.conv1, block.conv2, block.down3[2]), attention.across, strict=True):
        copy_as_one_channel(conv, own[0])
    copy_with_bias(block.mid[0], attention.middle)
    for gau, step in zip((theirs.gau3, theirs.gau2, theirs.gau1), ours.steps, strict=True):
        copy_folded(gau.conv1[1].conv, gau.conv1[1].bn, step.weigh)
        copy_with_bias(gau.conv2, step.conv)
    copy(head[0], ours.head.score)
    # the peer halves to whole pixels alone, so the coarsest map has 8 x 16 of them
    check_equal(ours, theirs, make_maps(CHANNELS, size=(256, 512)), head)


@torch.no_grad()
def copy_with_bias(theirs, ours):
    """Move the bias of the peer's convolution, which ours leaves to the norm, into its mean."""
    ours[0].weight.copy_(theirs.conv.weight)
    copy(theirs.bn, ours[1])
    ours[1].running_mean.sub_(theirs.conv.bias)
