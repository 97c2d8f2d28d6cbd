"""All figures of an evaluation, with their intervals, as they are printed, written and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.evaluation.boundary import TRIMAP_RADII
from segkit.evaluation.boundary_scores import (
    band_iou,
    boundary_f1,
    boundary_iou,
    class_boundary_f1,
    mean_boundary_f1,
    trimap_miou,
)
from segkit.evaluation.calibration import Calibration, calibration
from segkit.evaluation.conventions import Convention, conventions
from segkit.evaluation.evaluate import Evaluation
from segkit.evaluation.intervals import Interval, Resampling, resample
from segkit.evaluation.metrics import (
    Scores,
    Shares,
    class_counts,
    figures,
    majority_baseline,
    nanmean,
)

HEADLINES = {  # name in Findings.headlines -> as people write it
    "foreground_iou": "foreground IoU",  # of the second of two classes, whom the mean would hide
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
    "boundary_iou": "boundary IoU",
}
OF_PIXELS = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice")


class Headline(NamedTuple):
    """A figure over the whole split.

    Args:
        value: share of one, nan where there is nothing to judge.
        interval: of 95 %; None for too few images.
        samples: what the figure is in each bootstrap sample; those of two models on the same
            images belong together.
    """

    value: float
    interval: Interval | None
    samples: Shares


@dataclass(frozen=True)
class Findings:
    """What there is to say of a model on a split.

    Args:
        class_names: in the order of the class indices.
        images: judged.
        block: images drawn together for the intervals.
        scores: from the confusion matrix.
        headlines: by the keys of `HEADLINES`, in that order; the foreground for two classes alone.
        boundary_f1: per class.
        boundary_iou: per class.
        trimap: pixels from a boundary -> mIoU within.
        calibration: of the confidence.
        majority: the most frequent class in the truth.
        baseline: the scores of answering it everywhere.
        predicted_share: per class, of the judged pixels.
        truth_share: per class, of the judged pixels.
        conventions: the numbers under other toolkits' rules.
        image_miou: of each image, in the order of the names; nan for one all void.
    """

    class_names: tuple[str, ...]
    images: int
    block: int
    scores: Scores
    headlines: Mapping[str, Headline]
    boundary_f1: Shares
    boundary_iou: Shares
    trimap: Mapping[int, float]
    calibration: Calibration
    majority: int
    baseline: Scores
    predicted_share: Shares
    truth_share: Shares
    conventions: list[Convention]
    image_miou: Shares

    @property
    def warnings(self) -> list[str]:
        """What should make one doubt the model or the figures."""
        found = []
        if not sum(self.scores.support):
            found.append("every pixel of the truth is void: there is nothing to judge")
        elif self.scores.miou <= self.baseline.miou + 0.01:
            found.append(
                "the model is no better than calling everything "
                f"'{self.class_names[self.majority]}' (mIoU within a point of that baseline)"
            )
        return found


def findings_of(
    evaluation: Evaluation, card: Card, block: int | None = None, seed: int = 0
) -> Findings:
    """Work out all figures.

    Args:
        evaluation: with boundaries and calibration.
        card: of the data set.
        block: consecutive images drawn together for the intervals; None: as the card suggests.
        seed: of the intervals.
    """
    assert evaluation.boundary is not None
    assert evaluation.calibration is not None
    resampling = resample(evaluation.names, card, block, seed)
    each = class_counts(evaluation.matrices[:, :-1])  # (N, C, 3)
    counts = each.sum(0)
    f1 = boundary_f1(evaluation.boundary.f1)  # (N, C)
    pixels = counts[:, 1].sum() or np.nan
    trimap = trimap_miou(evaluation.boundary.trimap).tolist()
    majority, baseline = majority_baseline(evaluation.matrix)
    return Findings(
        class_names=card.class_names,
        images=len(evaluation.names),
        block=resampling.block,
        scores=evaluation.scores,
        headlines=_headlines(evaluation.scores, each, f1, evaluation.boundary.iou, resampling),
        boundary_f1=class_boundary_f1(f1),
        boundary_iou=boundary_iou(evaluation.boundary.iou),
        trimap=dict(zip(TRIMAP_RADII, trimap, strict=True)),
        calibration=calibration(evaluation.calibration),
        majority=majority,
        baseline=baseline,
        predicted_share=counts[:, 2] / pixels,
        truth_share=counts[:, 1] / pixels,
        conventions=conventions(evaluation.matrices),
        image_miou=figures(each).miou,
    )


def _headlines(
    scores: Scores, each: Shares, f1: Shares, bands: NDArray[np.int64], resampling: Resampling
) -> dict[str, Headline]:
    """Give the figures of the whole split and their intervals.

    Args:
        scores: of the split.
        each: counts of each image, `(N, num_classes, 3)`.
        f1: of the boundaries of each image, `(N, num_classes)`.
        bands: counts of the boundary IoU of each image, `(N, num_classes, 2)`.
        resampling: of the images.
    """

    def of_pixels(counts: Shares) -> Shares:
        found = figures(counts)
        return np.stack([*(getattr(found, name) for name in OF_PIXELS), found.iou[..., 1]])

    drawn = resampling.of_sums(each, of_pixels)
    samples = dict(zip((*OF_PIXELS, "foreground_iou"), drawn, strict=True))
    values = {name: getattr(scores, name) for name in OF_PIXELS}
    values["foreground_iou"] = scores.iou[1]
    samples["boundary_f1"] = resampling.of_means(nanmean(f1))
    values["boundary_f1"] = mean_boundary_f1(f1)
    samples["boundary_iou"] = resampling.of_sums(bands, lambda sums: nanmean(band_iou(sums)))
    values["boundary_iou"] = float(nanmean(boundary_iou(bands)))
    return {
        name: Headline(values[name], resampling.interval(samples[name]), samples[name])
        for name in HEADLINES
        if name != "foreground_iou" or len(scores.iou) == 2
    }
