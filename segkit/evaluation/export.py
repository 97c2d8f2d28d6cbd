"""An evaluation as JSON and CSV."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from segkit.evaluation.calibration import BINS
from segkit.evaluation.images import Evaluation
from segkit.evaluation.results import Results
from segkit.evaluation.scores import Scores, class_counts, scores_of_counts
from segkit.tables import as_csv


def as_json(evaluation: Evaluation, results: Results, **origin: str) -> dict[str, Any]:
    """Return all scores, and where they come from; nan becomes None, as JSON has no nan."""
    return _plain(
        {
            **origin,
            "images": results.images,
            "classes": list(results.class_names),
            "foreground": results.foreground,
            "scores": _by_key(results.scores),
            "headlines": {
                name: {"value": each.value, "interval": each.interval}
                for name, each in results.headlines.items()
            },
            "intervals": {"level": 0.95, "block": results.block, "blocks": results.blocks},
            "boundary_f1": results.boundary_f1,
            "boundary_iou": results.boundary_iou,
            "trimap_miou": results.trimap,
            "calibration": {"bins": BINS, **results.calibration._asdict()},
            "baseline": {
                "class": results.class_names[results.majority],
                "scores": _by_key(results.baseline),
            },
            "truth_share": results.target_share,
            "predicted_share": results.predicted_share,
            "conventions": [each._asdict() for each in results.conventions],
            "warnings": results.warnings,
            "confusion_matrix": evaluation.matrix.tolist(),
        }
    )


def _by_key(scores: Scores) -> dict[str, Any]:
    """Return scores by their keys in the JSON file, where recall is called accuracy."""
    return {"accuracy" if key == "recall" else key: v for key, v in scores.as_dict().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else float(value)
    return value


def class_csv(results: Results) -> str:
    """Write a row for each class; n/a is empty."""
    scores = results.scores
    columns = {
        "class": results.class_names,
        "iou": scores.iou,
        "dice": scores.dice,
        "precision": scores.precision,
        "recall": scores.recall,
        "support": scores.support,
        "boundary_f1": results.boundary_f1,
        "boundary_iou": results.boundary_iou,
        "truth_share": results.target_share,
        "predicted_share": results.predicted_share,
    }
    return as_csv(columns, zip(*columns.values(), strict=True))


def image_csv(evaluation: Evaluation, results: Results) -> str:
    """Write a row for each image; n/a is empty."""
    each = scores_of_counts(class_counts(evaluation.matrices[:, :-1]))
    header = ["image", "pixel_accuracy", "miou"]
    header += [f"iou/{name}" for name in results.class_names]
    rows = zip(evaluation.names, each.pixel_accuracy, each.miou, *each.iou.T, strict=True)
    return as_csv(header, rows)
