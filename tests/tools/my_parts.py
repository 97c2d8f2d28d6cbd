"""Parts as a user would write them, outside of the package."""

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

import segkit
from segkit.decoders import Decoder
from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Wants, crop_or_pad, size_at
from segkit.registry import Bounds


@segkit.register("encoder", "tiny_pools")
class TinyPools(nn.Module):
    """Convolutions at strides 1, 2 and 4, as far as they are wanted."""

    def __init__(self, wants: Wants, in_channels: int = 3, *, width: int = 8):
        super().__init__()
        if wants.indices:
            raise UserError("tiny_pools averages and has no indices; choose another decoder")
        strides = wants.choose([1, 2, 4])
        self.specs = tuple(FeatureSpec(f"map{s}", width * s, s) for s in strides)
        self.stride = strides[-1]
        channels = [in_channels, *(width * s for s in (1, 2, 4) if s <= self.stride)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))

    def forward(self, x: torch.Tensor) -> Pyramid:
        maps, sizes = [], []
        for number, conv in enumerate(self.convs):
            x = F.relu(conv(F.avg_pool2d(x, 2) if number else x))
            maps.append(x)
            sizes.append((x.shape[-2], x.shape[-1]))
        return Pyramid([maps[spec.stride // 2] for spec in self.specs], sizes)


@segkit.register("decoder", "scores")
class Scores(Decoder):
    """Adds up the scores of all maps."""

    def __init__(self, in_channels, strides, num_classes, *, dropout: float = 0.0):
        super().__init__(in_channels, strides)
        self.heads = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in in_channels)
        self.dropout = dropout

    def decode(self, maps, sizes, indices):
        size = size_at(1, sizes) or [self.strides[0] * side for side in maps[0].shape[-2:]]
        total = 0
        for head, stride, x in zip(self.heads, self.strides, maps, strict=True):
            scores = head(F.dropout(x, self.dropout, self.training))
            scores = F.interpolate(scores, scale_factor=float(stride), mode="nearest")
            total = total + crop_or_pad(scores, size, "replicate")
        return total


@segkit.register("loss", "brier")
class Brier(nn.Module):
    """Squared error of the probabilities, as a plain mean over the valid pixels."""

    def __init__(self, power: Annotated[float, Bounds(gt=0)] = 2.0):
        super().__init__()
        self.power = power

    def forward(self, logits, target):
        valid = target != 255
        truth = F.one_hot(target.where(valid, 0), logits.shape[1]).movedim(-1, 1)
        errors = (logits.softmax(1) - truth).abs().pow(self.power).sum(1)
        return errors[valid].sum() / valid.sum().clamp(min=1)


@segkit.register("optimizer", "rmsprop")
def rmsprop(groups, *, lr: float, alpha: float = 0.99):
    return torch.optim.RMSprop(groups, lr, alpha)


@segkit.register("schedule", "halves")
def halves(total_steps, steps_per_epoch, *, every: int = 1):
    return lambda step: 0.5 ** (step // (every * steps_per_epoch))
