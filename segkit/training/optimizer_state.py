"""The saved state of an optimiser: whether it is of the optimiser there is now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from segkit.errors import UserError

NEEDED = {name: {"step", "exp_avg", "exp_avg_sq"} for name in ("Adam", "AdamW")}
OF_SCHEDULE = ("lr", "initial_lr")  # of a group; all else is as the settings have it


def fits(training: dict[str, Any], optimizer: Optimizer) -> bool:
    """Return whether a saved optimiser is of the same kind, and has as many parameters."""
    saved, own = training["optimizer"]["param_groups"], optimizer.state_dict()["param_groups"]
    if [group["params"] for group in saved] != [group["params"] for group in own]:
        return False
    if "optimizer_name" in training:
        return bool(training["optimizer_name"] == type(optimizer).__name__)
    # before the name was kept; another version of torch may have more keys
    return [sorted(group) for group in saved] == [sorted(group) for group in own]


def load_optimizer(optimizer: Optimizer, saved: dict[str, Any], path: Path) -> None:
    """Load moments and learning rates into an optimiser that they fit; see `fits`.

    Raises:
        UserError: the moments are of other shapes than the weights. Torch would not notice.
    """
    settings = [
        {key: value for key, value in group.items() if key not in ("params", *OF_SCHEDULE)}
        for group in optimizer.param_groups
    ]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    needed = NEEDED.get(type(optimizer).__name__, set())
    for index, values in saved["state"].items():
        if not 0 <= index < len(weights) or not needed <= values.keys():
            raise UserError(_damaged(path))
        for name, value in values.items():
            if isinstance(value, Tensor) and not _belongs(name, value, weights[index]):
                raise UserError(_damaged(path))
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def _belongs(name: str, value: Tensor, weight: Tensor) -> bool:
    shape = torch.Size() if name == "step" else weight.shape
    return value.shape == shape and value.is_floating_point()


def _damaged(path: Path) -> str:
    return f"{path} is damaged: the state of its optimizer does not fit its weights"
