"""From the counts of an evaluation to all its scores, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segkit.errors import UserError, unknown_name
from segkit.evaluation.boundary import TRIMAP_RADII
from segkit.evaluation.boundary_scores import (
    band_iou,
    boundary_f1,
    boundary_iou,
    class_boundary_f1,
    mean_boundary_f1,
    trimap_miou,
)
from segkit.evaluation.calibration import calibration
from segkit.evaluation.conventions import conventions
from segkit.evaluation.images import Evaluation
from segkit.evaluation.intervals import Resampling, resample
from segkit.evaluation.results import HEADLINES, Headline, Results
from segkit.evaluation.scores import (
    Scores,
    Shares,
    class_counts,
    majority_baseline,
    nanmean,
    scores_of_counts,
)

OF_PIXELS = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice")


def summarize_evaluation(
    evaluation: Evaluation,
    class_names: Sequence[str],
    sequences: str | None = None,
    block: int | None = None,
    seed: int = 0,
    foreground: str | None = None,
) -> Results:
    """Compute all scores.

    Args:
        evaluation: with boundaries and calibration.
        class_names: in the order of the class indices.
        sequences: the card's pattern for the names of consecutive frames, if there are any.
        block: consecutive images drawn together for the intervals; None: 10 for sequences, else 1.
        seed: of the intervals.
        foreground: of two classes, the one whose IoU is a headline; None: the second.

    Raises:
        UserError: counts that are missing, or a foreground that is none of the classes.
    """
    if evaluation.boundary is None or evaluation.calibration is None:
        raise UserError(
            "the evaluation lacks counts; call evaluate_images(..., boundaries=True, "
            "calibration=True)"
        )
    names = tuple(class_names)
    if foreground is not None and foreground not in names:
        raise unknown_name("class", foreground, names)
    foreground = (foreground or names[1]) if len(names) == 2 else None
    resampling = resample(evaluation.names, sequences, block, seed)
    each = class_counts(evaluation.matrices[:, :-1])  # (N, C, 3)
    counts = each.sum(0)
    f1 = boundary_f1(evaluation.boundary.f1)  # (N, C)
    pixels = counts[:, 1].sum() or np.nan
    trimap = trimap_miou(evaluation.boundary.trimap).tolist()
    majority, baseline = majority_baseline(evaluation.matrix)
    index = names.index(foreground) if foreground else None
    bands = evaluation.boundary.iou
    return Results(
        class_names=names,
        foreground=foreground,
        images=len(evaluation.names),
        block=resampling.block,
        blocks=resampling.blocks,
        scores=evaluation.scores,
        headlines=_headlines(evaluation.scores, each, f1, bands, index, resampling),
        boundary_f1=class_boundary_f1(f1),
        boundary_iou=boundary_iou(bands),
        trimap=dict(zip(TRIMAP_RADII, trimap, strict=True)),
        calibration=calibration(evaluation.calibration),
        majority=majority,
        baseline=baseline,
        predicted_share=counts[:, 2] / pixels,
        target_share=counts[:, 1] / pixels,
        conventions=conventions(evaluation.matrices),
        image_miou=scores_of_counts(each).miou,
    )


def _headlines(
    scores: Scores,
    each: Shares,
    f1: Shares,
    bands: NDArray[np.int64],
    foreground: int | None,
    resampling: Resampling,
) -> dict[str, Headline]:
    """Return the scores of the whole split and their intervals; the foreground is an index.

    Shape: of each image, counts `each` `(N, C, 3)`, boundary `f1` `(N, C)` and `bands` `(N, C, 2)`.
    """

    def of_pixels(counts: Shares) -> Shares:
        found = scores_of_counts(counts)
        iou = [] if foreground is None else [found.iou[..., foreground]]
        return np.stack([*(getattr(found, name) for name in OF_PIXELS), *iou])

    names = OF_PIXELS if foreground is None else (*OF_PIXELS, "foreground_iou")
    samples = dict(zip(names, resampling.of_sums(each, of_pixels), strict=True))
    values = {name: getattr(scores, name) for name in OF_PIXELS}
    if foreground is not None:
        values["foreground_iou"] = scores.iou[foreground]
    samples["boundary_f1"] = resampling.of_means(nanmean(f1))
    values["boundary_f1"] = mean_boundary_f1(f1)
    samples["boundary_iou"] = resampling.of_sums(bands, lambda sums: nanmean(band_iou(sums)))
    values["boundary_iou"] = float(nanmean(boundary_iou(bands)))
    return {
        name: Headline(values[name], resampling.interval(samples[name]), samples[name])
        for name in HEADLINES
        if name in values
    }
