"""What may stand in an experiment's YAML file, with types, bounds and defaults.

The keys of encoders, decoders, losses, optimisers and schedules are those of their constructors,
see `segkit.config.parts`. The docstring of each field is what `segkit config` prints beside it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from segkit.config.parts import (
    NUMBERS,
    WORD,
    Part,
    PathText,
    Section,
    Transform,
    word_or_numbers,
)

MANY = 1_000_000
AutoOrNumbers = Annotated[
    Annotated[Literal["auto"], Tag(WORD)] | Annotated[tuple[float, ...], Tag(NUMBERS)],
    Discriminator(word_or_numbers),
]


class ModelConfig(Section):
    """`model`: what determines the network, next to the number of classes."""

    in_channels: int = Field(3, ge=1, le=65536)
    """channels of the images"""
    encoder: Annotated[Any, Part("encoder")]
    """the backbone, by name, with its options"""
    decoder: Annotated[Any, Part("decoder")]
    """what turns the encoder's maps into logits, by name, with its options"""


class DataConfig(Section):
    """`data`: which images, and what happens to them on the way to the network."""

    card: PathText
    """path of a dataset card, or the name of a shipped one"""
    root: PathText | None = None
    """where the data lies; null: where the card says"""
    train_split: str = "train"
    """a split of the card"""
    val_split: str = "val"
    """the split that is scored after an epoch"""
    mean: AutoOrNumbers = (0.485, 0.456, 0.406)
    """per channel, of images scaled to 0 ... 1; auto: of the training split"""
    std: AutoOrNumbers = (0.229, 0.224, 0.225)
    """the same"""
    train_transforms: tuple[Transform, ...] = ()
    """albumentations by name, in order"""
    eval_transforms: tuple[Transform, ...] = ()
    """the same for scoring and prediction, which otherwise see whole images"""
    repeat: int = Field(1, ge=1, le=MANY)
    """how often an epoch takes each image, e.g. for small crops of large images"""
    batch_size: int = Field(8, ge=1, le=MANY)
    """images in a batch of one process"""
    workers: int = Field(2, ge=0, le=1024)
    """processes that load and augment"""
    cache: Literal["none", "ram"] = "none"
    """ram: decode each file once, into memory that the workers share"""


class TrainConfig(Section):
    """`train`: the recipe."""

    epochs: int = Field(ge=1, le=MANY)
    """how often training sees every image"""
    init_from: PathText | None = None
    """a run folder, a checkpoint or hf://user/model whose weights to start from"""
    accumulate: int = Field(1, ge=1, le=MANY)
    """batches in an optimiser step"""
    clip_norm: float | None = Field(None, gt=0)
    """the largest norm of the gradient of all weights together; null: any"""
    ema: float = Field(0.0, ge=0, lt=1)
    """decay of a running average of the weights, which is scored and kept; 0: none"""
    freeze_encoder_epochs: int = Field(0, ge=0)
    """first epochs that train the decoder alone"""
    freeze_norm: bool = False
    """whether the encoder's batch norms keep their statistics"""
    validate_every: int = Field(1, ge=1)
    """epochs; after the last one in any case"""
    patience: int | None = Field(None, ge=1)
    """validations without a better mIoU before training ends; null: train to the end"""
    skip_nonfinite: int = Field(0, ge=0)
    """steps in a row whose loss or gradient may be not finite"""
    loss: Annotated[Any, Part("loss", default="cross_entropy")] = Field(
        {"name": "cross_entropy"}, validate_default=True
    )
    """by name, with its options"""
    optimizer: Annotated[Any, Part("optimizer")]
    """by name, with its options"""
    schedule: Annotated[Any, Part("schedule")] = Field({"name": "constant"}, validate_default=True)
    """of the learning rate, by name, with its options"""
    timeout: float = Field(1800.0, gt=0)
    """seconds to wait for another process of torchrun before the run ends"""
    samples: int = Field(4, ge=0)
    """validation images drawn as overlays now and then"""
    deterministic: bool = False
    """whether a GPU, too, gives the same bits each time, which makes it slower"""
    tensorboard: bool = False
    """also write the history for TensorBoard"""


class Every(Section):
    """`checkpoint.every`: either key."""

    epochs: int | None = Field(None, ge=1)
    """save after so many epochs"""
    minutes: float | None = Field(None, gt=0)
    """save after so many minutes of training, also in the middle of an epoch"""

    @model_validator(mode="after")
    def _either(self) -> Every:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("checkpoint.every takes either epochs or minutes, e.g. {epochs: 1}")
        return self


class CheckpointConfig(Section):
    """`checkpoint`: when what a run would resume from is written."""

    every: Every = Every(epochs=1)
    """either key"""


class Config(Section):
    """A whole experiment."""

    run_dir: PathText = Field(min_length=1)
    """where the run is written; without it, runs/<name of the file>"""
    seed: int = Field(0, ge=0, le=10**18)
    """of all random numbers: the same seed gives the same weights on a CPU"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """of convolutions; losses are fp32 in any case"""
    compile: bool = False
    """whether torch.compile makes the model faster, which takes its time at the start"""
    data: DataConfig
    """which images, and what happens to them"""
    model: ModelConfig
    """what determines the network"""
    train: TrainConfig
    """the recipe"""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """when a run saves what it would resume from"""
