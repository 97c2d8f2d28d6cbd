"""Samples of a split to look at: those that training begins with, or some spread over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segkit.config import Config
from segkit.data.card import Card
from segkit.data.dataset import build_dataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.images import Pixels
from segkit.data.reader import SampleReader
from segkit.data.statistics import channel_statistics
from segkit.errors import UserError


def browse(
    config: Config, card: Card, split: str, count: int, raw: bool = False
) -> Sequence[tuple[Pixels | Tensor, NDArray[np.uint8] | Tensor, str]]:
    """Return up to `count` samples as (image, mask, name).

    Of the training split, they are those of the first epoch in its order, augmented; of another,
    they are spread over it evenly and go through `data.eval_transforms`. Raw samples are arrays
    `(H, W, C)` without transforms instead of tensors `(C, H, W)`.
    """
    if count < 1:
        raise UserError(f"--count is {count}; it must be 1 or more")
    data, channels = config.data, config.model.in_channels
    is_training = split == data.train_split
    reader = SampleReader(card, split, channels)
    count = min(count, len(reader))
    if is_training:
        [keys] = EpochBatches(len(reader), len(reader), seed=config.seed)
        keys = keys[:count]
    else:
        keys = [(0, index * len(reader) // count) for index in range(count)]
    if raw:
        return [(*reader.read(index), reader.pairs[index].name) for _, index in keys]
    mean = data.mean
    if isinstance(mean, str):
        train = reader if is_training else SampleReader(card, data.train_split, channels)
        mean, _ = channel_statistics(train)
    dataset = build_dataset(config, reader, augment=is_training, mean=mean)
    return [dataset.sample(index, epoch) for epoch, index in keys]
