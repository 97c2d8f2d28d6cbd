"""What is judged: a checkpoint, on a split of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.config import Config
from segkit.data import Card, SegmentationDataset, build_dataset, load_card
from segkit.errors import UserError
from segkit.hardware import DeviceName
from segkit.inference import Predictor


@dataclass(frozen=True)
class Subject:
    """A model and the images to judge it on.

    Args:
        predictor: made from the checkpoint.
        config: it was trained with.
        dataset: the split, as evaluation sees it.
    """

    predictor: Predictor
    config: Config
    dataset: SegmentationDataset

    @property
    def title(self) -> str:
        """Name the data."""
        return f"{self.dataset.card.name} {self.dataset.split}"


def load_subject(
    checkpoint: Path,
    split: str | None = None,
    device: DeviceName = "auto",
    *,
    card: Path | None = None,
    data_root: str | None = None,
    **inference: Any,
) -> Subject:
    """Load a checkpoint and find its data.

    Args:
        checkpoint: a file, or a run folder for its best one.
        split: of the data set; None: the one that training validated on.
        device: auto takes CUDA where there is one.
        card: of another data set with the same classes.
        data_root: where the data lies now.
        inference: options of `Predictor.load`.

    Raises:
        UserError: no checkpoint, no data, no images, or a data set with other classes.
    """
    predictor = Predictor.load(checkpoint, device, **inference)
    config, trained = predictor.config, predictor.card
    assert config is not None
    assert trained is not None
    used = load_card(card) if card else trained
    check_same_classes(used, trained, f"{card}", predictor.origin)
    if data_root:
        used = used.model_copy(update={"root": str(Path(data_root).resolve())})
    dataset = build_dataset(config, used, split or config.data.val_split, augment=False)
    return Subject(predictor, config, dataset)


def check_same_classes(card: Card, other: Card, name: str, other_name: str) -> None:
    """Refuse to compare what has different classes.

    Raises:
        UserError: with both lists.
    """
    if card.class_names != other.class_names:
        raise UserError(
            f"the classes differ: {name} has {', '.join(card.class_names)}; {other_name} has "
            f"{', '.join(other.class_names)}; judge a model on the classes it was trained on"
        )
