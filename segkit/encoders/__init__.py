"""Encoders: networks that turn an image into a `Pyramid` of named feature maps."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from segkit.encoders.vgg import VGG_ENCODERS, VGGEncoder

ENCODERS: dict[str, Callable[..., nn.Module]] = {**VGG_ENCODERS}

__all__ = ["ENCODERS", "VGGEncoder"]
