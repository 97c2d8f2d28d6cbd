"""Data sets: cards that describe them, labels, samples, augmentation, loading."""

from segkit.data.card import Card, load_card
from segkit.data.dataset import SegmentationDataset, build_dataset
from segkit.data.loader import Batch, batches, make_loader

__all__ = [
    "Batch",
    "Card",
    "SegmentationDataset",
    "batches",
    "build_dataset",
    "load_card",
    "make_loader",
]
