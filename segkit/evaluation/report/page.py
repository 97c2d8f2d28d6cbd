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
from segkit.evaluation.intervals import SAMPLES, Interval
from segkit.evaluation.metrics import percent
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
        tiles=tiles(findings),
        columns=class_columns(findings),
        missed=never_predicted(findings),
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


def tiles(findings: Findings) -> list[Tile]:
    """Give the headline figures."""
    scores = findings.scores
    notes = {"miou": f"{scores.classes_present} of {len(scores.iou)} classes present"}
    if "foreground_iou" in findings.headlines:
        notes["foreground_iou"] = f"class ‘{findings.class_names[1]}’"
    return [
        Tile(key, HEADLINES[key], figure.value, figure.interval, notes.get(key, ""))
        for key, figure in findings.headlines.items()
    ]


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


def never_predicted(findings: Findings) -> list[str]:
    """Name the classes that are in the truth alone."""
    pairs = zip(findings.scores.support, findings.predicted_share, strict=True)
    return [
        name
        for name, (support, share) in zip(findings.class_names, pairs, strict=True)
        if support and not share
    ]


def facts(evaluation: Evaluation, subject: Subject) -> dict[str, str]:
    """Say what the figures may depend on besides the config."""
    predictor, card = subject.predictor, subject.dataset.card
    cut = predictor.tiles
    views = [f"x {scale:g}{', mirrored' if flip else ''}" for scale, flip in predictor.views]
    images = len(evaluation.names)
    known = {
        "checkpoint": predictor.origin,
        "data": f"{subject.title}, {images} image{'' if images == 1 else 's'}",
        "data root": card.root,
        "source": card.source,
        "licence": card.licence,
        "images predicted": f"in tiles of {cut.size} px, {cut.mode}" if cut else "whole",
        "averaged over": "; ".join(views) if predictor.averages else "",
        "device": str(predictor.hardware),
        "evaluation took": (
            f"{evaluation.seconds:.1f} s ({images / evaluation.seconds:.1f} images/s)"
        ),
        "written": datetime.now().astimezone().isoformat(" ", "minutes"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    return {name: text for name, text in known.items() if text}
