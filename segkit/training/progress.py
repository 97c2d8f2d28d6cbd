"""How far a run has come, when it is finished, and in which settings two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segkit.config.flatten import flatten
from segkit.data.epoch_batches import EpochBatches
from segkit.evaluation import Evaluation

Row = dict[str, Any]  # an epoch in metrics.csv

# These settings change where a run happens, not what comes out of it.
FREE_ON_RESUME = (
    "run_dir",
    "data.root",
    "data.workers",
    "data.cache",
    "train.samples",
    "train.timeout",
    "train.tensorboard",
    "checkpoint",
)


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0  # epochs finished, validation included
    step: int = 0  # steps done in the epoch after those
    loss_sum: float = 0.0  # of those steps
    seconds: float = 0.0  # that those steps took
    waited: float = 0.0  # seconds of these that were spent waiting for data
    best_miou: float = -1.0  # of all epochs; -1 before the first
    best_epoch: int = 0  # the epoch that reached it, counted from 1
    history: list[Row] = field(default_factory=list)  # one row an epoch

    def is_finished(self, epochs: int, patience: int | None) -> bool:
        """Return whether the last epoch is done, or `patience` epochs brought nothing better."""
        if self.epoch >= epochs:
            return True
        judged = bool(self.history) and "miou" in self.history[-1]
        return judged and patience is not None and self.epoch - self.best_epoch >= patience


def epoch_row(
    progress: Progress,
    sampler: EpochBatches,
    lr: float,
    evaluation: Evaluation | None,
    names: tuple[str, ...],
) -> Row:
    """Return the row of the epoch that is ending; scores are shares of one."""
    row: Row = {"epoch": progress.epoch + 1, "loss": progress.loss_sum / sampler.steps, "lr": lr}
    if evaluation is not None:
        scores = evaluation.scores
        row |= {
            "val_loss": evaluation.loss,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "miou": scores.miou,
            "classes_present": scores.classes_present,
            **{f"iou/{name}": iou for name, iou in zip(names, scores.iou, strict=True)},
        }
    return row | {
        "seconds": progress.seconds,
        "seconds_per_step": progress.seconds / sampler.steps,
        "images_per_second": sampler.length / progress.seconds,
        "waiting_share": progress.waited / progress.seconds,
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """List the settings that differ, as `key: before -> after`, but for those that may."""
    old, new = flatten(before), flatten(after)
    return [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and not key.startswith(FREE_ON_RESUME)
        and not (key == "data.card" and _is_same_card(old.get(key), new.get(key)))
    ]


def _is_same_card(one: str | None, other: str | None) -> bool:
    """Return whether a card was found from two working directories: one path ends in the other."""
    if one is None or other is None:  # an experiment without a config has no card
        return False
    short, long = sorted((Path(one).parts, Path(other).parts), key=len)
    return long[-len(short) :] == short
