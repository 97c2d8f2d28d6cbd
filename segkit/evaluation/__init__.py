"""Judging a model: counts of every image, the figures read off them, and their intervals."""

from segkit.evaluation.evaluate import Evaluation, evaluate
from segkit.evaluation.findings import Findings, findings_of
from segkit.evaluation.metrics import Scores, majority_baseline, scores_of

__all__ = [
    "Evaluation",
    "Findings",
    "Scores",
    "evaluate",
    "findings_of",
    "majority_baseline",
    "scores_of",
]
