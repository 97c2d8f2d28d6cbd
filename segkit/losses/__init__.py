"""Losses over logits and class indices; needs torch alone.

loss = CrossEntropy()(logits, target)  # (N, num_classes, H, W), int64 (N, H, W) -> scalar
"""

from segkit.losses.base import Loss, MeanLoss, as_loss, mean_loss
from segkit.losses.cross_entropy import CrossEntropy
from segkit.losses.cross_entropy_dice import CrossEntropyDice
from segkit.losses.dice import Dice
from segkit.losses.focal import Focal
from segkit.losses.lovasz import LovaszSoftmax
from segkit.losses.ohem import OHEM

__all__ = [
    "OHEM",
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "Focal",
    "Loss",
    "LovaszSoftmax",
    "MeanLoss",
    "as_loss",
    "mean_loss",
]
