"""What may stand in an experiment's YAML file, with types, bounds and defaults.

The keys of encoders, decoders, losses, optimisers and schedules are those of their constructors,
see `segkit.config.parts`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from segkit.config.parts import NUMBERS, WORD, Part, Section, Transform, word_or_numbers

AutoOrNumbers = Annotated[
    Annotated[Literal["auto"], Tag(WORD)] | Annotated[tuple[float, ...], Tag(NUMBERS)],
    Discriminator(word_or_numbers),
]


class ModelConfig(Section):
    """`model`: what determines the network, next to the number of classes."""

    in_channels: int = Field(3, ge=1)
    encoder: Annotated[Any, Part("encoder")]
    decoder: Annotated[Any, Part("decoder")]


class DataConfig(Section):
    """`data`: which images, and what happens to them on the way to the network."""

    card: str  # path of a dataset card
    root: str | None = None  # where the data lies; null: where the card says
    train_split: str = "train"  # of the card
    val_split: str = "val"
    # per channel, of images scaled to 0 ... 1; auto: of the training split
    mean: AutoOrNumbers = (0.485, 0.456, 0.406)
    std: AutoOrNumbers = (0.229, 0.224, 0.225)
    train_transforms: tuple[Transform, ...] = ()  # albumentations, in order
    eval_transforms: tuple[Transform, ...] = ()
    repeat: int = Field(1, ge=1)  # how often an epoch takes each image, e.g. for small crops
    batch_size: int = Field(8, ge=1)
    workers: int = Field(2, ge=0)  # processes that load and augment
    cache: Literal["none", "ram"] = "none"  # ram: decode each file once, into shared memory


class TrainConfig(Section):
    """`train`: the recipe."""

    epochs: int = Field(ge=1)
    init_from: str | None = None  # a run folder or checkpoint whose weights to start from
    accumulate: int = Field(1, ge=1)  # batches in an optimiser step
    clip_norm: float | None = Field(None, gt=0)  # of the gradient of all weights together
    ema: float = Field(0.0, ge=0, lt=1)  # decay of a running average, which is evaluated and kept
    freeze_encoder_epochs: int = Field(0, ge=0)  # train the decoder alone so long
    freeze_norm: bool = False  # the encoder's batch norms keep their statistics
    validate_every: int = Field(1, ge=1)  # epochs; after the last one in any case
    patience: int | None = Field(None, ge=1)  # epochs without a better mIoU before stopping
    skip_nonfinite: int = Field(0, ge=0)  # steps in a row whose loss or gradient is not finite
    loss: Annotated[Any, Part("loss", default="cross_entropy")] = Field(
        {"name": "cross_entropy"}, validate_default=True
    )
    optimizer: Annotated[Any, Part("optimizer")]
    schedule: Annotated[Any, Part("schedule")] = Field({"name": "constant"}, validate_default=True)
    samples: int = Field(4, ge=0)  # validation images drawn as overlays now and then
    tensorboard: bool = False  # also write the history for TensorBoard


class Every(Section):
    """`checkpoint.every`: either key."""

    epochs: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)  # of training; also in the middle of an epoch

    @model_validator(mode="after")
    def _either(self) -> Every:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("checkpoint.every takes either epochs or minutes, e.g. {epochs: 1}")
        return self


class CheckpointConfig(Section):
    """`checkpoint`: when what a run would resume from is written."""

    every: Every = Every(epochs=1)


class Config(Section):
    """A whole experiment."""

    run_dir: str = Field(min_length=1)  # default: runs/<name of the file>
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # of convolutions; loss is fp32
    compile: bool = False  # by torch.compile, which takes its time at the start
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    checkpoint: CheckpointConfig = CheckpointConfig()
