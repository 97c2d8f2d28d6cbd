"""The network as it is deployed: bytes in, classes out."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segkit.errors import UserError
from segkit.features import padding_to
from segkit.model import SegmentationModel
from segkit.normalize import Normalize

Output = Literal["mask", "logits", "probabilities"]
EXAMPLE = (2, 97, 131)  # N, H and W: of no special size, so that no size is taken for a constant


class DeployedModel(nn.Module):
    """A network with all that surrounds it inside: normalisation, padding, cropping and argmax.

    Args:
        model: in eval mode; a copy of it is kept.
        normalize: of its images.
        outputs: to return, in this order; the mask comes first if it is not named.
        takes_bytes: whether images are uint8, else float32 from 0 to 1.

    Shape: `(N, H, W, C)` of any size to `mask` uint8 `(N, H, W)`, `logits` and `probabilities`
        float32 `(N, num_classes, H, W)`.
    """

    def __init__(
        self,
        model: SegmentationModel,
        normalize: Normalize,
        outputs: Sequence[Output] = (),
        takes_bytes: bool = True,
    ) -> None:
        super().__init__()
        model = copy.deepcopy(model)
        self.encoder, self.decoder, self.stride = model.encoder, model.decoder, model.stride
        self.normalize = normalize
        self.outputs = tuple(dict.fromkeys(outputs if "mask" in outputs else ("mask", *outputs)))
        self.takes_bytes = takes_bytes

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Predict a batch of images."""
        logits = self.logits(image)
        found = {"mask": logits.argmax(1).to(torch.uint8), "logits": logits}
        if "probabilities" in self.outputs:
            found["probabilities"] = logits.softmax(1)
        return tuple(found[name] for name in self.outputs)

    def logits(self, image: Tensor) -> Tensor:
        """Return the logits, as `SegmentationModel` does."""
        x = self.normalize(image.permute(0, 3, 1, 2))
        height, width = x.shape[-2:]
        bottom, right = padding_to(self.stride, x)
        x = F.pad(x, (0, right, 0, bottom))
        x = x.to(next(self.encoder.parameters()).dtype)  # half precision, if that is asked for
        logits = self.decoder(*self.encoder(x)).float()
        # a slice: OpenVINO miscomputes the negative padding that SegmentationModel crops by
        return logits[:, :, :height, :width]


def to_program(model: DeployedModel, channels: int) -> ExportedProgram:
    """Capture the graph for any batch, height and width, from 1 on.

    Raises:
        UserError: an operation that torch.export does not support, or a torch that is too old.
    """
    import torch.fx.experimental._config as symbolic

    if not hasattr(symbolic, "backed_size_oblivious"):
        raise UserError("export needs torch 2.7 or newer; pip install -U torch")
    free = (dict.fromkeys(range(3), Dim.DYNAMIC),)
    # otherwise a map of one pixel, or a size that needs no padding, would be a case of its own
    patched = symbolic.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with explained("torch.export cannot capture this network"), patched, torch.no_grad():
        return torch.export.export(
            model,
            (example_image(model, channels),),
            dynamic_shapes=free,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def example_image(model: DeployedModel, channels: int) -> Tensor:
    """Return a batch of images to trace by."""
    device = next(model.parameters()).device
    dtype = torch.uint8 if model.takes_bytes else torch.float32
    return torch.zeros((*EXAMPLE, channels), dtype=dtype, device=device)


@contextmanager
def explained(failure: str, remedy: str = "") -> Iterator[None]:
    """Turn the error of a converter, which may be of any type, into the user's."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{failure}: {first_line(error)}{remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what converters warn of and log, which is about themselves."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def first_line(error: Exception) -> str:
    """Return the first line of a message that may go on for pages."""
    return (str(error) or type(error).__name__).strip().partition("\n")[0]
