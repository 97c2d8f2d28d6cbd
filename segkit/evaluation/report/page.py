"""An evaluation as a page that stands alone: no network, pictures and plots inside."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from segkit.config import dump_config
from segkit.consistency import package_versions
from segkit.drawing.masks import ERROR_COLOR, VOID_COLOR
from segkit.drawing.pages import render
from segkit.errors import UserError
from segkit.evaluation.boundary import BOUNDARY_IOU_WIDTH, BOUNDARY_TOLERANCE
from segkit.evaluation.export import class_csv, image_csv
from segkit.evaluation.images import Evaluation
from segkit.evaluation.intervals import MIN_BLOCKS, SAMPLES
from segkit.evaluation.report import gallery, plots
from segkit.evaluation.report.confusion import confusion_of
from segkit.evaluation.results import HEADLINES, Results
from segkit.evaluation.scores import Shares, percent
from segkit.evaluation.target import EvaluationTarget
from segkit.files import check_folder, write_file
from segkit.units import speed


def write_report(
    folder: Path, evaluation: Evaluation, results: Results, target: EvaluationTarget, figures: str
) -> Path:
    """Write report.html, metrics.json, classes.csv and images.csv; return the path of the page.

    Args:
        folder: made if needed; an older report there is overwritten.
        evaluation: the counts.
        results: the scores computed from them.
        target: model and images; the model predicts the images shown once more.
        figures: the scores as JSON.
    """
    page = folder / "report.html"
    html = as_html(evaluation, results, target)
    try:
        check_folder(folder)
        write_file(folder / "metrics.json", figures)
        write_file(folder / "classes.csv", class_csv(results))
        write_file(folder / "images.csv", image_csv(evaluation, results))
        write_file(page, html)
    except UserError as error:
        raise UserError(f"{error}; name a folder that can be written to with --report") from error
    return page


def as_html(evaluation: Evaluation, results: Results, target: EvaluationTarget) -> str:
    """Return the page."""
    worst, best = (
        list(gallery.show(chosen, evaluation, results, target))
        for chosen in gallery.choose(results)
    )
    return render(
        "segkit.evaluation.report",
        "report.html.j2",
        results=results,
        target=target,
        labels=HEADLINES,
        notes=notes(results),
        columns=class_columns(results),
        missed=never_predicted(results),
        colors=target.card.colors,
        void_color=VOID_COLOR,
        confusion=confusion_of(evaluation.matrix),
        trimap=plots.trimap_plot(results),
        reliability=plots.reliability_plot(results),
        plots=plots,
        worst=worst,
        best=best,
        error_color=ERROR_COLOR,
        samples=SAMPLES,
        min_blocks=MIN_BLOCKS,
        tolerance=BOUNDARY_TOLERANCE,
        band=BOUNDARY_IOU_WIDTH,
        config=dump_config(target.config),
        facts=facts(evaluation, target),
        percent=percent,
    )


def notes(results: Results) -> dict[str, str]:
    """Return what is written below headline scores."""
    scores = results.scores
    return {
        "miou": f"{scores.classes_present} of {len(scores.iou)} classes present",
        "foreground_iou": f"class ‘{results.foreground}’",
    }


def class_columns(results: Results) -> dict[str, Sequence[float] | Shares]:
    """Return the columns of the class table that are shares, by title."""
    scores = results.scores
    return {
        "IoU": scores.iou,
        "Dice": scores.dice,
        "precision": scores.precision,
        "accuracy (recall)": scores.recall,
        "boundary F1": results.boundary_f1,
        "boundary IoU": results.boundary_iou,
        "of truth": results.target_share,
        "of prediction": results.predicted_share,
    }


def never_predicted(results: Results) -> list[str]:
    """Return the classes that are in the target but never predicted."""
    columns = results.class_names, results.scores.support, results.predicted_share
    return [name for name, support, share in zip(*columns, strict=True) if support and not share]


def facts(evaluation: Evaluation, target: EvaluationTarget) -> dict[str, str]:
    """Return what the scores may depend on besides the config."""
    predictor, card = target.predictor, target.card
    cut = predictor.tiles
    views = [f"x {scale:g}{', mirrored' if flip else ''}" for scale, flip in predictor.views]
    images, seconds = len(evaluation.names), evaluation.seconds
    known = {
        "checkpoint": predictor.origin,
        "data": f"{target.title}, {images} image{'' if images == 1 else 's'}",
        "data root": card.root,
        "source": card.source,
        "licence": card.licence,
        "images predicted": str(cut) if cut else "whole",
        "averaged over": "; ".join(views) if predictor.averages else "",
        "device": str(predictor.backend),
        "evaluation took": f"{seconds:.1f} s ({speed(images / seconds)})",
        "written": datetime.now().astimezone().isoformat(" ", "minutes"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": ", ".join(f"{name} {number}" for name, number in package_versions().items()),
    }
    return {name: text for name, text in known.items() if text}
