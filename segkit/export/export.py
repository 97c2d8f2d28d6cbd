"""From a checkpoint to files that agree with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from segkit.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    restore_card,
    restore_config,
    restore_model,
    restore_statistics,
)
from segkit.data.dataset import Sample
from segkit.errors import UserError, unknown_name
from segkit.evaluation.images import spread
from segkit.evaluation.target import load_split
from segkit.export.deployed import DeployedModel, Output, explained
from segkit.export.formats import Format, Precision
from segkit.export.gate import (
    BOUNDS,
    JUMPING,
    Bounds,
    Parity,
    find_failures,
    measure_parity,
    megabytes,
)
from segkit.export.int8 import Images, calibration_images, rank_layers
from segkit.export.metadata import describe
from segkit.export.onnx_format import OnnxFormat
from segkit.export.openvino_format import OpenVinoFormat
from segkit.export.tensorrt_format import TensorRtFormat
from segkit.export.torch_formats import CompiledFormat, ProgramFormat, ScriptFormat
from segkit.export.workshop import workshop, writing
from segkit.hardware import Hardware
from segkit.hub import Source
from segkit.inference.backends.pytorch import TorchBackend
from segkit.model import SegmentationModel
from segkit.normalize import Normalize
from segkit.upsample import MaxUnpool

FORMATS: dict[str, Format] = {
    "onnx": OnnxFormat(),
    "openvino": OpenVinoFormat(),
    "torch": ProgramFormat(),
    "aotinductor": CompiledFormat(),
    "torchscript": ScriptFormat(),
    "tensorrt": TensorRtFormat(),
}
CPU = Hardware(torch.device("cpu"), "fp32", "to compare with")


@dataclass(frozen=True)
class Request:
    """What to export, and how far it may be from the checkpoint.

    Args:
        formats: names of `FORMATS`.
        precisions: of each format.
        outputs: of the files, in this order; the mask comes first if it is not named.
        images: number of images to compare on, spread evenly over the split; None: all.
        calibration: number of training images that int8 is calibrated on.
        bounds: to use instead of those of the precision, by the name of the field.
        force: keep a file that does not agree, and say so in its metadata.
    """

    formats: Sequence[str]
    precisions: Sequence[Precision] = ("fp32",)
    outputs: Sequence[Output] = ()
    images: int | None = None
    calibration: int = 300
    bounds: dict[str, float] | None = None
    force: bool = False


@dataclass(frozen=True)
class Exported:
    """A file, or what would have been one.

    Args:
        path: of the file; not there if the gate refused it.
        parity: what was measured.
        kept: names of the layers that int8 leaves in higher precision.
        is_there: whether the file was left behind.
    """

    format: str
    path: Path
    parity: Parity
    kept: tuple[str, ...]
    is_there: bool


class Exporter:
    """Exports a checkpoint, one file at a time.

    Args:
        checkpoint: see `Predictor.load`.
        out: folder of the files, which is there.
        request: what to export.
        split: to compare on; None: the validation split.
        data_root: where the data lies now.
        log: called with a line on what is done next.
        on_image: called after each image that is compared.

    Raises:
        UserError: an unknown format, a precision that it lacks, a missing package, or no data.
    """

    def __init__(
        self,
        checkpoint: Source,
        out: Path,
        request: Request,
        *,
        split: str | None = None,
        data_root: str | None = None,
        log: Callable[[str], None] = lambda line: None,
        on_image: Callable[[], None] = lambda: None,
    ) -> None:
        self.out, self.request, self.log, self.on_image = out, request, log, on_image
        self.tasks = list(_tasks(request))
        source = find_checkpoint(checkpoint)
        content = load_checkpoint(source)
        config, self.card = restore_config(content, source), restore_card(content, source)
        self.channels = config.model.in_channels
        statistics = restore_statistics(content, config)
        self.model: SegmentationModel = restore_model(content, source).eval()
        self.normalize = Normalize(statistics.mean, statistics.std)
        self.reference = TorchBackend(self.model, CPU, statistics.mean, statistics.std)
        self.metadata = describe(content, source, self._deployed(), self.model)
        self.dataset = load_split(content, source, split, data_root=data_root)
        self.calibration: Images = []
        if "int8" in request.precisions:
            train_split = config.data.train_split
            train_set = load_split(content, source, train_split, data_root=data_root)
            self.calibration = calibration_images(train_set, request.calibration)
            log(f"int8 is calibrated on {len(self.calibration)} images of '{train_split}'")

    def run(self) -> Iterator[Exported]:
        """Export and judge, and yield each file once it is there or refused."""
        for name, precision in self.tasks:
            self.log(f"exporting {name}, {precision}")
            with workshop(self.out) as folder:
                yield self._export(name, precision, folder)

    def _export(self, name: str, precision: Precision, folder: Path) -> Exported:
        form = FORMATS[name]
        suffix = "" if precision == "fp32" else f"_{precision}"
        draft = folder / f"model{suffix}{form.suffix}"
        export: dict[str, Any] = {"format": name, "precision": precision, "kept": []}
        metadata = {**self.metadata, "export": export}
        built = form.build(self._deployed(), self.channels, precision)
        bounds = replace(BOUNDS[precision], **(self.request.bounds or {}))
        ladder = self._kept_layers() if precision == "int8" else iter([()])
        for kept in ladder:
            export["kept"] = list(kept)
            made = form.quantize(built, self.calibration, kept) if precision == "int8" else built
            with writing(self.out):
                form.save(made, draft, json.dumps(metadata))
            parity = self._judge(form, draft, bounds)
            if not parity.failures:
                break
            self.log(f"{name}, {precision}: {'; '.join(parity.failures)}")
        is_there = not parity.failures or self.request.force
        target = self.out / draft.name
        if is_there:
            export["gate"] = parity.as_dict()
            with writing(self.out):
                form.save(made, draft, json.dumps(metadata))
                form.move(draft, target)
        return Exported(name, target, parity, tuple(kept), is_there)

    def _kept_layers(self) -> Iterator[Sequence[str]]:
        """Yield the layers to leave in higher precision: none, the most sensitive, 2, 4, ... ."""
        yield ()
        count = 1
        while count < len(self.ranking):
            yield self.ranking[:count]
            count *= 2

    @cached_property
    def ranking(self) -> list[str]:
        """Names of the layers, that which suffers most from int8 first."""
        self.log("ranking the layers by what int8 does to them")
        return rank_layers(self._deployed(), self.calibration)

    def _deployed(self) -> DeployedModel:
        """Return a copy of the model, which a format may change."""
        takes_bytes = self.card.image_max is None
        return DeployedModel(self.model, self.normalize, self.request.outputs, takes_bytes).eval()

    def _judge(self, form: Format, path: Path, bounds: Bounds) -> Parity:
        """Measure a file against the checkpoint."""
        there = len(self.dataset)
        chosen = spread(there, self.request.images or there)
        samples: Iterator[Sample] = (self.dataset[index] for index in chosen)
        jumps = any(isinstance(module, MaxUnpool) for module in self.model.modules())
        with explained(f"what {path.name} runs on cannot run it"):
            parity = measure_parity(
                self.reference,
                form.open(path),
                samples,
                self.card.class_names,
                self.on_image,
                JUMPING if jumps else 1.0,
            )
        return replace(
            parity, megabytes=megabytes(form, path), failures=find_failures(parity, bounds)
        )


def _tasks(request: Request) -> Iterator[tuple[str, Precision]]:
    """Yield formats and precisions; refuse what cannot be had before any work is done."""
    for name in request.formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        form = FORMATS[name]
        for precision in request.precisions:
            if precision not in form.precisions:
                raise UserError(
                    f"--to {name} has no precision {precision}; it has {', '.join(form.precisions)}"
                )
            form.check()
            yield name, precision
