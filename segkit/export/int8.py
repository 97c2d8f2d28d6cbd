"""Post-training quantisation to int8, and which layers suffer from it most."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.data.dataset import SegmentationDataset
from segkit.errors import UserError
from segkit.export.deployed import DeployedModel, explained, quiet
from segkit.inference.backends.openvino import without_reports

Images = Sequence[NDArray[Any]]  # batches of one, (1, H, W, C), as the file takes them
RANKED_BY = 8  # images that the sensitivity of layers is measured on
LEVELS = 255
BETWEEN = (
    "MaxPool",
    "Concat",
    "Resize",
)  # operations that need no convolution, but compute in int8


def calibration_images(dataset: SegmentationDataset, count: int) -> Images:
    """Draw images of a data set by a fixed seed, `(1, H, W, C)` each, without replacement."""
    drawn = np.random.default_rng(0).permutation(len(dataset))[:count]
    images = (dataset[int(index)].image for index in sorted(drawn))
    return [image.permute(1, 2, 0)[None].contiguous().numpy() for image in images]


def quantize_onnx(graph: Any, images: Images, kept: Sequence[str]) -> Any:
    """Quantise an `onnx.ModelProto` by ONNX Runtime: QDQ, weights a channel, MinMax calibration.

    Args:
        graph: in fp32.
        images: to calibrate on.
        kept: names of the convolutions to leave as they are.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """Gives one image after another."""

        def __init__(self) -> None:
            self.remaining = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.remaining, None)
            return None if image is None else {"image": image}

    own = onnx.ModelProto()  # quantize_static moves the tensors of what it is given into files
    own.CopyFrom(graph)
    with tempfile.TemporaryDirectory() as folder, quiet(), _explained("ONNX Runtime"):
        file = Path(folder) / "int8.onnx"
        quantize_static(
            own,
            file,
            Reader(),
            # a map in 8 bits between two layers would spoil those that are kept after it
            op_types_to_quantize=["Conv", "ConvTranspose", *([] if kept else BETWEEN)],
            per_channel=True,
            activation_type=QuantType.QUInt8,  # with int8 weights, what x86 multiplies fastest
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(kept),
        )
        return onnx.load(file)


def quantize_openvino(model: Any, images: Images, kept: Sequence[str]) -> Any:
    """Quantise an `openvino.Model` by NNCF; see `quantize_onnx` for the arguments."""
    try:
        with without_reports():
            import nncf
    except ImportError as error:
        raise UserError("--precision int8 needs NNCF; pip install 'segkit[openvino]'") from error
    # OpenVINO splits a convolution's bias off, which keeps the name
    there = {operation.get_friendly_name() for operation in model.get_ops()}
    names = [name for each in kept for name in (each, f"{each}/WithoutBiases") if name in there]
    # its progress bar goes wherever the output does
    with quiet(), redirect_stdout(io.StringIO()), _explained("NNCF"):
        return nncf.quantize(
            model.clone(),
            nncf.Dataset(images),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=names) if names else None,
        )


@torch.no_grad()
def rank_layers(model: DeployedModel, images: Images) -> list[str]:
    """Name the convolutions, that first whose quantisation alone changes the logits most.

    Weights are rounded to 8 bits a channel and inputs to 8 bits a map, as the runtimes do; the
    change is the mean square over a few images.
    """
    chosen = [torch.from_numpy(image) for image in images[:RANKED_BY]]
    expected = [model.logits(image) for image in chosen]
    changes: dict[str, float] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            with _quantized(layer):
                found = [model.logits(image) for image in chosen]
            errors = [(a - b).square().mean() for a, b in zip(found, expected, strict=True)]
            changes[name] = float(torch.stack(errors).mean())
    return sorted(changes, key=lambda name: -changes[name])


@contextmanager
def _quantized(layer: nn.Conv2d | nn.ConvTranspose2d) -> Iterator[None]:
    """Round the weights and the inputs of a layer, and restore them."""
    weight = layer.weight.data
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    others = [dim for dim in range(4) if dim != axis]
    scale = weight.abs().amax(others, keepdim=True).clamp(min=1e-12) / (LEVELS // 2)
    layer.weight.data = (weight / scale).round() * scale
    hook = layer.register_forward_pre_hook(lambda _, inputs: (_rounded(inputs[0]),))
    try:
        yield
    finally:
        layer.weight.data = weight
        hook.remove()


def _rounded(x: Tensor) -> Tensor:
    """Round a map to 8 bits between its extremes, zero among them."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = ((high - low) / LEVELS).clamp(min=1e-12)
    return ((x - low) / scale).round() * scale + low


def _explained(who: str) -> AbstractContextManager[None]:
    return explained(f"{who} cannot quantise this network", "; use --precision fp32")
