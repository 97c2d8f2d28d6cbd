"""Scores as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from segkit.data.card import Card
from segkit.evaluation.evaluate import Evaluation
from segkit.evaluation.metrics import majority_baseline, percent


def class_table(evaluation: Evaluation, card: Card) -> Table:
    """Lay out IoU, accuracy and share of the truth for each class."""
    table = Table(title=f"{card.name}: {evaluation.images} images")
    table.add_column("class")
    for column in ("IoU %", "accuracy %", "share of pixels %"):
        table.add_column(column, justify="right")
    truth = evaluation.matrix.sum(1)
    shares = (truth / truth.sum()).tolist()
    scores = evaluation.scores
    for row in zip(card.class_names, scores.iou, scores.accuracy, shares, strict=True):
        table.add_row(row[0], *(percent(share) for share in row[1:]))
    return table


def headlines(evaluation: Evaluation, card: Card) -> list[str]:
    """Write the headline figures, with the majority-class baseline beside them."""
    scores = evaluation.scores
    majority, baseline = majority_baseline(evaluation.matrix)
    lines = [
        f"pixel accuracy {percent(scores.pixel_accuracy)} %, "
        f"mean accuracy {percent(scores.mean_accuracy)} %",
        f"{scores.miou_line()}, frequency-weighted {percent(scores.frequency_weighted_iou)} %",
        f"baseline, '{card.class_names[majority]}' everywhere: pixel accuracy "
        f"{percent(baseline.pixel_accuracy)} %, mIoU {percent(baseline.miou)} %",
    ]
    if scores.miou <= baseline.miou + 0.01:
        lines.append("WARNING: the model is no better than that baseline")
    return lines
