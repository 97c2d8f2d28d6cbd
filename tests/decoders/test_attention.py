"""Attention in decoders, beside the formulas of the papers and segmentation_models.pytorch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import SqueezeExcitation

from segkit.decoders import DPTDecoder, MANetDecoder, UNetDecoder
from segkit.decoders.attention import SCSE, ChannelWeights, GatedStep
from segkit.decoders.manet import PositionAttention
from segkit.errors import UserError
from segkit.receptive_field import sees_all
from segkit.upsample import Interpolate

CHANNELS, STRIDES = [64, 80, 96], [2, 4, 8]


def randomised(module: nn.Module) -> nn.Module:
    """In eval mode and fp64, with statistics of batch norm that are not those it starts with."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_(std=0.1)
            each.running_var.uniform_(0.5, 2)
    return module.eval().double()


def copy_in_order(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy all tensors from one module to another that declares them in the same order."""
    found, wanted = theirs.state_dict().values(), ours.state_dict()
    ours.load_state_dict(dict(zip(wanted, found, strict=True)))


def maps(sizes=((24, 40), (12, 20), (6, 10))):
    shapes = zip(CHANNELS, sizes, strict=True)
    return [torch.randn(2, channels, *size, dtype=torch.float64) for channels, size in shapes]


@torch.no_grad()
def test_channels_are_weighed_as_by_squeeze_and_excitation():
    torch.manual_seed(0)
    theirs = SqueezeExcitation(64, 4).double()
    ours = ChannelWeights(64).double()
    copy_in_order(ours, theirs)
    x = torch.randn(2, 64, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(x * ours(x), theirs(x))


@torch.no_grad()
def test_scse_is_that_of_the_peer():
    modules = pytest.importorskip("segmentation_models_pytorch.base.modules")
    torch.manual_seed(0)
    theirs = modules.SCSEModule(64).double()
    ours = SCSE(64).double()
    copy_in_order(ours, theirs)
    x = torch.randn(2, 64, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


@torch.no_grad()
def test_pixels_attend_to_all_pixels():
    torch.manual_seed(0)
    block = PositionAttention(6, 3).double()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    query, key, value = block.query(x), block.key(x), block.value(x)
    expected = x.clone()
    for n in range(2):
        for i in range(4):
            for j in range(5):
                match = torch.einsum("c,chw->hw", query[n, :, i, j], key[n]).exp()
                expected[n, :, i, j] += (value[n] * (match / match.sum())).sum((1, 2))
    torch.testing.assert_close(block(x), block.out(expected))


@torch.no_grad()
def test_a_gate_weighs_each_pixel_of_the_skip():
    torch.manual_seed(0)
    step = GatedStep(Interpolate("bilinear"), 8, 6, 5, 1, "none").double()
    below, skip = torch.randn(2, 8, 4, 5).double(), torch.randn(2, 6, 9, 10).double()
    grown = Interpolate("bilinear")(below, (9, 10))
    of_skip = skip.permute(0, 2, 3, 1) @ step.of_skip.weight[:, :, 0, 0].T
    of_below = grown.permute(0, 2, 3, 1) @ step.of_below.weight[:, :, 0, 0].T
    hidden = F.relu(of_skip + of_below + step.of_below.bias)
    score = hidden @ step.weight.weight[0, :, 0, 0] + step.weight.bias
    gated = skip / (1 + (-score).exp()).unsqueeze(1)
    expected = step.convs(torch.cat([grown, gated], dim=1))
    torch.testing.assert_close(step(below, (9, 10), [skip]), expected)


@pytest.mark.parametrize(("attention", "far"), [("none", False), ("gates", False), ("scse", True)])
def test_scse_alone_sees_the_whole_image(attention, far):
    decoder = UNetDecoder(CHANNELS, STRIDES, 3, attention=attention)
    assert sees_all(decoder) == far


def test_an_unknown_attention_is_told():
    with pytest.raises(UserError, match="attention"):
        UNetDecoder(CHANNELS, STRIDES, 3, attention="scsee")


@torch.no_grad()
def test_manet_is_that_of_the_peer():
    """But for the attention, which is tested above.

    The peer takes one softmax over all pairs of pixels, and reads the pixels of the result as its
    channels.
    """
    peer = pytest.importorskip("segmentation_models_pytorch.decoders.manet.decoder")
    torch.manual_seed(0)
    theirs = randomised(peer.MAnetDecoder([3, *CHANNELS], [32, 24, 16], n_blocks=3))
    options = {"upsample": "nearest", "widths": [16, 24, 32]}
    ours = randomised(MANetDecoder(CHANNELS, STRIDES, 5, **options))
    theirs.center = ours.attention
    for mine, other in zip(ours.steps, theirs.blocks, strict=True):
        if hasattr(other, "hl_conv"):
            copy_in_order(mine.narrow, other.hl_conv)
            copy_in_order(mine.of_skip, other.SE_ll)
            copy_in_order(mine.of_below, other.SE_hl)
        copy_in_order(mine.convs, nn.Sequential(other.conv1, other.conv2))
    given = maps()
    torch.testing.assert_close(ours(given), ours.head(theirs([torch.empty(0), *given])))


@torch.no_grad()
def test_dpt_is_that_of_the_peer(monkeypatch):
    """But for `align_corners`; a transformer's tokens are made into maps by its encoder here."""
    peer = pytest.importorskip("segmentation_models_pytorch.decoders.dpt.decoder")
    torch.manual_seed(0)
    theirs = randomised(
        peer.DPTDecoder(
            encoder_out_channels=CHANNELS,
            encoder_output_strides=[4, 8, 16],
            intermediate_channels=CHANNELS,
            fusion_channels=16,
            readout="ignore",
        )
    )
    their_head = randomised(peer.DPTSegmentationHead(16, 5))
    ours = randomised(DPTDecoder(CHANNELS, [4, 8, 16], 5, width=16))
    for mine, other in zip(ours.laterals, theirs.reassemble_blocks, strict=True):
        other.project_to_out_channel = nn.Identity()
        mine.load_state_dict(other.project_to_feature_dim.state_dict())
    for mine, other in zip(reversed(ours.fusions), theirs.fusion_blocks, strict=True):
        copy_in_order(mine.of_map, other.residual_conv_block1)
        copy_in_order(mine.of_sum, other.residual_conv_block2)
        mine.project.load_state_dict(other.project.state_dict())
    copy_in_order(ours.last, their_head.head[:4])
    ours.head.score.load_state_dict(their_head.head[4].state_dict())
    interpolate = F.interpolate
    monkeypatch.setattr(
        F, "interpolate", lambda x, **how: interpolate(x, **how | {"align_corners": False})
    )
    given = maps()
    expected = their_head(theirs(given, [None] * 3))
    monkeypatch.undo()
    torch.testing.assert_close(ours(given), expected)
