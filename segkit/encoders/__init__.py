"""Encoders: networks that turn an image into a `Pyramid` of feature maps.

A registered encoder is built as `factory(wants, in_channels=3, **options)`: it answers what a
decoder `Wants`, or refuses in a `UserError`. It has the attributes `specs` (one `FeatureSpec` per
map, finest first) and `stride` (the multiple that input sizes are padded to), and `forward`
returns a `Pyramid`. One that has a method `load_weights(source)` can start pretrained.

An encoder of your own is registered with `@register("encoder", name)`, and can be tested with
`segkit.testing.check_encoder`.
"""

from segkit.encoders.alexnet import AlexNetEncoder
from segkit.encoders.lenet import LeNetEncoder
from segkit.encoders.staged import StagedEncoder
from segkit.encoders.timm_networks import TimmEncoder
from segkit.encoders.vgg import VGGEncoder
from segkit.encoders.vision_transformer import VisionTransformer

__all__ = [
    "AlexNetEncoder",
    "LeNetEncoder",
    "StagedEncoder",
    "TimmEncoder",
    "VGGEncoder",
    "VisionTransformer",
]
