"""Metrics that collect batches, as `torchmetrics.Metric`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from segkit.errors import UserError
from segkit.evaluation.scores import scores_of
from segkit.evaluation.summarize import OF_PIXELS
from segkit.labels import IGNORE_INDEX
from segkit.metrics.functional import confusion_matrix


class SegmentationScores(Metric):
    """Pixel accuracy, mean accuracy, mIoU, frequency-weighted IoU and mean Dice of a whole set.

    `compute` returns a scalar for each name, as Lightning's `log_dict` takes it, and `iou/NAME`
    for each class of `class_names`.

    Args:
        num_classes: number of classes.
        class_names: names of the classes whose IoU is wanted; None: none of them.
        ignore_index: of void in the target.
        kwargs: of `torchmetrics.Metric`.

    >>> metric = SegmentationScores(num_classes=2)
    >>> metric.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 1, 0]]]))
    >>> metric.compute()["miou"]
    tensor(0.5000)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    matrix: Tensor

    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        ignore_index: int = IGNORE_INDEX,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if class_names is not None and len(class_names) != num_classes:
            raise UserError(f"there are {len(class_names)} class names for {num_classes} classes")
        self.num_classes, self.class_names = num_classes, class_names
        self.ignore_index = ignore_index
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrix", empty, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch: class indices `(N, H, W)` or logits `(N, num_classes, H, W)`."""
        self.matrix += confusion_matrix(
            prediction, target, self.num_classes, ignore_index=self.ignore_index
        ).to(self.matrix.device)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores of all that was counted, as shares of one."""
        found = scores_of(self.matrix)
        values = {name: getattr(found, name) for name in OF_PIXELS}
        values |= {f"iou/{n}": v for n, v in zip(self.class_names or (), found.iou, strict=False)}
        return {name: torch.tensor(value) for name, value in values.items()}
