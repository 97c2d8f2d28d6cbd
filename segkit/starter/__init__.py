"""A first config and card for data that is there: what it holds, and a recipe that fits it."""

from segkit.starter.survey import Survey, survey
from segkit.starter.write import card_text, experiment_text, write_starter

__all__ = ["Survey", "card_text", "experiment_text", "survey", "write_starter"]
