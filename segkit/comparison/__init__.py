"""Comparing models: same data, same recipe, several seeds; what a difference is worth."""

from segkit.comparison.contestants import Contestant, Stopped, gather
from segkit.comparison.differences import differences
from segkit.comparison.report import make_report, write_report
from segkit.comparison.results import Compared, compare_models
from segkit.comparison.vary import Vary, parse_vary

__all__ = [
    "Compared",
    "Contestant",
    "Stopped",
    "Vary",
    "compare_models",
    "differences",
    "gather",
    "make_report",
    "parse_vary",
    "write_report",
]
