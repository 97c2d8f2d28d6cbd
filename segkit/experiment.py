"""An experiment: model, loss, data, recipe and hardware, built once and passed on whole.

experiment = Experiment.from_config(load_config("configs/unet_vgg16.yaml"))
experiment = Experiment(model, train_set, val_set, loss=my_loss,
                        optimizer={"name": "adamw", "lr": 3e-4}, epochs=3)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from segkit.checkpoint import borrow_weights, find_checkpoint, resolved_settings
from segkit.config import Config, TrainConfig
from segkit.config.load import validate
from segkit.consistency import code_facts, settings_facts, split_facts
from segkit.data.card import Card, load_card
from segkit.data.dataset import SegmentationDataset, as_sample, build_dataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.data.reader import SampleReader, warn_of_overlap
from segkit.data.statistics import Statistics, compute_statistics, count_classes
from segkit.distributed import SINGLE, Processes
from segkit.errors import UserError
from segkit.hardware import Hardware, choose_hardware
from segkit.invocation import again
from segkit.labels import Classes
from segkit.losses import Loss, MeanLoss, as_loss
from segkit.model import build_model, eval_mode, logits_of
from segkit.normalize import IMAGENET_MEAN, IMAGENET_STD, make_normalize
from segkit.registry import find

OVERFIT_STEPS, OVERFIT_GOAL = 25, 0.95  # steps in an epoch, and the mIoU that ends it
LossLike = str | Mapping[str, Any] | Callable[[Tensor, Tensor], Tensor]


class Experiment:
    """Everything that a run is.

    Args:
        model: any module from images `(N, C, H, W)` to logits `(N, num_classes, H, W)`. Without an
            attribute `encoder` there is one learning rate, and nothing to freeze.
        train_set: any dataset of `(image, mask)`, see `segkit.data.dataset.as_sample`.
        val_set: the same, for the validation after each epoch; None: there is none.
        loss: the name of a loss, a mapping of its name and options, a `Loss`, or any function from
            logits and target to a scalar mean.
        classes: their names and colours, their names alone, or None to count the model's logits.
        mean: per channel, of images scaled to 0 ... 1. Without it, floats are taken as normalised,
            and bytes are normalised as for ImageNet (0.5 for other channels than three).
        std: the same.
        hardware: None takes the best there is.
        processes: those that share the run.
        batch_size: images in a batch of one process.
        workers: processes that load and augment.
        seed: of the order of the images and of all random numbers.
        compile: compile the model by `torch.compile`.
        train: the keys of `train` in YAML, such as `epochs`, `optimizer`, `schedule` or `ema`.

    Raises:
        UserError: an unknown key or part, or an unfit value.
    """

    def __init__(
        self,
        model: nn.Module,
        train_set: Dataset[Any],
        val_set: Dataset[Any] | None = None,
        *,
        loss: LossLike = "cross_entropy",
        classes: Classes | Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        hardware: Hardware | None = None,
        processes: Processes = SINGLE,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        compile: bool = False,
        **train: Any,
    ) -> None:
        if isinstance(loss, (str, Mapping)):
            train["loss"] = loss
        self.train = validate(TrainConfig, train, {}, "Experiment")
        if val_set is None and self.train.patience:
            raise UserError("patience watches the validation; give a val_set, or leave it out")
        self.hardware = hardware or choose_hardware()
        self.processes = processes
        self.model = model
        self.train_set = train_set
        self.val_set = val_set
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.compile = compile
        if isinstance(loss, (str, Mapping)):
            loss = build_loss(self.train.loss.model_dump())
        self.loss = as_loss(loss).to(self.hardware.device)
        if mean is None and std is None:
            mean, std = _of_bytes(as_sample(train_set[0], 0).image)
        self.mean, self.std = mean, std
        self.normalize = make_normalize(mean, std, self.hardware.device)
        if not isinstance(classes, Classes):
            known = Classes.named(classes) if classes else None
            classes = known or Classes.numbered(self._count_logits())
        self.classes = classes
        self.goal = math.inf  # the mIoU that ends the run early
        self.notes: list[str] = []  # for the log
        # where it was built from a config
        self.config: Config | None = None
        self.card: Card | None = None
        self.statistics: Statistics | None = None

    @classmethod
    def from_config(
        cls,
        config: Config,
        hardware: Hardware | None = None,
        processes: Processes = SINGLE,
        *,
        load_weights: bool = True,
        overfit: int | None = None,
    ) -> Experiment:
        """Build an experiment from its config, which is kept as it is.

        Args:
            config: the experiment.
            hardware: None chooses by `config.precision`.
            processes: those that share the run.
            load_weights: False leaves pretrained weights alone, for a checkpoint that follows.
            overfit: train and validate on so many samples of the training set, augmented once and
                for all, until they are learnt by heart.
        """
        hardware = hardware or choose_hardware("auto", config.precision)
        card = load_card(config.data.card, config.data.root)
        processes.require_equal(lambda: code_facts() | settings_facts(config, card))
        train, val, statistics = _read_data(config, card, processes)
        processes.require_equal(lambda: split_facts(train) | split_facts(val))
        augmented = build_dataset(config, train, True, statistics.mean)
        train_set: Dataset[Any] = augmented
        val_set: Dataset[Any] = build_dataset(config, val, False, statistics.mean)
        if overfit:
            train_set, val_set = _fixed_samples(augmented, overfit, config.data.batch_size)
        torch.manual_seed(config.seed)
        model = build_model(config.model, card.num_classes, load_weights)
        notes = [] if overfit else warn_of_overlap(train, val)
        if load_weights and config.train.init_from:
            source = find_checkpoint(config.train.init_from)
            notes.append(f"started  from {borrow_weights(model, source)}")
        experiment = cls(
            model,
            train_set,
            val_set,
            loss=build_loss(config.train.loss.model_dump(), statistics.class_weights),
            classes=card.legend,
            mean=statistics.mean,
            std=statistics.std,
            hardware=hardware,
            processes=processes,
            batch_size=config.data.batch_size,
            workers=config.data.workers,
            seed=config.seed,
            compile=config.compile,
            **{key: value for key, value in config.train if key != "loss"},
        )
        experiment.train = config.train
        experiment.config, experiment.card, experiment.statistics = config, card, statistics
        experiment.goal = OVERFIT_GOAL if overfit else math.inf
        experiment.notes = notes
        return experiment

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes.names)

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the outcome of a run, as plain values, with the computed numbers."""
        if self.config is not None and self.statistics is not None:
            return resolved_settings(self.config, self.statistics)
        train = self.train.model_dump()
        if isinstance(self.loss, MeanLoss):
            function = self.loss.function
            train["loss"] = getattr(function, "__qualname__", type(function).__name__)
        return {"seed": self.seed, "data": {"batch_size": self.batch_size}, "train": train}

    def train_loader(self, workers: int | None = None) -> Loader:
        """Build the loader of the training set; its `sampler` knows the steps of an epoch."""
        loader = self._loader(self.train_set, self.train.accumulate, shuffle=True, workers=workers)
        length, step_size = len(self.train_set), loader.sampler.step_size  # type: ignore[arg-type]
        if length < step_size:
            name = f"'{self.config.data.train_split}'" if self.config else "the training set"
            raise UserError(
                f"{name} has {length} images, but a step takes {step_size}: "
                f"data.batch_size={self.batch_size} x train.accumulate={self.train.accumulate} x "
                f"{self.processes.count} processes; lower one of them"
            )
        return loader

    def val_loader(self) -> Loader | None:
        """Build the loader of the validation set, in its order; None without one."""
        return None if self.val_set is None else self._loader(self.val_set, 1, shuffle=False)

    def _loader(
        self, dataset: Dataset[Any], accumulate: int, shuffle: bool, workers: int | None = None
    ) -> Loader:
        sampler = EpochBatches(
            len(dataset),  # type: ignore[arg-type]
            self.batch_size,
            seed=self.seed,
            shuffle=shuffle,
            rank=self.processes.rank,
            count=self.processes.count,
            accumulate=accumulate,
        )
        on_cuda = self.hardware.device.type == "cuda"
        workers = self.workers if workers is None else workers
        return Loader(dataset, sampler, workers, pin_memory=on_cuda)

    @torch.no_grad()
    def _count_logits(self) -> int:
        """Run the model on one image to see how many classes it has."""
        image = as_sample(self.train_set[0], 0).image[None].to(self.hardware.device)
        pixels = image.float() if self.normalize is None else self.normalize(image)
        parameter = next(self.model.parameters(), torch.zeros(0))
        with eval_mode(self.model):
            logits = logits_of(self.model(pixels.to(parameter.device)))
        return int(logits.shape[1])


