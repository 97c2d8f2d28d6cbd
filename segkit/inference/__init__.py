"""Prediction: an image in, a mask of its size out; whole or in tiles, plain or averaged."""

from segkit.inference.prediction import Prediction
from segkit.inference.predictor import Predictor
from segkit.inference.preprocess import Preprocess
from segkit.inference.tiles import Tiles

__all__ = ["Prediction", "Predictor", "Preprocess", "Tiles"]
