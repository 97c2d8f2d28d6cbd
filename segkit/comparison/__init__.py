"""Comparing models: same data, same recipe, several seeds; what a difference is worth."""

from segkit.comparison.contestants import Contestant, gather
from segkit.comparison.results import Result, differences, judge

__all__ = ["Contestant", "Result", "differences", "gather", "judge"]
