"""Files that hold a trained model: checkpoints, and exported ones by their suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segkit.checkpoint import (
    load_checkpoint,
    restore_config,
    restore_model,
    restore_statistics,
)
from segkit.errors import UserError
from segkit.hardware import DeviceName, choose_hardware
from segkit.hub import Source, is_address
from segkit.inference.backends.base import Backend
from segkit.inference.backends.exported import ExportedModel
from segkit.inference.backends.fold import fold_batch_norm
from segkit.inference.backends.onnxruntime import OnnxRuntimeModel
from segkit.inference.backends.openvino import OpenVinoModel
from segkit.inference.backends.pytorch import TorchBackend

EXPORTED: dict[str, type[OnnxRuntimeModel] | type[OpenVinoModel]] = {
    ".onnx": OnnxRuntimeModel,
    ".xml": OpenVinoModel,
}


def is_exported(source: Source) -> bool:
    """Return whether a file is an exported one that segkit runs."""
    return not is_address(source) and Path(source).suffix in EXPORTED


def open_exported(path: Path, device: str = "auto") -> ExportedModel:
    """Open an exported file on its runtime.

    Raises:
        UserError: no such file, a damaged one, or one that segkit did not write; a missing package.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return EXPORTED[path.suffix](path, device)


def load_content(source: Source) -> dict[str, Any]:
    """Read a checkpoint, or what an exported file says of the one that it was made of."""
    if is_exported(source):
        return open_exported(Path(source), "cpu").metadata
    return load_checkpoint(source)


def make_backend(
    content: dict[str, Any], source: Source, device: DeviceName = "auto", fast: bool = False
) -> Backend:
    """Open an exported file, or rebuild the model of a checkpoint in the precision it had.

    Where the device lacks that precision, it computes in fp32.

    Args:
        content: see `load_content`.
        source: of the content.
        device: see `choose_hardware`.
        fast: of a checkpoint: half precision where the device computes it, batch norm folded into
            convolutions, and `torch.compile`.
    """
    if is_exported(source):
        if fast:
            raise UserError(
                f"--fast is for checkpoints, and {source} is exported; leave it out, or export "
                "with --precision half or int8"
            )
        return open_exported(Path(source), device)
    config = restore_config(content, source)
    statistics = restore_statistics(content, config)
    hardware = choose_hardware(device, "auto" if fast else config.precision, adapt=True)
    model = restore_model(content, source)
    if fast:
        fold_batch_norm(model.eval())
    mean, std = statistics.mean, statistics.std
    return TorchBackend(hardware.to_device(model), hardware, mean, std, compile=fast)
