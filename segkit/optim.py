"""Optimisers and learning-rate schedules; needs torch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segkit.errors import UserError
from segkit.registry import Bounds, find, register

Groups = list[dict[str, Any]]  # parameter groups as torch's optimisers take them
Factor = Callable[[int], float]  # the learning rate of step 0, 1, ... as a factor of `lr`
LearningRate = Annotated[float, Bounds(gt=0)]
Epochs = Annotated[float, Bounds(ge=0)]
Decay = Annotated[float, Bounds(ge=0, lt=1)]


@register("optimizer", "sgd")
def sgd(
    groups: Groups,
    *,
    lr: LearningRate,
    momentum: Decay = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent with momentum.

    Args:
        groups: of parameters.
        lr: the largest learning rate.
        momentum: share of the last step that is kept.
        nesterov: look ahead (Nesterov 1983); needs momentum.

    Raises:
        UserError: `nesterov` without momentum.
    """
    if nesterov and momentum == 0:
        raise UserError("train.optimizer: nesterov needs a momentum above 0, e.g. 0.9")
    return SGD(groups, lr, momentum, nesterov=nesterov, fused=True)


@register("optimizer", "adam")
def adam(
    groups: Groups, *, lr: LearningRate, betas: tuple[Decay, Decay] = (0.9, 0.999)
) -> Optimizer:
    """Adam (Kingma and Ba 2015).

    Args:
        groups: of parameters.
        lr: the largest learning rate.
        betas: decay of the running means of the gradient and of its square.
    """
    return Adam(groups, lr, betas, fused=True)


@register("optimizer", "adamw")
def adamw(
    groups: Groups, *, lr: LearningRate, betas: tuple[Decay, Decay] = (0.9, 0.999)
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        groups: of parameters.
        lr: the largest learning rate.
        betas: decay of the running means of the gradient and of its square.
    """
    return AdamW(groups, lr, betas, fused=True)


@register("schedule", "constant")
def constant(total_steps: int, steps_per_epoch: int, *, warmup_epochs: Epochs = 0.0) -> Factor:
    """One learning rate, after a linear warm-up from zero.

    Args:
        total_steps: of the training.
        steps_per_epoch: of them.
        warmup_epochs: first epochs, or a fraction of one, in which the rate rises.
    """
    return _warmed_up(total_steps, warmup_epochs * steps_per_epoch, lambda progress: 1.0)


@register("schedule", "cosine")
def cosine(total_steps: int, steps_per_epoch: int, *, warmup_epochs: Epochs = 0.0) -> Factor:
    """Half a cosine down to zero.

    Args:
        total_steps: of the training.
        steps_per_epoch: of them.
        warmup_epochs: first epochs, or a fraction of one, in which the rate rises.
    """
    return _warmed_up(
        total_steps,
        warmup_epochs * steps_per_epoch,
        lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    )


@register("schedule", "poly")
def poly(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: Epochs = 0.0,
    power: Annotated[float, Bounds(gt=0)] = 0.9,
) -> Factor:
    """`(1 - progress) ** power`, down to zero.

    Args:
        total_steps: of the training.
        steps_per_epoch: of them.
        warmup_epochs: first epochs, or a fraction of one, in which the rate rises.
        power: 1 is a straight line; smaller ones stay high for longer.
    """
    return _warmed_up(
        total_steps, warmup_epochs * steps_per_epoch, lambda progress: (1 - progress) ** power
    )


@register("schedule", "onecycle")
def onecycle(
    total_steps: int, steps_per_epoch: int, *, peak: Annotated[float, Bounds(gt=0, lt=1)] = 0.3
) -> Factor:
    """Half a cosine up from 1/25 of the rate, until `peak`, another down to zero (Smith 2018).

    Args:
        total_steps: of the training.
        steps_per_epoch: of them.
        peak: share of the training after which the rate is highest.
    """

    def factor(step: int) -> float:
        progress = min(step / total_steps, 1.0)
        if progress < peak:
            return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * progress / peak)) / 2
        return (1 + math.cos(math.pi * (progress - peak) / (1 - peak))) / 2

    return factor


def _warmed_up(total_steps: int, warmup_steps: float, after: Callable[[float], float]) -> Factor:
    """Rise linearly for some steps, then follow a function of the progress from 0 to 1."""
    warmup = round(warmup_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return after(min((step - warmup) / max(total_steps - warmup, 1), 1.0))

    return factor


def build_optimizer(model: nn.Module, options: Mapping[str, Any]) -> Optimizer:
    """Build an optimiser from the options of `train.optimizer`.

    An `encoder` of the model has its own learning rate; norms and biases have no weight decay.
    """
    own = dict(options)
    name, decay, factor = (own.pop(k) for k in ("name", "weight_decay", "encoder_lr_factor"))
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    encoder = getattr(model, "encoder", None)
    in_encoder = set(encoder.parameters()) if isinstance(encoder, nn.Module) else set()
    for parameter in model.parameters():
        if parameter.requires_grad:
            # norms and biases are vectors, weights have two dimensions or more
            key = (parameter in in_encoder, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    parameters = [
        {
            "params": members,
            "lr": own["lr"] * (factor if of_encoder else 1),
            "weight_decay": decay if decays else 0.0,
        }
        for (of_encoder, decays), members in groups.items()
    ]
    optimizer: Optimizer = find("optimizer", name)(parameters, **own)
    return optimizer


def build_schedule(
    optimizer: Optimizer, options: Mapping[str, Any], epochs: int, steps_per_epoch: int
) -> LambdaLR:
    """Build a schedule from the options of `train.schedule`; step it after each optimiser step."""
    own = dict(options)
    build = find("schedule", own.pop("name"))
    return LambdaLR(optimizer, build(epochs * steps_per_epoch, steps_per_epoch, **own))


def learning_rate(optimizer: Optimizer) -> float:
    """Return the learning rate of the decoder, the largest of all groups."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
