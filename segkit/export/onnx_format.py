"""ONNX files, judged by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from segkit.errors import UserError
from segkit.export.corner_pool import use_corner_pools
from segkit.export.deployed import DeployedModel, Output, explained, quiet, to_program
from segkit.export.formats import Format, Precision
from segkit.export.int8 import Images, quantize_onnx
from segkit.inference.backends.exported import KEY
from segkit.inference.backends.onnxruntime import OnnxRuntimeModel, import_onnxruntime

LARGEST = 2**31  # bytes that one file can hold


class OnnxFormat(Format):
    """ONNX by torch's exporter."""

    suffix = ".onnx"
    precisions = ("fp32", "int8")

    def check(self) -> None:
        """Ask for the packages, see `Format`."""
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401

            import_onnxruntime()
        except ImportError as error:
            raise UserError(
                f"--to onnx needs {error.name}, which is not installed; pip install 'segkit[onnx]'"
            ) from error

    def build(self, model: DeployedModel, channels: int, precision: Precision) -> Any:
        """Return an `onnx.ModelProto`, see `Format`."""
        return to_onnx(model, channels)

    def quantize(self, built: Any, images: Images, kept: Sequence[str]) -> Any:
        """Quantise by ONNX Runtime, see `Format`."""
        return quantize_onnx(built, images, kept)

    def save(self, built: Any, path: Path, metadata: str) -> None:
        """Write the file, see `Format`."""
        del built.metadata_props[:]
        built.metadata_props.add(key=KEY, value=metadata)
        path.write_bytes(built.SerializeToString())

    def open(self, path: Path) -> OnnxRuntimeModel:
        """Load it on ONNX Runtime's CPU, see `Format`."""
        return OnnxRuntimeModel(path, "cpu")


def to_onnx(model: DeployedModel, channels: int) -> Any:
    """Convert a model, which is changed; its logits have that name inside of the graph.

    Raises:
        UserError: an operation that torch's exporter lacks, or a model beyond 2 GB.
    """
    use_corner_pools(model.encoder)
    asked = model.outputs
    model.outputs = (*asked, *(() if "logits" in asked else ("logits",)))
    with explained("torch.onnx cannot convert this network"), quiet():
        exported = torch.onnx.export(
            to_program(model, channels),
            dynamo=True,
            input_names=["image"],
            output_names=list(model.outputs),
            verbose=False,
        )
        assert exported is not None
        graph = exported.model_proto
    if graph.ByteSize() >= LARGEST:
        raise UserError("the model has more than the 2 GB that an ONNX file holds")
    _tidy(graph, asked)
    return graph


def _tidy(graph: Any, outputs: tuple[Output, ...]) -> None:
    """Hide the outputs that nobody asked for, name layers, and remove notes with their paths."""
    for value in list(graph.graph.output):
        if value.name not in outputs:
            graph.graph.output.remove(value)
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output):
        del part.metadata_props[:]
    for part in (*graph.graph.value_info, *graph.graph.initializer):
        del part.metadata_props[:]
    for node in graph.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):  # by the module's name
            node.name = node.input[1].removesuffix(".weight")
    graph.doc_string = graph.graph.doc_string = ""
