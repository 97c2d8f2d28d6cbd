"""Evaluation: counts of every image, the scores computed from them, and their intervals."""

from segkit.evaluation.evaluate import evaluate
from segkit.evaluation.images import Evaluation, evaluate_images
from segkit.evaluation.results import Results
from segkit.evaluation.scores import Scores, majority_baseline, scores_of
from segkit.evaluation.summarize import summarize_evaluation

__all__ = [
    "Evaluation",
    "Results",
    "Scores",
    "evaluate",
    "evaluate_images",
    "majority_baseline",
    "scores_of",
    "summarize_evaluation",
]
