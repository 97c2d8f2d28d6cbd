"""Interchangeable decoders: lists of feature maps in, logits out. Needs torch and nothing else.

    decoder = UNetDecoder(in_channels=[64, 256, 512], strides=[2, 4, 8], num_classes=21)
    logits = decoder(maps)          # maps: finest first; logits at stride 1

All share one contract: the constructor takes plain numbers (`in_channels`, `strides`,
`num_classes`, then options by keyword), `forward(maps, sizes=None, indices=None)` returns logits
at full resolution. With `sizes=None` every step doubles exactly; with the sizes recorded before
each pooling, odd sizes are restored too.
"""

from segkit.decoders.fcn import FCNDecoder
from segkit.decoders.interpolate import InterpolateDecoder
from segkit.decoders.transposed import TransposedDecoder
from segkit.decoders.unet import UNetDecoder
from segkit.decoders.unpool import UnpoolDecoder

DECODERS = {
    "interpolate": InterpolateDecoder,
    "unpool": UnpoolDecoder,
    "transposed": TransposedDecoder,
    "unet": UNetDecoder,
    "fcn": FCNDecoder,
}

__all__ = [
    "DECODERS",
    "FCNDecoder",
    "InterpolateDecoder",
    "TransposedDecoder",
    "UNetDecoder",
    "UnpoolDecoder",
]
