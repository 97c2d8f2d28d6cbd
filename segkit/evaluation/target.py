"""A checkpoint on a split of a data set, and its evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.checkpoint import (
    find_checkpoint,
    restore_card,
    restore_config,
    restore_statistics,
    weights_checksum,
)
from segkit.config import Config
from segkit.consistency import code_facts, split_facts
from segkit.data.card import Card, load_card
from segkit.data.dataset import SegmentationDataset, build_dataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.data.reader import SampleReader
from segkit.distributed import SINGLE, Processes
from segkit.errors import UserError
from segkit.evaluation.images import Evaluation, evaluate_images
from segkit.hardware import DeviceName
from segkit.hub import Source
from segkit.inference import Predictor
from segkit.inference.backends.files import load_content


@dataclass(frozen=True)
class EvaluationTarget:
    """A model and the images to evaluate it on."""

    predictor: Predictor  # made from the checkpoint
    config: Config  # it was trained with
    dataset: SegmentationDataset  # the split, transformed for evaluation
    content: dict[str, Any]  # all that the checkpoint holds

    @property
    def card(self) -> Card:
        """The card of the data set."""
        return self.dataset.card

    @property
    def foreground(self) -> str | None:
        """The foreground that the card names, else that of the model's training."""
        trained = self.predictor.classes
        return self.card.foreground or (trained.foreground if trained else None)

    @property
    def title(self) -> str:
        """The name of data set and split."""
        return f"{self.dataset.card.name} {self.dataset.split}"


def load_target(
    checkpoint: Source,
    split: str | None = None,
    device: DeviceName = "auto",
    *,
    card: Path | None = None,
    data_root: str | None = None,
    **inference: Any,
) -> EvaluationTarget:
    """Load a checkpoint and find its data.

    Args:
        checkpoint: see `Predictor.load`.
        split: of the data set; None: the validation split of the training.
        device: auto takes CUDA where there is one.
        card: of another data set with the same classes.
        data_root: where the data lies now; the built-in set is drawn there if need be, but never
            where the checkpoint says.
        inference: options of `Predictor`.
    """
    source = find_checkpoint(checkpoint)
    content = load_content(source)
    predictor = Predictor.restore(content, source, device, **inference)
    dataset = load_split(content, source, split, card=card, data_root=data_root)
    return EvaluationTarget(predictor, restore_config(content, source), dataset, content)


def load_split(
    content: dict[str, Any],
    source: Source,
    split: str | None = None,
    *,
    card: Path | None = None,
    data_root: str | None = None,
) -> SegmentationDataset:
    """Find the images that a checkpoint is evaluated on, see `load_target`."""
    config = restore_config(content, source)
    used = trained = restore_card(content, source)
    if not data_root:
        used = used.model_copy(update={"builtin": None})  # a file must not say where to draw
    if card:
        used = load_card(card)
        check_same_classes(used, trained, f"{card}", f"{source}, epoch {content['epoch']}")
    if data_root:
        used = used.model_copy(update={"root": os.path.realpath(data_root)})
    reader = SampleReader(
        used, split or config.data.val_split, config.model.in_channels, config.data.cache
    )
    mean = restore_statistics(content, config).mean
    return build_dataset(config, reader, False, mean)


def evaluate_target(
    target: EvaluationTarget,
    on_image: Callable[[], None] = lambda: None,
    processes: Processes = SINGLE,
) -> Evaluation:
    """Evaluate a model on its images, loaded as in the training, with all counts."""
    data, dataset = target.config.data, target.dataset
    processes.require_equal(
        lambda: code_facts() | split_facts(dataset.reader) | _model_facts(target.content)
    )
    rank, count = processes.rank, processes.count
    batches = EpochBatches(len(dataset), data.batch_size, shuffle=False, rank=rank, count=count)
    return evaluate_images(
        target.predictor,
        Loader(dataset, batches, data.workers),
        target.card.num_classes,
        on_image,
        processes,
        boundaries=True,
        calibration=True,
    )


def _model_facts(content: dict[str, Any]) -> dict[str, Any]:
    """Return what tells a model, a checkpoint's or an exported one, from others."""
    if "model" in content:
        return {"the weights": weights_checksum(content["model"])}
    return {"the exported model": (content.get("checkpoint"), content.get("export"))}


def check_same_classes(card: Card, other: Card, name: str, other_name: str) -> None:
    """Refuse to compare data sets of different classes."""
    if card.class_names != other.class_names:
        raise UserError(
            f"the classes differ: {name} has {', '.join(card.class_names)}; {other_name} has "
            f"{', '.join(other.class_names)}; evaluate a model on the classes it was trained on"
        )
