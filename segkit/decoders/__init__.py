"""Interchangeable decoders: lists of feature maps in, logits out. Needs torch and nothing else.

    decoder = UNetDecoder(in_channels=[64, 256, 512], strides=[2, 4, 8], num_classes=21)
    logits = decoder(maps, size=image.shape[-2:])  # maps: finest first; as large as the image

The constructor takes plain numbers (`in_channels`, `strides`, `num_classes`, then options by
keyword). A decoder of your own derives from `Decoder`, is registered with
`@register("decoder", name)`, and can be tested with `segkit.testing.check_decoder`.
"""

from segkit.decoders.base import Decoder
from segkit.decoders.deeplabv3 import DeepLabV3Decoder, DeepLabV3PlusDecoder
from segkit.decoders.dpt import DPTDecoder
from segkit.decoders.fcn import FCNDecoder
from segkit.decoders.fpn import FPNDecoder
from segkit.decoders.interpolate import InterpolateDecoder
from segkit.decoders.linknet import LinkNetDecoder
from segkit.decoders.manet import MANetDecoder
from segkit.decoders.pan import PANDecoder
from segkit.decoders.pspnet import PSPNetDecoder
from segkit.decoders.segformer import SegFormerDecoder
from segkit.decoders.transposed import TransposedDecoder
from segkit.decoders.unet import UNetDecoder
from segkit.decoders.unetplusplus import UNetPlusPlusDecoder
from segkit.decoders.unpool import UnpoolDecoder
from segkit.decoders.upernet import UPerNetDecoder

__all__ = [
    "DPTDecoder",
    "Decoder",
    "DeepLabV3Decoder",
    "DeepLabV3PlusDecoder",
    "FCNDecoder",
    "FPNDecoder",
    "InterpolateDecoder",
    "LinkNetDecoder",
    "MANetDecoder",
    "PANDecoder",
    "PSPNetDecoder",
    "SegFormerDecoder",
    "TransposedDecoder",
    "UNetDecoder",
    "UNetPlusPlusDecoder",
    "UPerNetDecoder",
    "UnpoolDecoder",
]
