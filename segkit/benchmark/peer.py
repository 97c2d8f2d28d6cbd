"""The networks of segmentation_models.pytorch that ours are measured beside."""

from __future__ import annotations

from typing import Any

from torch import nn

from segkit.errors import UserError

PEERS = {  # its networks by the names of our decoders
    "unet": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "linknet": "Linknet",
    "manet": "MAnet",
    "fpn": "FPN",
    "pan": "PAN",
    "segformer": "Segformer",
    "pspnet": "PSPNet",
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3Plus",
    "upernet": "UPerNet",
}


def import_peer() -> Any:
    """Import the package, or say how to get it."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError("--peer smp needs the peer; pip install 'segkit[bench]'") from error
    return smp


def build_peer(
    in_channels: int, num_classes: int, decoder: str = "unet", encoder: str = "vgg16"
) -> nn.Module:
    """Build a network as it comes, with random weights.

    Raises:
        UserError: the package is missing.
    """
    model: nn.Module = getattr(import_peer(), PEERS[decoder])(
        encoder, encoder_weights=None, in_channels=in_channels, classes=num_classes
    )
    return model
