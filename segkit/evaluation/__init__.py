"""Judging a model: one confusion matrix over the whole split, and the scores read off it."""

from segkit.evaluation.evaluate import Evaluation, evaluate
from segkit.evaluation.metrics import Scores, majority_baseline, scores_of

__all__ = ["Evaluation", "Scores", "evaluate", "majority_baseline", "scores_of"]
