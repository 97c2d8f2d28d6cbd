"""OpenVINO's IR files, on OpenVINO."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.errors import UserError
from segkit.hardware import thread_count
from segkit.inference.backends.exported import KEY, GraphModel, Run
from segkit.inference.backends.exported_schema import parse_metadata

# the type that convolutions without int8 compute in, whatever the processor would prefer
HINTS = {"fp32": "f32", "half": "bf16", "int8": "f32"}


class OpenVinoModel(GraphModel):
    """An IR file, `.xml` with `.bin` beside it, on OpenVINO's CPU."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        openvino = import_openvino()
        if device not in ("auto", "cpu"):
            raise UserError(f"OpenVINO runs here on the CPU, not on '{device}'; use --device cpu")
        self.core = openvino.Core()
        self.version = openvino.__version__.partition("-")[0]
        try:
            self.graph = self.core.read_model(path)
            held = self.graph.has_rt_info([KEY])
            text = self.graph.get_rt_info([KEY]).astype(str) if held else None
        except Exception as error:  # of many types, for the bytes of a damaged file
            raise UserError(
                f"{path} is damaged or no OpenVINO file, or lacks its {path.stem}.bin"
            ) from error
        super().__init__(path, parse_metadata(text, path))

    def open(self, output: str, widened: bool) -> Run:
        """Compile the graph, see `GraphModel`."""
        model = self.graph.clone()
        named = {name for each in model.outputs for name in each.names}
        if output not in named:
            model.add_outputs(output)
        if widened:
            model.inputs[0].node.set_element_type(import_openvino().Type.f32)
            model.validate_nodes_and_infer_types()
        compiled = self.core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": HINTS[self.precision],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        return lambda images: np.array(compiled({"image": images})[output])  # its buffer is reused

    def __str__(self) -> str:
        return f"OpenVINO {self.version} on the CPU with {thread_count()}, {self.precision}"


@contextmanager
def without_reports() -> Iterator[None]:
    """Hide the module by which OpenVINO and NNCF report each use from those imported within."""
    module = "openvino_telemetry"
    found = {name: sys.modules[name] for name in [module] if name in sys.modules}
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        sys.modules.update(found)


def import_openvino() -> Any:
    """Import the package, or say how to get it."""
    try:
        with without_reports():
            import openvino
    except ImportError as error:
        raise UserError("this needs OpenVINO; pip install 'segkit[openvino]'") from error
    return openvino
