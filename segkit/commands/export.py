"""Export a checkpoint to files for other runtimes.

segkit export runs/unet_vgg16 --to onnx openvino --out exported
segkit export runs/unet_vgg16 --to openvino --precision int8 --out exported
segkit export runs/unet_vgg16 --to onnx --output probabilities --out exported

The files take images (N, H, W, C) of bytes, of any size, and return classes (N, H, W);
normalisation, padding and argmax are inside. Each is run on its own runtime on images of the
validation split. One that does not agree with the checkpoint is not left behind, and the exit code
is 1 then.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.commands.options import CHECKPOINT, add_data_root, checkpoint, positive
from segkit.console import progress_bar
from segkit.files import check_folder, write_file

if TYPE_CHECKING:
    from segkit.export.export import Exported

FORMATS = ("onnx", "openvino", "torch", "aotinductor", "torchscript", "tensorrt")
# the fields of `segkit.export.gate.Bounds`, how many of a unit are one, and what they bound
BOUNDS = {
    "miou": (100, "POINTS", "largest difference of mIoU (default: fp32 0.1, half 0.2, int8 0.5)"),
    "class_iou": (100, "POINTS", "largest difference of the IoU of a class (default: 2)"),
    "logits": (1, "SHARE", "largest difference of a logit, of the largest (default: fp32 0.001)"),
    "pixels": (100, "PERCENT", "least share of pixels of the same class (default: fp32 99.99)"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", type=checkpoint, help=CHECKPOINT)
    parser.add_argument(
        "--to",
        nargs="+",
        required=True,
        choices=FORMATS,
        metavar="FORMAT",
        help=f"one or more of {', '.join(FORMATS)}",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the files")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=["fp32", "half", "int8"],
        default=["fp32"],
        help="half: bf16 on CPUs, fp16 on GPUs; int8: with onnx and openvino",
    )
    parser.add_argument(
        "--output",
        nargs="+",
        choices=["mask", "logits", "probabilities"],
        default=[],
        help="what the files return, in this order; the mask comes first if it is not named",
    )
    parser.add_argument(
        "--calibrate",
        type=positive,
        default=300,
        metavar="N",
        help="training images that int8 is calibrated on (default: 300)",
    )
    parser.add_argument("--split", help="to compare on (default: the validation split)")
    parser.add_argument(
        "--images", type=positive, metavar="N", help="to compare on (default: the whole split)"
    )
    for name, (_, unit, what) in BOUNDS.items():
        parser.add_argument(
            f"--bound-{name.replace('_', '-')}", type=float, metavar=unit, help=what
        )
    parser.add_argument(
        "--force", action="store_true", help="keep files that do not agree; their metadata says so"
    )
    add_data_root(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export to each format; return 1 if a file was refused."""
    # these take seconds to import
    from segkit.export.export import Exporter, Request
    from segkit.export.gate import HEADER, table_row
    from segkit.tables import make_table, wide_console

    check_folder(arguments.out)
    console = wide_console()
    given = {name: getattr(arguments, f"bound_{name}") for name in BOUNDS}
    bounds = {name: value / BOUNDS[name][0] for name, value in given.items() if value is not None}
    request = Request(
        arguments.to,
        arguments.precision,
        arguments.output,
        arguments.images,
        arguments.calibrate,
        bounds=bounds,
        force=arguments.force,
    )
    with progress_bar(console) as progress:
        task = progress.add_task("comparing", total=None)
        exporter = Exporter(
            arguments.checkpoint,
            arguments.out,
            request,
            split=arguments.split,
            data_root=arguments.data_root,
            log=console.print,
            on_image=lambda: progress.advance(task),
        )
        found = list(exporter.run())
    console.print(make_table("", HEADER, [table_row(each.format, each.parity) for each in found]))
    for each in found:
        console.print(*_verdict(each), sep="\n")
    report = arguments.out / "export.json"
    write_file(report, json.dumps([_as_dict(each) for each in found], indent=2) + "\n")
    console.print(f"written: {report}")
    return 1 if any(each.parity.failures for each in found) else 0


def _verdict(each: Exported) -> list[str]:
    """Say what became of a file."""
    failures = "; ".join(each.parity.failures)
    if not each.is_there:
        return [f"refused: {each.path}: {failures}; --force keeps it"]
    lines = [
        f"written in spite of it: {each.path}: {failures}" if failures else f"written: {each.path}"
    ]
    if each.kept:
        lines += [f"{len(each.kept)} layers are in higher precision: {', '.join(each.kept)}"]
    return lines


def _as_dict(each: Exported) -> dict[str, Any]:
    return {
        "format": each.format,
        "file": each.path.name if each.is_there else None,
        "kept": list(each.kept),
        **each.parity.as_dict(),
    }
