"""What is kept and told of each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segkit.evaluation import Scores
from segkit.evaluation.metrics import percent


def epoch_row(
    epoch: int,
    scores: Scores,
    class_names: Sequence[str],
    *,
    loss: float,
    lr: float,
    **speed: float,
) -> dict[str, Any]:
    """Gather a row of metrics.csv and metrics.jsonl; scores are shares of one."""
    classes = zip(class_names, scores.iou, strict=True)
    return {
        "epoch": epoch,
        "loss": loss,
        "lr": lr,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_accuracy": scores.mean_accuracy,
        "miou": scores.miou,
        "classes_present": scores.classes_present,
        **{f"iou/{name}": iou for name, iou in classes},
        **speed,
    }


def epoch_line(row: dict[str, Any], scores: Scores, class_names: Sequence[str], epochs: int) -> str:
    """Write an epoch for the terminal, in two lines."""
    classes = zip(class_names, scores.iou, strict=True)
    per_class = "  ".join(f"{name} {percent(iou)}" for name, iou in classes)
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  "
        f"{row['images_per_second']:.1f} images/s  "
        f"pixel accuracy {percent(scores.pixel_accuracy)} %  "
        f"mean accuracy {percent(scores.mean_accuracy)} %  {scores.miou_line()}\n"
        f"    IoU: {per_class}"
    )
