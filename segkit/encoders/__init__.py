"""Encoders: networks that turn an image into a `Pyramid` of named feature maps."""

from __future__ import annotations

from collections.abc import Callable

from segkit.encoders.vgg import VGG_ENCODERS, VGGEncoder

ENCODERS: dict[str, Callable[..., VGGEncoder]] = {**VGG_ENCODERS}

__all__ = ["ENCODERS", "VGGEncoder"]
