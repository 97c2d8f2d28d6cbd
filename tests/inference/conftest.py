"""Small networks of every kind, and predictors of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segkit.config.schema import ModelConfig
from segkit.hardware import Hardware
from segkit.inference import Predictor
from segkit.model import SegmentationModel, build_model

CPU = Hardware(torch.device("cpu"), "fp32", "for the tests")
CLASSES = 4


@pytest.fixture
def network() -> Callable[..., SegmentationModel]:
    """Build a small network of random weights, by the options of its decoder."""

    def build(seed: int = 0, encoder: str = "vgg11_bn", **decoder: Any) -> SegmentationModel:
        torch.manual_seed(seed)
        config = ModelConfig.model_validate(
            {"encoder": {"name": encoder, "width": 1 / 16}, "decoder": decoder}
        )
        model = build_model(config, CLASSES)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):  # some scores start at zero
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=0.1)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        return model

    return build


@pytest.fixture
def predictor_of() -> Callable[..., Predictor]:
    """Make a predictor of a model that takes pixels as they are, from 0 to 1."""

    def make(model: nn.Module, channels: int = 3, **options: Any) -> Predictor:
        plain = {"mean": [0.0] * channels, "std": [1.0] * channels, "hardware": CPU}
        return Predictor(model, **plain, **options)

    return make


@pytest.fixture
def image() -> Callable[..., np.ndarray]:
    """Draw random pixels."""

    def draw(size: tuple[int, int], channels: int = 3, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).random((*size, channels), np.float32)

    return draw
