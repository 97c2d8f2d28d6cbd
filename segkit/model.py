"""The whole network: pad once at the door, encode, decode, crop."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from segkit.config.schema import ModelConfig
from segkit.decoders import DECODERS
from segkit.decoders.fcn import FCNDecoder
from segkit.decoders.unpool import UnpoolDecoder
from segkit.encoders import ENCODERS
from segkit.encoders.weights import load_encoder_weights, read_weights, resolve_weights
from segkit.errors import UserError


class SegmentationModel(nn.Module):
    """An encoder that returns a `Pyramid` and a decoder that turns it into logits.

    The input is padded with zeros at the bottom and right to a multiple of the encoder's stride
    and the logits are cropped, so any size works; a size that is a multiple already is untouched.

    Args:
        encoder: with an attribute `stride`, returning a `Pyramid`.
        decoder: `forward(maps, sizes, indices)` giving logits at full resolution.

    Shape: `(N, in_channels, H, W)` to `(N, num_classes, H, W)`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.stride: int = cast(int, encoder.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits of normalised images."""
        height, width = x.shape[-2:]
        bottom, right = -height % self.stride, -width % self.stride
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        pyramid = self.encoder(x)
        logits = self.decoder(pyramid.maps, pyramid.sizes, pyramid.indices)
        return logits[..., :height, :width]


def build_model(
    config: ModelConfig, num_classes: int, load_weights: bool = True
) -> SegmentationModel:
    """Build the network a config describes; the decoder's channels come from the encoder.

    Args:
        config: the section `model` of an experiment.
        num_classes: channels of the logits.
        load_weights: False leaves pretrained weights alone, for a checkpoint that brings its own.

    Raises:
        UserError: parts that do not fit together, or weights that cannot be had.
    """
    if num_classes < 2:
        raise UserError(
            f"num_classes is {num_classes}; segmentation needs two or more, and a binary task is "
            "two classes, background and foreground"
        )
    decoder_class: Any = DECODERS[config.decoder.name]
    options = config.decoder.model_dump(exclude={"name", "classifier_weights"})
    wants = decoder_class.wants(**options)

    encoder_options = config.encoder.model_dump(exclude={"name", "weights"}, exclude_none=True)
    encoder = ENCODERS[config.encoder.name](
        taps=wants.taps,
        return_indices=wants.indices,
        in_channels=config.in_channels,
        **encoder_options,
    )
    if decoder_class is UnpoolDecoder and options["depths"] is None:
        options["depths"] = encoder.depths  # SegNet mirrors its encoder
    decoder = decoder_class(
        in_channels=[spec.channels for spec in encoder.specs],
        strides=[spec.stride for spec in encoder.specs],
        num_classes=num_classes,
        **options,
    )
    if load_weights:
        if isinstance(decoder, FCNDecoder):
            _load_classifier(decoder, config)
        load_encoder_weights(encoder, config.encoder.name, config.encoder.weights)
    return SegmentationModel(encoder, decoder)


def _load_classifier(decoder: FCNDecoder, config: ModelConfig) -> None:
    weights = config.decoder.classifier_weights
    if weights is None:
        return
    if not decoder.classifier:
        raise UserError(
            "model.decoder.classifier_weights needs model.decoder.classifier: conv, but it is none"
        )
    decoder.load_classifier(read_weights(resolve_weights(config.encoder.name, weights)))
