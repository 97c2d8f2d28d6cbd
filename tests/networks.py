"""Tiny networks of every kind, for the tests of what they become elsewhere."""

from __future__ import annotations

import torch
from torch import nn

from segkit.model import SegmentationModel, create_model

VARIANTS = {
    "unet-bilinear": ("unet", {}),
    "unpool-max": ("unpool", {"mode": "max"}),
    "unpool-nails": ("unpool", {"mode": "bed_of_nails"}),
    "fcn-8": ("fcn", {"stride": 8}),
    "fcn-16": ("fcn", {"stride": 16}),
    "fcn-32": ("fcn", {"stride": 32}),
    "transposed": ("transposed", {}),
    "interpolate-nearest": ("interpolate", {"mode": "nearest"}),
    "interpolate-bilinear": ("interpolate", {"mode": "bilinear"}),
    "interpolate-bicubic": ("interpolate", {"mode": "bicubic"}),
    "unet-nearest": ("unet", {"upsample": "nearest"}),
    "unet-bicubic": ("unet", {"upsample": "bicubic"}),
    "unet-nails": ("unet", {"upsample": "bed_of_nails"}),
    "unet-transposed": ("unet", {"upsample": "transposed"}),
    "unet-group": ("unet", {"norm": "group"}),
    "unet-gates": ("unet", {"attention": "gates"}),
    "unet-scse": ("unet", {"attention": "scse"}),
    "unetplusplus": ("unetplusplus", {}),
    "linknet": ("linknet", {}),
    "manet": ("manet", {}),
    "fpn": ("fpn", {}),
    "pan": ("pan", {}),
    "segformer": ("segformer", {}),
    "pspnet": ("pspnet", {}),
    "deeplabv3": ("deeplabv3", {}),
    "deeplabv3plus": ("deeplabv3plus", {}),
    "upernet": ("upernet", {}),
    "dpt": ("dpt", {}),
}

SMALL = {  # options of decoders that keep them small
    "deeplabv3": {"width": 16},
    "deeplabv3plus": {"width": 16},
    "dpt": {"width": 16},
    "fpn": {"pyramid_width": 64, "width": 64},  # group norm needs two channels a group
    "interpolate": {"widths": [8, 8, 8, 8, 8]},
    "pspnet": {"width": 16},
    "segformer": {"width": 16},
    "transposed": {"widths": [8, 8, 8, 8, 8]},
    "upernet": {"width": 16},
}


def build(variant: str, encoder: str = "vgg11_bn") -> SegmentationModel:
    """Build a network in eval mode, all of whose weights are random."""
    torch.manual_seed(0)
    decoder, own = VARIANTS[variant]
    options = {**SMALL.get(decoder, {}), **own}
    model = create_model(
        decoder, encoder, num_classes=3, encoder_options={"width": 1 / 32}, **options
    ).eval()
    for parameter in model.parameters():  # the scores of FCN's skips start at zero
        nn.init.normal_(parameter, std=0.2)
    return model
