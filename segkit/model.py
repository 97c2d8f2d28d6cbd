"""The whole network: pad the input, encode, decode, crop the logits."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import UserError, unknown_name
from segkit.features import Disposable, Wants, padding_to
from segkit.limits import free_ram
from segkit.network_size import at_most
from segkit.registry import find

if TYPE_CHECKING:
    from segkit.config.schema import ModelConfig

Part = tuple[str, Mapping[str, Any]]  # the name and the options of an encoder or decoder
MAX_TENSORS = 100_000  # weights and buffers; networks have some thousand
GIVEN = ("wants", "in_channels", "strides", "num_classes")  # arguments that are no options
EVERY_STRIDE = Wants()


class SegmentationModel(nn.Module):
    """An encoder that returns a `Pyramid`, and a decoder that turns it into logits.

    The input is padded with zeros at the bottom and right to a multiple of the encoder's `stride`
    and the logits are cropped, so any size works, in a traced or exported graph too. At a multiple
    of the stride this changes nothing. `torch.export` with free sizes needs a `Dim` whose `min` is
    above the stride.

    Shape: `(N, in_channels, H, W)` to `(N, num_classes, H, W)`. A decoder with deep supervision
        returns a mapping of such logits in training, see `all_logits`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.stride: int = cast(int, encoder.stride)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Return the logits of normalised images."""
        bottom, right = padding_to(self.stride, x)
        # Without an `if`, whose answer for the example a trace would keep for every size, and
        # without a slice, for which torch.export would compare the sizes of the example.
        maps, *grids = self.encoder(F.pad(x, (0, right, 0, bottom)))
        maps = Disposable(maps)
        logits = self.decoder(maps, *grids)
        crop = (0, -right, 0, -bottom)
        if isinstance(logits, dict):
            return {name: F.pad(each, crop) for name, each in logits.items()}
        return F.pad(logits, crop)


def logits_of(output: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Return a model's logits; torchvision's segmentation models hold them under `out`."""
    return output["out"] if isinstance(output, Mapping) else output


def all_logits(output: Tensor | Mapping[str, Tensor]) -> list[Tensor]:
    """Return a model's logits, then those of deep supervision, whose names begin with `aux`."""
    if not isinstance(output, Mapping):
        return [output]
    others = [logits for name, logits in output.items() if name.startswith("aux")]
    return [output["out"], *(logits for logits in others if logits is not None)]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode, and restore each module's own mode, as some may have been frozen."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def create_model(
    decoder: str,
    encoder: str = "vgg16",
    *,
    num_classes: int,
    weights: str | None = None,
    in_channels: int = 3,
    encoder_options: Mapping[str, Any] | None = None,
    **decoder_options: Any,
) -> SegmentationModel:
    """Build a network from registered parts.

    Args:
        decoder: registered name, such as `unet`; its options follow by keyword.
        encoder: registered name, such as `vgg16_bn`, with its `encoder_options`.
        num_classes: channels of the logits, 2 or more.
        weights: of the encoder: None (random), `imagenet`, or a weight file, here or on the hub.
        in_channels: channels of the images.

    Raises:
        UserError: unknown parts or options, parts that do not fit together, or weights that
            cannot be loaded.

    >>> model = create_model("unet", "vgg11", num_classes=3, encoder_options={"width": 0.125})
    >>> model.decoder.in_channels
    (8, 16, 32, 64, 64)
    """
    encoder_options = encoder_options or {}
    _check_options("encoder", encoder, encoder_options)
    _check_options("decoder", decoder, decoder_options)
    parts = (encoder, encoder_options), (decoder, decoder_options)
    model = _assemble(*parts, num_classes, in_channels)
    _load_weights(model.encoder, model.decoder, weights)
    return model


