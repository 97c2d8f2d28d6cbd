"""Interchangeable decoders: lists of feature maps in, logits out. Needs torch and nothing else.

    decoder = UNetDecoder(in_channels=[64, 256, 512], strides=[2, 4, 8], num_classes=21)
    logits = decoder(maps, size=image.shape[-2:])  # maps: finest first; as large as the image

The constructor takes plain numbers (`in_channels`, `strides`, `num_classes`, then options by
keyword). A decoder of your own derives from `Decoder`, is registered with
`@register("decoder", name)`, and can be tested with `segkit.testing.check_decoder`.
"""

from segkit.decoders.base import Decoder as Decoder
from segkit.decoders.deeplabv3 import DeepLabV3Decoder as DeepLabV3Decoder
from segkit.decoders.deeplabv3 import DeepLabV3PlusDecoder as DeepLabV3PlusDecoder
from segkit.decoders.dpt import DPTDecoder as DPTDecoder
from segkit.decoders.fcn import FCNDecoder as FCNDecoder
from segkit.decoders.fpn import FPNDecoder as FPNDecoder
from segkit.decoders.interpolate import InterpolateDecoder as InterpolateDecoder
from segkit.decoders.linknet import LinkNetDecoder as LinkNetDecoder
from segkit.decoders.manet import MANetDecoder as MANetDecoder
from segkit.decoders.pan import PANDecoder as PANDecoder
from segkit.decoders.pspnet import PSPNetDecoder as PSPNetDecoder
from segkit.decoders.segformer import SegFormerDecoder as SegFormerDecoder
from segkit.decoders.transposed import TransposedDecoder as TransposedDecoder
from segkit.decoders.unet import UNetDecoder as UNetDecoder
from segkit.decoders.unetplusplus import UNetPlusPlusDecoder as UNetPlusPlusDecoder
from segkit.decoders.unpool import UnpoolDecoder as UnpoolDecoder
from segkit.decoders.upernet import UPerNetDecoder as UPerNetDecoder
