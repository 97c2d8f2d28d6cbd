"""An evaluation as a folder: a page that stands alone, and the figures as JSON and CSV."""

from segkit.evaluation.report.page import write_report

__all__ = ["write_report"]