def create_encoder(
    name: str,
    *,
    weights: str | None = None,
    in_channels: int = 3,
    wants: Wants = EVERY_STRIDE,
    **options: Any,
) -> nn.Module:
    """Build a registered encoder alone.

    Args:
        name: such as `vgg16_bn`; its options follow by keyword.
        weights: None (random), `imagenet`, or a weight file, here or on the hub.
        in_channels: channels of the images.
        wants: which maps it returns.

    Raises:
        UserError: an unknown encoder or option, or weights that cannot be loaded.

    >>> [spec.name for spec in create_encoder("vgg11", wants=Wants(coarsest=True)).specs]
    ['conv5']
    """
    _check_options("encoder", name, options)
    encoder: nn.Module = find("encoder", name)(wants, in_channels=in_channels, **options)
    _load_encoder_weights(encoder, weights)
    return encoder


def build_model(
    config: ModelConfig, num_classes: int, load_weights: bool = True
) -> SegmentationModel:
    """Build the network of a config, with its pretrained weights or, for a checkpoint, without."""
    encoder = config.encoder.name, config.encoder.model_dump(exclude={"name", "weights"})
    decoder = config.decoder.name, config.decoder.model_dump(exclude={"name"})
    model = _assemble(encoder, decoder, num_classes, config.in_channels)
    if load_weights:
        _load_weights(model.encoder, model.decoder, config.encoder.weights)
    return model


def _assemble(
    encoder: Part, decoder: Part, num_classes: int, in_channels: int
) -> SegmentationModel:
    """Build the encoder that answers what the decoder wants, then the decoder for its maps."""
    if num_classes < 2:
        raise UserError(
            f"num_classes is {num_classes}; segmentation needs two or more, and a binary task is "
            "two classes, background and foreground"
        )
    free = free_ram()
    values = 2**60 if free is None else free // 4  # bytes each
    try:
        with at_most(values, MAX_TENSORS, "the network does not fit into memory; make it smaller"):
            return _connect(encoder, decoder, num_classes, in_channels)
    except UserError:
        raise
    except (ValueError, RuntimeError, ArithmeticError, MemoryError) as error:  # of unfit numbers
        first = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"the decoder '{decoder[0]}' on the encoder '{encoder[0]}' cannot be built with these "
            f"options: {first}"
        ) from error


def _connect(encoder: Part, decoder: Part, num_classes: int, in_channels: int) -> SegmentationModel:
    make_encoder: Any = find("encoder", encoder[0])
    make_decoder: Any = find("decoder", decoder[0])
    options = dict(decoder[1])
    wants = make_decoder.wants(**options) if hasattr(make_decoder, "wants") else Wants()
    built = make_encoder(wants, in_channels=in_channels, **encoder[1])
    if hasattr(make_decoder, "options_from"):
        own = {option: value for option, value in options.items() if value is not None}
        options |= make_decoder.options_from(built.specs) | own
    options["in_channels"] = [spec.channels for spec in built.specs]
    options["strides"] = [spec.stride for spec in built.specs]
    return SegmentationModel(built, make_decoder(num_classes=num_classes, **options))


def _load_weights(encoder: Any, decoder: Any, weights: str | None) -> None:
    """Load what the decoder's options name, then the encoder's weights."""
    if hasattr(decoder, "load_weights"):
        decoder.load_weights(encoder)
    _load_encoder_weights(encoder, weights)


def _load_encoder_weights(encoder: Any, weights: str | None) -> None:
    if weights is not None:
        if not hasattr(encoder, "load_weights"):
            raise UserError(
                f"weights is {weights}, but {type(encoder).__name__} has no method load_weights; "
                "use weights: null for this encoder"
            )
        encoder.load_weights(weights)


def _check_options(kind: str, name: str, given: Mapping[str, Any]) -> None:
    """Refuse options that a part does not have, or lacks."""
    parameters = inspect.signature(find(kind, name)).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    options = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in GIVEN}
    for option in given:
        if option not in options:
            raise unknown_name(f"option of the {kind} '{name}'", option, options)
    missing = [n for n, p in options.items() if p.default is p.empty and n not in given]
    if missing:
        raise UserError(f"the {kind} '{name}' needs the option {missing[0]}")