def _of_bytes(image: Tensor) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Return the mean and std for images of bytes, and none for those that come normalised."""
    if image.is_floating_point():
        return None, None
    channels = len(image)
    return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels,) * 2


def build_loss(options: Mapping[str, Any], class_weights: Sequence[float] | None = None) -> Loss:
    """Build a loss from the options of `train.loss`, on the CPU.

    Args:
        options: its `name`, and its own.
        class_weights: the numbers where the options name a rule to compute them by.
    """
    own = dict(options)
    name = own.pop("name")
    rule = own.get("class_weights")
    if isinstance(rule, str):
        if rule != "none" and class_weights is None:
            raise UserError(
                f"class_weights is {rule}, which is computed from a data set with a card; give one "
                "number a class"
            )
        own["class_weights"] = class_weights
    return as_loss(find("loss", name)(**own))


def _fixed_samples(
    dataset: SegmentationDataset, count: int, batch_size: int
) -> tuple[Dataset[Any], Dataset[Any]]:
    """Return the first samples of a dataset to learn by heart, an epoch's worth and once each."""
    if count > len(dataset):
        raise UserError(f"'{dataset.split}' has {len(dataset)} images, not {count}")
    repeats = -(-OVERFIT_STEPS * batch_size // count)
    return Subset(dataset, [*range(count)] * repeats), Subset(dataset, range(count))


def _read_data(
    config: Config, card: Card, processes: Processes
) -> tuple[SampleReader, SampleReader, Statistics]:
    """Pair the files, read every mask and compute the statistics; others use the cache."""

    def read() -> tuple[SampleReader, SampleReader, Statistics]:
        channels = config.model.in_channels
        splits = (config.data.train_split, config.data.val_split)
        train, val = (SampleReader(card, split, channels, config.data.cache) for split in splits)
        try:
            count_classes(train)
            count_classes(val)
        except UserError as error:
            root = ["--data-root", config.data.root] if config.data.root else []
            command = again("check-data", config.data.card, *root)
            raise UserError(f"{error}\nall there is to say: {command}") from error
        return train, val, compute_statistics(config, train)

    return processes.main_first(read)
