"""An evaluation as a page that stands alone: no network, pictures and plots inside."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

import jinja2

from segkit.config import dump_config
from segkit.data.draw import VOID_COLOR
from segkit.evaluation.boundary import BOUNDARY_IOU_WIDTH, BOUNDARY_TOLERANCE
from segkit.evaluation.evaluate import Evaluation
from segkit.evaluation.findings import HEADLINES, Findings
from segkit.evaluation.intervals import SAMPLES, Interval, resample
from segkit.evaluation.metrics import Shares, class_counts, percent
from segkit.evaluation.metrics import figures as figures_of
from segkit.evaluation.report import gallery, plots
from segkit.evaluation.report.confusion import confusion_of
from segkit.evaluation.subject import Subject

PACKAGES = ("segkit", "torch", "torchvision", "albumentations", "numpy", "torchmetrics")


@dataclass(frozen=True)
class Tile:
    """A headline figure as the page shows it.

    Args:
        key: of it.
        name: as people write it.
        value: share of one.
        interval: of 95 %, if there is one.
        note: below it.
    """

    key: str
    name: str
    value: float
    interval: Interval | None
    note: str = ""


def as_html(evaluation: Evaluation, findings: Findings, subject: Subject) -> str:
    """Make the page.

    Args:
        evaluation: the counts.
        findings: the figures read off them.
        subject: what was judged; its model predicts the images shown once more.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segkit.evaluation.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    worst, best = (
        list(gallery.show(chosen, evaluation, findings, subject))
        for chosen in gallery.choose(evaluation, findings)
    )
    return environment.get_template("report.html.j2").render(
        findings=findings,
        subject=subject,
        tiles=tiles(evaluation, findings, subject),
        columns=class_columns(findings),
        missed=[
            name
            for name, support, share in zip(
                findings.class_names, findings.scores.support, findings.predicted_share, strict=True
            )
            if support and not share
        ],
        colors=subject.dataset.card.colors,
        void_color=VOID_COLOR,
        confusion=confusion_of(evaluation.matrix),
        trimap=plots.trimap_plot(findings),
        reliability=plots.reliability_plot(findings),
        plots=plots,
        worst=worst,
        best=best,
        error_color=gallery.ERROR,
        error_void_color=gallery.VOID,
        samples=SAMPLES,
        tolerance=BOUNDARY_TOLERANCE,
        band=BOUNDARY_IOU_WIDTH,
        config=dump_config(subject.config),
        facts=facts(evaluation, subject),
        percent=percent,
    )


def tiles(evaluation: Evaluation, findings: Findings, subject: Subject) -> list[Tile]:
    """Give the headline figures, mIoU first, and for two classes the IoU of the second next."""
    scores = findings.scores
    present = f"{scores.classes_present} of {len(scores.iou)} classes present"
    found = {}
    for key, name in HEADLINES.items():
        figure, note = findings.headlines[key], present if key == "miou" else ""
        found[key] = Tile(key, name, figure.value, figure.interval, note)
    shown = [found.pop("miou")]
    if len(scores.iou) == 2:  # of background and thing, the mean hides a poor thing
        shown.append(_foreground(evaluation, findings, subject))
    return shown + list(found.values())


def _foreground(evaluation: Evaluation, findings: Findings, subject: Subject) -> Tile:
    def iou(counts: Shares) -> Shares:
        return figures_of(counts).iou[..., 1]

    interval = None
    if findings.headlines["miou"].interval is not None:
        draws = resample(evaluation.names, subject.dataset.card, findings.block)
        counts = class_counts(evaluation.matrices[:, :-1])
        interval = draws.interval(draws.of_sums(counts, iou))
    return Tile(
        "foreground_iou",
        "foreground IoU",
        findings.scores.iou[1],
        interval,
        f"class ‘{findings.class_names[1]}’",
    )


def class_columns(findings: Findings) -> dict[str, tuple[float, ...]]:
    """Give the columns of the class table that are shares, as (title, values)."""
    scores = findings.scores
    return {
        "IoU": scores.iou,
        "Dice": scores.dice,
        "precision": scores.precision,
        "accuracy (recall)": scores.accuracy,
        "boundary F1": tuple(findings.boundary_f1.tolist()),
        "boundary IoU": tuple(findings.boundary_iou.tolist()),
        "of truth": tuple(findings.truth_share.tolist()),
        "of prediction": tuple(findings.predicted_share.tolist()),
    }


def facts(evaluation: Evaluation, subject: Subject) -> dict[str, str]:
    """Say what the figures may depend on besides the config."""
    predictor, card = subject.predictor, subject.dataset.card
    tiles = predictor.tiles
    views = [f"x {scale:g}{', mirrored' if flip else ''}" for scale, flip in predictor.views]
    speed = f" ({len(evaluation.names) / evaluation.seconds:.1f} images/s)"
    known = {
        "checkpoint": predictor.origin,
        "data": f"{subject.title}, {len(evaluation.names)} images",
        "data root": card.root,
        "source": card.source,
        "licence": card.licence,
        "images predicted": f"in tiles of {tiles.size} px, {tiles.mode}" if tiles else "whole",
        "averaged over": "; ".join(views) if predictor.averages else "",
        "device": str(predictor.hardware),
        "evaluation took": f"{evaluation.seconds:.1f} s{speed if evaluation.seconds else ''}",
        "written": datetime.now().astimezone().isoformat(" ", "minutes"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    return {name: text for name, text in known.items() if text}
