"""All scores of an evaluation, with their intervals, as they are printed, exported and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.table import Table

from segkit.errors import UserError, unknown_name
from segkit.evaluation.calibration import Calibration
from segkit.evaluation.conventions import Convention
from segkit.evaluation.intervals import Interval
from segkit.evaluation.scores import Scores, Shares, percent
from segkit.tables import as_text, make_table

HEADLINES = {  # name in Results.headlines -> label
    "foreground_iou": "foreground IoU",  # of one of two classes, which the mean would hide
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
    "boundary_iou": "boundary IoU",
}
CLOSE = 0.01  # a difference of mIoU to the baseline that counts for nothing


class Headline(NamedTuple):
    """A score over the whole split.

    Args:
        value: share of one, nan where there is nothing to score.
        interval: of 95 %; None for too few blocks of images.
        samples: the score of each bootstrap sample; those of two models on the same images are
            paired.
    """

    value: float
    interval: Interval | None
    samples: Shares


@dataclass(frozen=True)
class Results:
    """What an evaluation says about a model on a split.

    Args:
        class_names: in the order of the class indices.
        foreground: of two classes, the one that the foreground IoU is of; None for more classes.
        images: number of images evaluated.
        block: images drawn together for the intervals.
        blocks: independent ones among the images.
        scores: of the whole split.
        headlines: by the keys of `HEADLINES`, in that order; the foreground for two classes alone.
        boundary_f1: per class.
        boundary_iou: per class.
        trimap: pixels from a boundary -> mIoU within.
        calibration: of the confidence.
        majority: the most frequent class in the target.
        baseline: the scores of predicting it everywhere.
        predicted_share: per class, of the labelled pixels.
        target_share: per class, of the labelled pixels.
        conventions: the mIoU under other toolkits' rules.
        image_miou: of each image, in the order of the names; nan where all is void.
    """

    class_names: tuple[str, ...]
    foreground: str | None
    images: int
    block: int
    blocks: int
    scores: Scores
    headlines: Mapping[str, Headline]
    boundary_f1: Shares
    boundary_iou: Shares
    trimap: Mapping[int, float]
    calibration: Calibration
    majority: int
    baseline: Scores
    predicted_share: Shares
    target_share: Shares
    conventions: list[Convention]
    image_miou: Shares

    def label(self, headline: str) -> str:
        """Return what a headline is called; that of the foreground says which class it is of."""
        which = f" ({self.foreground})" if headline == "foreground_iou" else ""
        return HEADLINES[headline] + which

    @property
    def miou(self) -> float:
        """Mean IoU over the classes in target or prediction."""
        return float(self.scores.miou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that are right."""
        return float(self.scores.pixel_accuracy)

    @property
    def iou(self) -> tuple[float, ...]:
        """IoU of each class; nan for a class in neither target nor prediction."""
        return tuple(self.scores.iou)

    def interval(self, headline: str) -> Interval | None:
        """Return the 95 % interval of a headline, such as `miou`; None for too few images."""
        if headline not in self.headlines:
            raise unknown_name("headline", headline, self.headlines)
        return self.headlines[headline].interval

    def class_table(self, title: str) -> Table:
        """Return the scores of each class as a table for a rich console."""
        columns = {
            "IoU": self.scores.iou,
            "prec.": self.scores.precision,
            "recall": self.scores.recall,
            "boundary F1": self.boundary_f1,
            "boundary IoU": self.boundary_iou,
            "of truth": self.target_share,
            "of pred.": self.predicted_share,
        }
        rows = (
            [name, *(percent(float(share)) for share in shares)]
            for name, *shares in zip(self.class_names, *columns.values(), strict=True)
        )
        return make_table(f"{title}, in %", ["class", *columns], rows)

    def table(self, class_names: Sequence[str] | None = None) -> str:
        """Return the scores of each class as text, under other names if they are given."""
        names = self.class_names if class_names is None else tuple(class_names)
        if len(names) != len(self.class_names):
            raise UserError(f"{len(names)} class names for {len(self.class_names)} classes")
        return as_text(replace(self, class_names=names).class_table(f"{self.images} images"))

    @property
    def drawn(self) -> str:
        """What the intervals are drawn from, in words."""
        many = "s" * (self.blocks != 1)
        if self.block == 1:
            return f"{self.blocks} image{many}"
        return f"{self.blocks} block{many} of {self.block} consecutive images"

    @property
    def warnings(self) -> list[str]:
        """Reasons to doubt the model or the scores."""
        if not sum(self.scores.support):
            return ["every pixel of the truth is void: there is nothing to judge"]
        gain = self.scores.miou - self.baseline.miou
        if gain > CLOSE:
            return []
        verdict = "no better" if gain <= 0 else "hardly better"
        if gain < -CLOSE:
            verdict = "worse"
        return [
            f"the model is {verdict} than calling everything '{self.class_names[self.majority]}': "
            f"mIoU {percent(self.scores.miou)} % against {percent(self.baseline.miou)} %"
        ]
