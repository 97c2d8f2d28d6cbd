"""PyTorch's own formats: exported programs, compiled ones, and TorchScript."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from segkit.errors import UserError
from segkit.export.deployed import (
    DeployedModel,
    example_image,
    explained,
    quiet,
    to_program,
)
from segkit.export.formats import Format, Precision
from segkit.inference.backends.exported import ExportedModel
from segkit.inference.backends.pytorch import has_compiler

ENTRY = "segkit.json"  # the metadata, a file in the archive


class TorchModel(ExportedModel):
    """Functions of PyTorch that take a batch of images, by the name of their output."""

    def __init__(self, path: Path, metadata: dict[str, Any], functions: dict[str, Any]) -> None:
        super().__init__(path, metadata)
        self.functions = functions
        self.has_logits = "logits" in functions

    @torch.no_grad()
    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """Run the function, see `ExportedModel`."""
        result: NDArray[Any] = self.functions[output](torch.from_numpy(images)).numpy()
        return result

    def __str__(self) -> str:
        return f"torch {torch.__version__.partition('+')[0]}, {self.precision}"


class ProgramFormat(Format):
    """`torch.export`: a graph that runs and compiles without the code it was made of."""

    suffix = ".pt2"
    precisions = ("fp32", "half")

    def check(self) -> None:
        """Nothing is needed but torch."""

    def build(self, model: DeployedModel, channels: int, precision: Precision) -> Any:
        """Return a `torch.export.ExportedProgram`, see `Format`."""
        return to_program(_cast(model, precision), channels)

    def save(self, built: Any, path: Path, metadata: str) -> None:
        """Write the archive, see `Format`."""
        torch.export.save(built, path, extra_files={ENTRY: metadata})

    def open(self, path: Path) -> TorchModel:
        """Load it into this process, see `Format`."""
        held = {ENTRY: ""}
        program = torch.export.load(path, extra_files=held)
        metadata, run = json.loads(held[ENTRY]), program.module()
        functions = {name: _pick(run, place) for place, name in enumerate(metadata["outputs"])}
        return TorchModel(path, metadata, {"logits": _inner_logits(program), **functions})


class CompiledFormat(Format):
    """AOTInductor: the graph compiled to machine code, which runs without Python as well."""

    suffix = ".aot.pt2"
    precisions = ("fp32", "half")

    def check(self) -> None:
        """Ask for a compiler, see `Format`."""
        if not has_compiler():
            raise UserError("--to aotinductor needs a C++ compiler such as g++; install one")

    def build(self, model: DeployedModel, channels: int, precision: Precision) -> Any:
        """Return a temporary folder with the compiled package, see `Format`."""
        folder = tempfile.TemporaryDirectory()
        program = to_program(_cast(model, precision), channels)
        with explained("AOTInductor cannot compile this"):
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(Path(folder.name) / "model.pt2")
            )
        return folder

    def save(self, built: Any, path: Path, metadata: str) -> None:
        """Write the archive, see `Format`."""
        shutil.copy(Path(built.name) / "model.pt2", path)
        with zipfile.ZipFile(path, "a") as archive:
            top = archive.namelist()[0].partition("/")[0]
            archive.writestr(f"{top}/extra/{ENTRY}", metadata)

    def open(self, path: Path) -> TorchModel:
        """Load the compiled code, see `Format`; it has the outputs that were asked for alone."""
        with zipfile.ZipFile(path) as archive:
            [entry] = [name for name in archive.namelist() if name.endswith(f"/{ENTRY}")]
            metadata = json.loads(archive.read(entry))
        run = torch._inductor.aoti_load_package(str(path))
        functions = {name: _pick(run, place) for place, name in enumerate(metadata["outputs"])}
        return TorchModel(path, metadata, functions)


class ScriptFormat(Format):
    """TorchScript, for those who still need it: PyTorch itself calls it deprecated."""

    suffix = ".torchscript"
    precisions = ("fp32", "half")

    def check(self) -> None:
        """Nothing is needed but torch."""

    def build(self, model: DeployedModel, channels: int, precision: Precision) -> Any:
        """Return a `torch.jit.ScriptModule` by tracing, see `Format`."""
        model, image = _cast(model, precision), example_image(model, channels)
        with quiet(), torch.no_grad():
            return torch.jit.trace_module(model, {"forward": image, "logits": image})

    def save(self, built: Any, path: Path, metadata: str) -> None:
        """Write the archive, see `Format`."""
        with quiet():
            torch.jit.save(built, path, _extra_files={ENTRY: metadata})

    def open(self, path: Path) -> TorchModel:
        """Load it into this process, see `Format`; it has a method `logits` in any case."""
        held = {ENTRY: ""}
        with quiet():
            module = torch.jit.load(path, _extra_files=held)
        metadata = json.loads(held[ENTRY])
        functions = {name: _pick(module, place) for place, name in enumerate(metadata["outputs"])}
        return TorchModel(path, metadata, {**functions, "logits": module.logits})


def _cast(model: DeployedModel, precision: Precision) -> DeployedModel:
    """Let the network compute in half precision; the images are normalised in fp32."""
    if precision == "half":
        model.encoder.bfloat16()
        model.decoder.bfloat16()
    return model


def _pick(function: Callable[[Tensor], Sequence[Tensor]], place: int) -> Callable[[Tensor], Tensor]:
    """Return a function that returns one of another's results."""
    return lambda images: function(images)[place]


def _inner_logits(program: ExportedProgram) -> Callable[[Tensor], Tensor]:
    """Return a function that runs a program as far as the logits, which argmax reads."""
    module: Any = program.module()
    graph = module.graph
    [output] = [node for node in graph.nodes if node.op == "output"]
    *_, argmax = [n for n in graph.nodes if n.target is torch.ops.aten.argmax.default]
    output.args = ((argmax.args[0],),)
    graph.eliminate_dead_code()
    module.recompile()
    return lambda images: module(images)[0]
