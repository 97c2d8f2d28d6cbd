"""ONNX files, on ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from segkit.errors import UserError
from segkit.hardware import thread_count
from segkit.inference.backends.exported import KEY, GraphModel, Run
from segkit.inference.backends.exported_schema import parse_metadata

PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
}


class OnnxRuntimeModel(GraphModel):
    """An ONNX file on ONNX Runtime."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        onnx, self.runtime = _packages()
        try:
            self.graph = onnx.load(path)
        except Exception as error:  # of many types, for the bytes of a damaged file
            raise UserError(f"{path} is damaged or no ONNX file") from error
        properties = {entry.key: entry.value for entry in self.graph.metadata_props}
        super().__init__(path, parse_metadata(properties.get(KEY), path))
        self.providers = _providers(device, self.runtime.get_available_providers())

    def open(self, output: str, widened: bool) -> Run:
        """Open a session, see `GraphModel`."""
        import onnx

        graph = onnx.ModelProto()
        graph.CopyFrom(self.graph)
        if output not in {each.name for each in graph.graph.output}:
            floats = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
            graph.graph.output.append(floats)
        if widened:
            graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
            del graph.graph.value_info[:]  # which tells the types of what comes before the cast
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors alone
        session = self.runtime.InferenceSession(
            graph.SerializeToString(), options, providers=self.providers
        )
        return lambda images: session.run([output], {"image": images})[0]

    def __str__(self) -> str:
        where = self.providers[0].removesuffix("ExecutionProvider")
        return (
            f"ONNX Runtime {self.runtime.__version__} on {where} with {thread_count()}, "
            f"{self.precision}"
        )


def import_onnxruntime() -> Any:
    """Import the package, without the usage reports that it sends by itself from 1.29 on."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _packages() -> tuple[Any, Any]:
    try:
        import onnx

        return onnx, import_onnxruntime()
    except ImportError as error:
        raise UserError("an ONNX file needs ONNX Runtime; pip install 'segkit[onnx]'") from error


def _providers(device: str, available: list[str]) -> list[str]:
    has_cuda = "CUDAExecutionProvider" in available
    if device == "auto":
        device = "cuda" if has_cuda else "cpu"
    if device not in PROVIDERS or (device == "cuda" and not has_cuda):
        raise UserError(
            f"ONNX Runtime has no device '{device}' here; use --device cpu"
            + (", or pip install onnxruntime-gpu" if device == "cuda" else "")
        )
    return PROVIDERS[device]
