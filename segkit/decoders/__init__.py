"""Interchangeable decoders: lists of feature maps in, logits out. Needs torch and nothing else.

    decoder = UNetDecoder(in_channels=[64, 256, 512], strides=[2, 4, 8], num_classes=21)
    logits = decoder(maps, size=image.shape[-2:])  # maps: finest first; as large as the image

The constructor takes plain numbers (`in_channels`, `strides`, `num_classes`, then options by
keyword). A decoder of your own derives from `Decoder`, is registered with
`@register("decoder", name)`, and can be tested with `segkit.testing.check_decoder`.
"""

from segkit.decoders.base import Decoder
from segkit.decoders.fcn import FCNDecoder
from segkit.decoders.interpolate import InterpolateDecoder
from segkit.decoders.transposed import TransposedDecoder
from segkit.decoders.unet import UNetDecoder
from segkit.decoders.unpool import UnpoolDecoder

__all__ = [
    "Decoder",
    "FCNDecoder",
    "InterpolateDecoder",
    "TransposedDecoder",
    "UNetDecoder",
    "UnpoolDecoder",
]
