"""An evaluation as a folder: a page that stands alone, and the figures as JSON and CSV."""

from segkit.evaluation.report.folder import check_report, write_report

__all__ = ["check_report", "write_report"]
