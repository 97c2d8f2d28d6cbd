"""An evaluation as JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from segkit.evaluation.calibration import BINS
from segkit.evaluation.evaluate import Evaluation
from segkit.evaluation.findings import Findings
from segkit.evaluation.metrics import class_counts, figures


def as_json(evaluation: Evaluation, findings: Findings, **origin: str) -> dict[str, Any]:
    """Gather all figures as plain values; what is n/a is None, as JSON has no nan.

    Args:
        evaluation: the counts.
        findings: the figures read off them.
        origin: of the figures, e.g. checkpoint and split.
    """
    report = {
        **origin,
        "images": findings.images,
        "classes": list(findings.class_names),
        "scores": asdict(findings.scores),
        "headlines": {
            name: {"value": each.value, "interval": each.interval}
            for name, each in findings.headlines.items()
        },
        "intervals": {"level": 0.95, "block": findings.block},
        "boundary_f1": findings.boundary_f1,
        "boundary_iou": findings.boundary_iou,
        "trimap_miou": findings.trimap,
        "calibration": {"bins": BINS, **findings.calibration._asdict()},
        "baseline": {
            "class": findings.class_names[findings.majority],
            "scores": asdict(findings.baseline),
        },
        "truth_share": findings.truth_share,
        "predicted_share": findings.predicted_share,
        "conventions": [each._asdict() for each in findings.conventions],
        "warnings": findings.warnings,
        "confusion_matrix": evaluation.matrix.tolist(),
    }
    plain: dict[str, Any] = _plain(report)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else float(value)
    return value


def class_csv(findings: Findings) -> str:
    """Write a row a class; n/a is empty."""
    scores = findings.scores
    columns = {
        "class": findings.class_names,
        "iou": scores.iou,
        "dice": scores.dice,
        "precision": scores.precision,
        "recall": scores.accuracy,
        "support": scores.support,
        "boundary_f1": findings.boundary_f1,
        "boundary_iou": findings.boundary_iou,
        "truth_share": findings.truth_share,
        "predicted_share": findings.predicted_share,
    }
    return _csv(list(columns), zip(*columns.values(), strict=True))


def image_csv(evaluation: Evaluation, findings: Findings) -> str:
    """Write a row an image; n/a is empty."""
    each = figures(class_counts(evaluation.matrices[:, :-1]))
    header = ["image", "pixel_accuracy", "miou"]
    header += [f"iou/{name}" for name in findings.class_names]
    rows = zip(evaluation.names, each.pixel_accuracy, each.miou, *each.iou.T, strict=True)
    return _csv(header, rows)


def _csv(header: list[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell != cell else cell for cell in row] for row in rows])
    return text.getvalue()
