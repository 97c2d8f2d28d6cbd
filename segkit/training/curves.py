"""The curves of a run as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segkit.data.card import Card
from segkit.data.draw import rgb


def draw_curves(path: Path, history: Sequence[dict[str, Any]], card: Card) -> None:
    """Draw loss, scores and per-class IoU over the epochs."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, scores, classes = figure.subplots(1, 3)

    _line(loss, history, "loss", label="training loss", color="tab:blue")
    loss.set_title("loss")
    loss.set_ylim(bottom=0)
    rate = loss.twinx()
    _line(rate, history, "lr", label="learning rate", color="0.6")
    rate.ticklabel_format(axis="y", scilimits=(0, 0))
    loss.legend(handles=[*loss.lines, *rate.lines], frameon=False)

    for key in ("pixel_accuracy", "mean_accuracy", "miou"):
        _line(scores, history, key, label=key.replace("_", " ").replace("miou", "mIoU"))
    scores.set_title("validation")

    for entry in card.classes:
        _line(classes, history, f"iou/{entry.name}", label=entry.name, color=rgb(entry.color))
    classes.set_title("validation IoU per class")

    for axis in (scores, classes):
        axis.set_ylim(0, 1)
        axis.legend(frameon=False, fontsize="small", ncols=2, loc="lower right")
    for axis in (loss, scores, classes):
        axis.set_xlabel("epoch")
        axis.set_xlim(0, len(history) + 1)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def _line(axis: Axes, history: Sequence[dict[str, Any]], key: str, **style: Any) -> None:
    marker = "o" if len(history) < 3 else None  # a line of one point cannot be seen
    axis.plot([r["epoch"] for r in history], [r[key] for r in history], marker=marker, **style)
