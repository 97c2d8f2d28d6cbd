"""Does an exported file agree with the checkpoint on real images?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit.data.dataset import Sample
from segkit.evaluation.images import count
from segkit.evaluation.scores import scores_of
from segkit.export.formats import Format, Precision
from segkit.inference import Prediction
from segkit.inference.backends.exported import ExportedModel
from segkit.inference.backends.pytorch import TorchBackend


@dataclass(frozen=True)
class Bounds:
    """How far a file may be from the checkpoint.

    Args:
        miou: largest difference of the mIoU, as a share of one.
        class_iou: largest difference of the IoU of a class.
        logits: largest difference of a logit, as a share of the largest logit; None: any.
        pixels: smallest share of pixels whose class is the same; None: any.
    """

    miou: float
    class_iou: float = 0.02
    logits: float | None = None
    pixels: float | None = None


BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(0.001, logits=1e-3, pixels=0.9999),
    "half": Bounds(0.002),
    "int8": Bounds(0.005),
}


# The last bit decides which of two nearly equal values a max pool keeps, and so where max-unpooling
# puts it: torch's own fp32 differs from float64 at 0.9 % of the pixels of a trained SegNet.
JUMPING = 0.99


@dataclass(frozen=True)
class Parity:
    """How a file compares with the checkpoint in torch and fp32, on the same images.

    Args:
        runtime: that the file ran on.
        megabytes: size of the file.
        milliseconds: median for the classes of an image.
        torch_milliseconds: the same in torch, measured in turns.
        miou: of the file, share of one.
        torch_miou: of the checkpoint on the same images.
        worst_class: that with the largest difference of IoU.
        class_difference: that difference, as a share of one, below zero where the file is worse.
        logit_difference: the largest, as a share of the largest logit, over the `logit_share` of
            an image's pixels that differ least; None where the file does not return logits.
        equal_pixels: share of pixels of the same class.
        images: number of images.
        logit_share: 1, but less after max-unpooling, see `JUMPING`.
        failures: the bounds that do not hold, in words.
    """

    runtime: str
    precision: str
    megabytes: float
    milliseconds: float
    torch_milliseconds: float
    miou: float
    torch_miou: float
    worst_class: str
    class_difference: float
    logit_difference: float | None
    equal_pixels: float
    images: int
    logit_share: float = 1.0
    failures: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "failures": list(self.failures)}


def measure_parity(
    reference: TorchBackend,
    candidate: ExportedModel,
    samples: Iterable[Sample],
    class_names: Sequence[str],
    on_image: Callable[[], None] = lambda: None,
    logit_share: float = 1.0,
) -> Parity:
    """Run both on the same images, in turns.

    Args:
        reference: the checkpoint, in fp32.
        candidate: the file on its runtime.
        samples: images with their targets, as an evaluation reads them.
        class_names: of the model.
        on_image: called after each image.
        logit_share: see `Parity`.
    """
    matrices: dict[str, list[Tensor]] = {"torch": [], "file": []}
    times: dict[str, list[float]] = {"torch": [], "file": []}
    furthest, largest, equal, pixels = 0.0, 0.0, 0, 0
    for image, target, name in samples:
        batch = image[None]
        images = batch.permute(0, 2, 3, 1).contiguous().numpy()
        start = time.perf_counter()
        logits = reference.logits(batch).cpu()
        expected = logits.argmax(1).to(torch.uint8)
        middle = time.perf_counter()
        mask = torch.from_numpy(candidate.run(images, "mask"))
        times["torch"].append(middle - start)
        times["file"].append(time.perf_counter() - middle)
        equal, pixels = equal + int((mask == expected).sum()), pixels + mask.numel()
        if candidate.has_logits:
            errors = (candidate.logits(batch) - logits).abs().amax(1).flatten()
            nearest = errors.sort().values[: math.ceil(logit_share * len(errors))]
            difference = float(nearest[-1] + 0 * errors.sum())  # nan if any is
            furthest = float(np.maximum(furthest, difference))  # unlike max, it keeps a nan
            largest = max(largest, float(logits.abs().max()))
        for key, masks in (("torch", expected), ("file", mask)):
            counts = count(name, Prediction(masks[0]), target, len(class_names))
            matrices[key].append(counts.matrix[:-1].long())
        on_image()
    torch_scores, scores = (scores_of(torch.stack(each).sum(0)) for each in matrices.values())
    differences = np.nan_to_num(np.array(scores.iou) - np.array(torch_scores.iou))
    worst = int(np.abs(differences).argmax())
    return Parity(
        str(candidate),
        candidate.precision,
        0.0,
        1000 * median(times["file"]),
        1000 * median(times["torch"]),
        scores.miou,
        torch_scores.miou,
        class_names[worst],
        float(differences[worst]),
        furthest / largest if largest else None,
        equal / pixels,
        len(times["file"]),
        logit_share,
    )


def find_failures(parity: Parity, bounds: Bounds) -> tuple[str, ...]:
    """List the bounds that do not hold, in words."""
    failures = []
    miou = 100 * abs(parity.miou - parity.torch_miou)
    if not miou <= 100 * bounds.miou:  # nan fails
        failures.append(f"mIoU differs by {miou:.2f} points, more than {100 * bounds.miou:g}")
    class_iou = 100 * abs(parity.class_difference)
    if not class_iou <= 100 * bounds.class_iou:
        failures.append(
            f"the IoU of '{parity.worst_class}' differs by {class_iou:.2f} points, more than "
            f"{100 * bounds.class_iou:g}"
        )
    furthest = parity.logit_difference
    if bounds.logits is not None and furthest is not None and not furthest <= bounds.logits:
        failures.append(
            f"a logit differs by {furthest:.1e} of the largest, more than {bounds.logits:g}"
        )
    if bounds.pixels is not None and not parity.equal_pixels >= bounds.pixels:
        failures.append(
            f"{parity.equal_pixels:.3%} of the pixels are equal, less than {bounds.pixels:.2%}"
        )
    return tuple(failures)


def megabytes(form: Format, path: Path) -> float:
    """Return the size of a model on the disk."""
    return sum(file.stat().st_size for file in form.files(path)) / 1e6


HEADER = (
    *("format", "precision", "MB", "ms an image", "torch ms", "mIoU %", "torch mIoU %"),
    *("class difference", "logit difference", "equal pixels"),
)


def table_row(name: str, parity: Parity) -> list[str]:
    """Write a row of the table, see `HEADER`."""
    furthest = parity.logit_difference
    return [
        name,
        parity.precision,
        f"{parity.megabytes:.1f}",
        f"{parity.milliseconds:.1f}",
        f"{parity.torch_milliseconds:.1f}",
        f"{100 * parity.miou:.2f}",
        f"{100 * parity.torch_miou:.2f}",
        f"{100 * parity.class_difference:+.2f} {parity.worst_class}",
        "-" if furthest is None else f"{furthest:.0e}",
        f"{parity.equal_pixels:.3%}",
    ]
