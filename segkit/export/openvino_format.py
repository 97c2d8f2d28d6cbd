"""OpenVINO's IR files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segkit.errors import UserError
from segkit.export.deployed import DeployedModel, explained
from segkit.export.formats import Format, Precision
from segkit.export.int8 import Images, quantize_openvino
from segkit.export.onnx_format import OnnxFormat, to_onnx
from segkit.hardware import choose_hardware
from segkit.inference.backends.exported import KEY
from segkit.inference.backends.openvino import OpenVinoModel, import_openvino


class OpenVinoFormat(Format):
    """OpenVINO, by way of ONNX."""

    suffix = ".xml"
    precisions = ("fp32", "half", "int8")

    def check(self) -> None:
        """Ask for the packages, see `Format`."""
        import_openvino()
        OnnxFormat().check()

    def build(self, model: DeployedModel, channels: int, precision: Precision) -> Any:
        """Return an `openvino.Model`, see `Format`."""
        if precision == "half" and choose_hardware("cpu").precision != "bf16":
            raise UserError(
                "OpenVINO computes half precision as bf16, for which this CPU has no instructions; "
                "use fp32 or int8"
            )
        graph = to_onnx(model, channels)
        with explained("OpenVINO cannot read this network"):
            built = import_openvino().Core().read_model(graph.SerializeToString())
        resample_as_torch(built)
        return built

    def quantize(self, built: Any, images: Images, kept: Sequence[str]) -> Any:
        """Quantise by NNCF, see `Format`."""
        return quantize_openvino(built, images, kept)

    def save(self, built: Any, path: Path, metadata: str) -> None:
        """Write both files, see `Format`; for half precision with weights in fp16."""
        built.set_rt_info(metadata, [KEY])
        is_half = json.loads(metadata)["export"]["precision"] == "half"
        import_openvino().save_model(built, path, compress_to_fp16=is_half)

    def open(self, path: Path) -> OpenVinoModel:
        """Load it on the CPU, see `Format`."""
        return OpenVinoModel(path, "cpu")

    def files(self, path: Path) -> list[Path]:
        """List the weights and the graph, see `Format`."""
        return [path.with_suffix(".bin"), path]


def resample_as_torch(built: Any) -> None:
    """Replace bicubic interpolation with antialias, in place, by the mode that computes it.

    OpenVINO reads ONNX's `antialias` into its mode `cubic`, which does not widen its kernel to
    shrink a map. The position embeddings of vision transformers are resampled so; its mode
    `bicubic_pillow` gives the numbers of torch.
    """
    import openvino.opset11 as ops

    for node in built.get_ops():
        if node.get_type_name() != "Interpolate":
            continue
        options = node.get_attributes()
        if options["mode"] == "cubic" and options["antialias"]:
            maps, size = node.input_values()[:2]
            pads = options["pads_begin"], options["pads_end"]
            coefficient = options["cube_coeff"]
            resampled = ops.interpolate(
                maps, size, "bicubic_pillow", "sizes", *pads, cube_coeff=coefficient
            )
            node.output(0).replace(resampled.output(0))
