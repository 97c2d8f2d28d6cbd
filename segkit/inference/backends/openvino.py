"""OpenVINO's IR files, on OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segkit.errors import UserError
from segkit.inference.backends.exported import KEY, ExportedModel, parse_metadata

# the type that convolutions without int8 compute in, whatever the processor would prefer
HINTS = {"fp32": "f32", "half": "bf16", "int8": "f32"}


class OpenVinoModel(ExportedModel):
    """An IR file, `.xml` with `.bin` beside it, on OpenVINO's CPU."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        openvino = import_openvino()
        if device not in ("auto", "cpu"):
            raise UserError(f"OpenVINO runs here on the CPU, not on '{device}'; use --device cpu")
        self.core = openvino.Core()
        self.version = openvino.__version__.partition("-")[0]
        try:
            model = self.core.read_model(path)
            text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
        except RuntimeError as error:
            raise UserError(
                f"{path} is damaged or no OpenVINO file, or lacks its {path.stem}.bin"
            ) from error
        super().__init__(path, parse_metadata(text, path))
        self._compiled: dict[tuple[str, bool], Any] = {}

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """Run the graph, see `ExportedModel`."""
        widened = self.takes_bytes and images.dtype != np.uint8
        key = output, widened
        if key not in self._compiled:
            self._compiled[key] = self._compile(output, widened)
        return np.array(self._compiled[key]({"image": images})[output])  # its buffer is used again

    def _compile(self, output: str, widened: bool) -> Any:
        """Compile a graph that returns an output, and takes bytes as floats if asked to."""
        model = self.core.read_model(self.path)
        named = {name for each in model.outputs for name in each.names}
        if output not in named:
            model.add_outputs(output)
        if widened:  # the graph begins by a cast to floats, so it computes the same
            model.inputs[0].node.set_element_type(import_openvino().Type.f32)
            model.validate_nodes_and_infer_types()
        return self.core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": HINTS[self.precision],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )

    def __str__(self) -> str:
        threads = torch.get_num_threads()
        return (
            f"OpenVINO {self.version} on the CPU with {threads} thread{'s' * (threads != 1)}, "
            f"{self.precision}"
        )


def import_openvino() -> Any:
    """Import the package, or say how to get it."""
    try:
        import openvino
    except ImportError as error:
        raise UserError("this needs OpenVINO; pip install 'segkit[openvino]'") from error
    return openvino
