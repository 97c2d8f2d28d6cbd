"""The loss over the learning rate, as a learning-rate range test found it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from segkit.drawing.figures import figure_text, save_figure


def draw_range_test(path: Path, test: Any, configured: float, title: str) -> None:
    """Draw the losses over the learning rate, and mark the configured and the suggested one.

    Args:
        path: of the picture.
        test: `rates`, `losses` and `smoothed` losses, one a step, and `suggestion`, a rate or None.
        configured: learning rate of the experiment.
        title: of the plot.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.semilogx(test.rates, test.losses, color="tab:blue", alpha=0.35, label="loss")
    axis.semilogx(test.rates, test.smoothed, color="tab:blue", label="smoothed")
    if test.suggestion:
        axis.axvline(test.suggestion, color="tab:red", label=f"suggested: {test.suggestion:.1e}")
    axis.axvline(configured, color="0.4", linestyle="--", label=f"configured: {configured:.1e}")
    if test.losses:  # what diverges may leave the picture
        lowest = int(np.argmin(test.smoothed))
        axis.set_ylim(0, 1.2 * max(test.losses[: lowest + 1]))
    axis.set(title=figure_text(title), xlabel="learning rate", ylabel="loss")
    axis.grid(alpha=0.3)
    axis.legend(edgecolor="none")
    save_figure(figure, path)
