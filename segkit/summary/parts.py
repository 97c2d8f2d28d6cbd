"""What each registered decoder and encoder costs, without weights or data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segkit.errors import UserError
from segkit.features import FeatureSpec, Size, Wants
from segkit.model import create_model
from segkit.registry import find
from segkit.summary.summarize import count_costs

IN_CHANNELS = 3
NUM_CLASSES = 21  # VOC's; few of a network's numbers depend on it
META = torch.device("meta")  # weights without memory
ROLES = (Wants(), Wants(place="after_pool"))  # between them, all maps of an encoder


@dataclass(frozen=True)
class ListedPart:
    """A part, and what it costs with its default options.

    Args:
        name: of the part.
        strides: of the maps that an encoder has, or that a decoder asks this one for.
        parameters: of the part alone.
        macs: multiply-accumulates of the part alone, for one image.
        field: receptive field in pixels of the deepest map or of the logits; infinite for the
            whole image, None if unknown.
        refusal: why it cannot be built or run, in which case the rest says nothing; else empty.
    """

    name: str
    strides: tuple[int, ...] = ()
    parameters: int = 0
    macs: int = 0
    field: float | None = None
    refusal: str = ""


def list_decoders(names: Iterable[str], encoder: str, size: Size) -> Iterator[ListedPart]:
    """Tell what each decoder costs on one encoder, for images of three channels.

    Raises:
        UserError: no encoder has that name.
    """
    find("encoder", encoder)
    for name in names:
        yield _tried(_decoder_cost, name, encoder, size)


def list_encoders(names: Iterable[str], size: Size) -> Iterator[ListedPart]:
    """Tell what each encoder costs down to its deepest map, for images of three channels."""
    for name in names:
        yield _tried(_encoder_cost, name, size)


def _tried(measure: Callable[..., ListedPart], name: str, *arguments: Any) -> ListedPart:
    try:
        return measure(name, *arguments)
    except Exception as error:  # whatever a part of the user's own raises
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        reason = str(error).partition("\n")[0].partition(";")[0]
        return ListedPart(name, refusal=f"{kind}{reason}")


def _decoder_cost(name: str, encoder: str, size: Size) -> ListedPart:
    with META:
        model = create_model(name, encoder, num_classes=NUM_CLASSES)
    costs = count_costs(model, IN_CHANNELS, size)
    specs: Any = model.encoder.specs
    return ListedPart(
        name,
        tuple(spec.stride for spec in specs),
        costs.decoder_parameters,
        costs.decoder_macs,
        costs.field,
    )


def _encoder_cost(name: str, size: Size) -> ListedPart:
    make: Any = find("encoder", name)
    with META:
        encoders = [make(wants, in_channels=IN_CHANNELS) for wants in ROLES]
    specs: list[FeatureSpec] = [spec for encoder in encoders for spec in encoder.specs]
    deepest = max(encoders, key=lambda encoder: encoder.stride)
    height, width = (side + -side % deepest.stride for side in size)  # as in a whole model
    costs = count_costs(_DeepestMap(deepest), IN_CHANNELS, (height, width))
    strides = tuple(sorted({spec.stride for spec in specs}))
    return ListedPart(name, strides, costs.parameters, costs.macs, costs.field)


class _DeepestMap(nn.Module):
    """An encoder as a network with one output."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.stride

    def forward(self, x: Tensor) -> Tensor:
        deepest: Tensor = self.encoder(x).maps[-1]
        return deepest
