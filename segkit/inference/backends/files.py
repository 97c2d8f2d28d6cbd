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


def make_backend(content: dict[str, Any], source: Source, device: DeviceName = "auto") -> Backend:
    """Open an exported file, or rebuild the model of a checkpoint in the precision it had."""
    if is_exported(source):
        return open_exported(Path(source), device)
    config = restore_config(content, source)
    statistics = restore_statistics(content, config)
    hardware = choose_hardware(device, config.precision)
    model = hardware.to_device(restore_model(content, source))
    return TorchBackend(model, hardware, statistics.mean, statistics.std)
