"""SegNet as a plain network of convolutions, max pools and max unpools gives the same logits."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from segkit.model import create_model

DEPTHS = [1, 1, 2, 2, 2]  # of VGG11's stages
WIDTHS = [4, 8, 16, 32, 32]  # a sixteenth of VGG11's


def conv_norm_relu(widths):
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers)


class SegNet(nn.Module):
    """Badrinarayanan et al. 2017, on VGG11, with a convolution of 1x1 at the end, as ours has."""

    def __init__(self, num_classes):
        super().__init__()
        self.down, self.up, channels = nn.ModuleList(), nn.ModuleList(), 3
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            self.down.append(conv_norm_relu([channels] + [width] * depth))
            channels = width
        for stage in reversed(range(5)):
            finer = WIDTHS[max(0, stage - 1)]
            self.up.append(conv_norm_relu([WIDTHS[stage]] * DEPTHS[stage] + [finer]))
        self.head = nn.Conv2d(WIDTHS[0], num_classes, 1)

    def forward(self, x):
        pools = []
        for stage in self.down:
            x = stage(x)
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            pools.append((indices, size))
        for stage in self.up:
            indices, size = pools.pop()
            x = stage(F.max_unpool2d(x, indices, 2, 2, output_size=size))
        return self.head(x)


def layers_of(network, kinds):
    return [layer for layer in network.modules() if isinstance(layer, kinds)]


@torch.no_grad()
def test_a_plain_segnet_gives_the_same_logits():
    """Ours has no biases where a norm follows, as our decoders do throughout: they are zero."""
    torch.manual_seed(0)
    ours = create_model("unpool", "vgg11_bn", num_classes=5, encoder_options={"width": 1 / 16})
    plain = SegNet(5)
    kinds = nn.Conv2d, nn.BatchNorm2d
    for mine, theirs in zip(layers_of(ours, kinds), layers_of(plain, kinds), strict=True):
        if isinstance(mine, nn.BatchNorm2d):
            mine.running_mean.normal_(std=0.3)
            mine.running_var.uniform_(0.5, 2)
            mine.bias.normal_(std=0.3)
            theirs.load_state_dict(mine.state_dict())
        else:
            theirs.weight.copy_(mine.weight)
            theirs.bias.zero_() if mine.bias is None else theirs.bias.copy_(mine.bias)
    ours.double().eval()
    plain.double().eval()
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    assert plain(x).std() > 0.01
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-9, atol=1e-9)
