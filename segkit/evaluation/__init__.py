"""Evaluation: counts of every image, the scores computed from them, and their intervals."""

from segkit.evaluation.evaluate import Evaluation, evaluate
from segkit.evaluation.results import Results, summarize_evaluation
from segkit.evaluation.scores import Scores, majority_baseline, scores_of

__all__ = [
    "Evaluation",
    "Results",
    "Scores",
    "evaluate",
    "majority_baseline",
    "scores_of",
    "summarize_evaluation",
]
