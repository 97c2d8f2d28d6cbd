"""The network of segmentation_models.pytorch that ours is measured beside."""

from __future__ import annotations

from torch import nn

from segkit.errors import UserError


def build_peer(in_channels: int, num_classes: int) -> nn.Module:
    """Build its U-Net on VGG16 as it comes, with random weights.

    Raises:
        UserError: the package is missing.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError("--peer smp needs the peer; pip install 'segkit[bench]'") from error
    model: nn.Module = smp.Unet(
        "vgg16", encoder_weights=None, in_channels=in_channels, classes=num_classes
    )
    return model
