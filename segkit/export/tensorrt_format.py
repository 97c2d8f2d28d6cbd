"""TensorRT engines, by way of ONNX; built for the GPU of this machine alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from segkit.errors import UserError
from segkit.export.deployed import DeployedModel
from segkit.export.formats import Format, Precision
from segkit.export.onnx_format import OnnxFormat, to_onnx
from segkit.inference.backends.exported import ExportedModel

# of a batch, the least, the usual and the largest: N, H, W
SHAPES = (1, 1, 1), (1, 512, 512), (8, 2048, 2048)


class TensorRtFormat(Format):
    """TensorRT; the metadata lies beside the engine, whose bytes are NVIDIA's alone."""

    suffix = ".engine"
    precisions = ("fp32", "half")

    def check(self) -> None:
        """Ask for the package and a GPU, see `Format`."""
        OnnxFormat().check()
        try:
            import tensorrt  # noqa: F401
        except ImportError as error:
            raise UserError("--to tensorrt needs TensorRT; pip install tensorrt") from error
        if not torch.cuda.is_available():
            raise UserError("--to tensorrt builds for the GPU of this machine, but there is none")

    def build(self, model: DeployedModel, channels: int, precision: Precision) -> Any:
        """Return a serialized engine, see `Format`."""
        import tensorrt

        logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        builder = tensorrt.Builder(logger)
        network = builder.create_network(0)
        parser = tensorrt.OnnxParser(network, logger)
        # TensorRT chooses what to compute in half precision, so it gets the weights in fp32
        if not parser.parse(to_onnx(model.float(), channels).SerializeToString()):
            raise UserError(f"TensorRT cannot read this network: {parser.get_error(0)}")
        config = builder.create_builder_config()
        if precision == "half":
            config.set_flag(tensorrt.BuilderFlag.FP16)
        profile = builder.create_optimization_profile()
        profile.set_shape("image", *((*shape, channels) for shape in SHAPES))
        config.add_optimization_profile(profile)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise UserError("TensorRT cannot build an engine of this network")
        return engine

    def save(self, built: Any, path: Path, metadata: str) -> None:
        """Write the engine and its metadata, see `Format`."""
        path.write_bytes(built)
        _beside(path).write_text(metadata, encoding="utf-8")

    def open(self, path: Path) -> ExportedModel:
        """Load it onto the GPU, see `Format`."""
        return TensorRtModel(path)

    def files(self, path: Path) -> list[Path]:
        """List the metadata and the engine, see `Format`."""
        return [_beside(path), path]


class TensorRtModel(ExportedModel):
    """An engine on the GPU; it has the outputs that were asked for alone."""

    def __init__(self, path: Path) -> None:
        import tensorrt

        super().__init__(path, json.loads(_beside(path).read_text("utf-8")))
        self.has_logits = "logits" in self.metadata["outputs"]
        self.runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self.engine = self.runtime.deserialize_cuda_engine(path.read_bytes())
        self.context = self.engine.create_execution_context()

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """Run the engine, see `ExportedModel`."""
        held = {"image": torch.from_numpy(images).cuda()}
        self.context.set_input_shape("image", images.shape)
        for name in self.metadata["outputs"]:
            shape = tuple(self.context.get_tensor_shape(name))
            dtype = torch.uint8 if name == "mask" else torch.float32
            held[name] = torch.empty(shape, dtype=dtype, device="cuda")
        for name, tensor in held.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream()
        self.context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        result: NDArray[Any] = held[output].cpu().numpy()
        return result

    def __str__(self) -> str:
        import tensorrt

        name = torch.cuda.get_device_name()
        return f"TensorRT {tensorrt.__version__} on {name}, {self.precision}"


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
