"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segkit.config.schema import (
    AdamConfig,
    CosineConfig,
    OneCycleConfig,
    PolyConfig,
    SGDConfig,
    TrainConfig,
)
from segkit.model import SegmentationModel


def build_optimizer(model: SegmentationModel, config: SGDConfig | AdamConfig) -> Optimizer:
    """Build the optimiser: the encoder has its own learning rate, norms and biases no decay.

    Args:
        model: to train.
        config: the section `train.optimizer`.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    encoder = set(model.encoder.parameters())
    for parameter in model.parameters():
        if parameter.requires_grad:
            # norms and biases are vectors, weights have two dimensions or more
            key = (parameter in encoder, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    parameters = [
        {
            "params": members,
            "lr": config.lr * (config.encoder_lr_factor if in_encoder else 1),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (in_encoder, decays), members in groups.items()
    ]
    if isinstance(config, SGDConfig):
        return SGD(parameters, config.lr, config.momentum, nesterov=config.nesterov, fused=True)
    kind: Any = AdamW if config.name == "adamw" else Adam
    return kind(parameters, config.lr, config.betas, fused=True)


def build_schedule(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int) -> LambdaLR:
    """Build the schedule; step it once after each optimiser step."""
    return LambdaLR(optimizer, lr_factor(config, steps_per_epoch))


def lr_factor(config: TrainConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Give the learning rate of step 0, 1, ... as a factor of the configured one."""
    schedule = config.schedule
    total = config.epochs * steps_per_epoch

    if isinstance(schedule, OneCycleConfig):
        return lambda step: _one_cycle(min(step / total, 1.0), schedule.peak)

    warmup = round(schedule.warmup_epochs * steps_per_epoch)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        if isinstance(schedule, CosineConfig):
            return (1 + math.cos(math.pi * progress)) / 2
        if isinstance(schedule, PolyConfig):
            return (1 - progress) ** schedule.power
        return 1.0

    return factor


def _one_cycle(progress: float, peak: float) -> float:
    """Rise by half a cosine from 1/25 to 1 at `peak`, fall by another to 0 (Smith 2018)."""
    if progress < peak:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * progress / peak)) / 2
    return (1 + math.cos(math.pi * (progress - peak) / (1 - peak))) / 2


def learning_rate(optimizer: Optimizer) -> float:
    """Give the learning rate of the decoder, the largest of all groups."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
