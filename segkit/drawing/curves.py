"""The curves of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segkit.drawing.figures import figure_text, outlined, save_figure
from segkit.drawing.masks import rgb
from segkit.labels import Classes


def draw_curves(path: Path, history: Sequence[dict[str, Any]], classes: Classes) -> None:
    """Draw loss, scores and the IoU of each class over epochs, a row of `metrics.jsonl` each."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, scores, ious = figure.subplots(1, 3)

    _line(loss, history, "loss", label="training loss", color="tab:blue")
    _line(loss, history, "val_loss", label="validation loss", color="tab:orange")
    loss.set_title("loss")
    loss.set_ylim(bottom=0)
    rate = loss.twinx()
    _line(rate, history, "lr", label="learning rate", color="0.6")
    rate.ticklabel_format(axis="y", scilimits=(0, 0))
    loss.legend(handles=[*loss.lines, *rate.lines], frameon=False)

    for key in ("pixel_accuracy", "mean_accuracy", "miou"):
        _line(scores, history, key, label=key.replace("_", " ").replace("miou", "mIoU"))
    scores.set_title("validation")

    for name, color in zip(classes.names, classes.colors, strict=True):
        style = {"color": rgb(color), "path_effects": outlined(color)}
        _line(ious, history, f"iou/{name}", label=figure_text(name), **style)
    ious.set_title("validation IoU per class")

    for axis in (scores, ious):
        axis.set_ylim(0, 1)
        if axis.lines:  # none without a validation set
            axis.legend(frameon=False, fontsize="small", ncols=2, loc="lower right")
    for axis in (loss, scores, ious):
        axis.set(xlabel="epoch", xlim=(0, len(history) + 1))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    save_figure(figure, path)


def _line(axis: Axes, history: Sequence[dict[str, Any]], key: str, **style: Any) -> None:
    known = [row for row in history if row.get(key) is not None]  # not every epoch is validated
    marker = "o" if len(known) < 3 else None  # a line of one point cannot be seen
    if known:
        axis.plot([r["epoch"] for r in known], [r[key] for r in known], marker=marker, **style)
