"""What decoders gather from around a pixel, beside torch's and torchvision's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from segkit.decoders import DeepLabV3Decoder, PSPNetDecoder
from segkit.decoders.context import average_grid
from segkit.errors import UserError
from segkit.receptive_field import sees_all


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (6, 6), (11, 23)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_averages_are_those_of_an_adaptive_pool(bins, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(average_grid(x, bins), F.adaptive_avg_pool2d(x, bins))


def test_averages_are_exported_with_free_sizes():
    class Grid(nn.Module):
        def forward(self, x):
            return average_grid(x, 3)

    free = torch.export.Dim("h", min=2), torch.export.Dim("w", min=2)
    example = torch.randn(1, 2, 12, 17)
    graph = torch.export.export(Grid(), (example,), dynamic_shapes=({2: free[0], 3: free[1]},))
    x = torch.randn(1, 2, 9, 31)
    torch.testing.assert_close(graph.module()(x), F.adaptive_avg_pool2d(x, 3))


@torch.no_grad()
def test_deeplabv3_is_torchvision_s():
    """Its head, less the batch norm after the average, which is folded into the convolution."""
    torch.manual_seed(0)
    theirs = DeepLabHead(16, 5, atrous_rates=(6, 12, 18)).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    ours = DeepLabV3Decoder([16], [16], num_classes=5).eval()
    branches = theirs[0].convs
    for mine, other in zip(ours.pooling.branches[:4], branches[:4], strict=True):
        mine.load_state_dict(other.state_dict())
    folded = nn.utils.fusion.fuse_conv_bn_eval(branches[4][1], branches[4][2])
    ours.pooling.branches[4].conv[0].load_state_dict(folded.state_dict())
    ours.pooling.join[0].load_state_dict(theirs[0].project.state_dict())
    ours.conv[0].load_state_dict(theirs[1].state_dict())
    ours.conv[1].load_state_dict(theirs[2].state_dict())
    ours.head.score.load_state_dict(theirs[4].state_dict())
    x = torch.randn(2, 16, 9, 13)
    expected = F.interpolate(theirs(x), scale_factor=16, mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours([x]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decoder", [DeepLabV3Decoder, PSPNetDecoder])
def test_a_batch_of_one_image_trains(decoder):
    """Even where the map is so small that an average has one value a channel."""
    network = decoder([16], [16], num_classes=3).train()
    logits = network([torch.randn(1, 16, 2, 2)])
    logits.sum().backward()
    assert logits.shape == (1, 3, 32, 32)
    assert sees_all(network)


@pytest.mark.parametrize(
    ("decoder", "option"), [(DeepLabV3Decoder, "rates"), (PSPNetDecoder, "bins")]
)
@pytest.mark.parametrize("numbers", [[], [0], [2, -1]])
def test_numbers_below_one_are_refused(decoder, option, numbers):
    with pytest.raises(UserError, match=f"^{option}=.* from 1 upwards$"):
        decoder([16], [16], num_classes=5, **{option: numbers})
