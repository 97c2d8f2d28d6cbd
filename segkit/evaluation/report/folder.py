"""The folder of a report."""

from __future__ import annotations

import os
from pathlib import Path

from segkit.errors import UserError
from segkit.evaluation.evaluate import Evaluation
from segkit.evaluation.findings import Findings
from segkit.evaluation.report.page import as_html
from segkit.evaluation.subject import Subject
from segkit.evaluation.written import class_csv, image_csv


def write_report(
    folder: Path, evaluation: Evaluation, findings: Findings, subject: Subject, figures: str
) -> Path:
    """Write report.html, metrics.json, classes.csv and images.csv; gives the path of the page.

    Args:
        folder: made if needed; an older report there is overwritten.
        evaluation: the counts.
        findings: the figures read off them.
        subject: what was judged; its model predicts the images shown once more.
        figures: as JSON.

    Raises:
        UserError: the folder cannot be written to.
    """
    page = as_html(evaluation, findings, subject)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "metrics.json", figures)
        _write(folder / "classes.csv", class_csv(findings))
        _write(folder / "images.csv", image_csv(evaluation, findings))
        return _write(folder / "report.html", page)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write(path: Path, text: str) -> Path:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write the report into {folder}: {error.strerror or error}; "
        "name a folder one may write to with --report DIR"
    )
