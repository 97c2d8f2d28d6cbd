"""What may stand in an experiment's YAML file, with types, bounds and defaults.

What a decoder can be told stands in its constructor alone: its keyword options become the keys
under `model.decoder`.
"""

from __future__ import annotations

import inspect
import operator
from functools import reduce
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
    field_validator,
    model_validator,
)

from segkit.blocks import NormName
from segkit.decoders import DECODERS
from segkit.encoders import ENCODERS

WORD, NUMBERS = "<word>", "<numbers>"  # in pydantic's path of an error, but not in a file


class Section(BaseModel):
    """A frozen mapping in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _word_or_numbers(value: object) -> str:
    """Choose the member of a union by its look, so that an error speaks of one of them."""
    return WORD if isinstance(value, str) else NUMBERS


AutoOrNumbers = Annotated[
    Annotated[Literal["auto"], Tag(WORD)] | Annotated[tuple[float, ...], Tag(NUMBERS)],
    Discriminator(_word_or_numbers),
]


class EncoderConfig(Section):
    """`model.encoder`: which VGG, and what it starts from."""

    name: Literal[tuple(ENCODERS)]  # type: ignore[valid-type]
    weights: str | None = None  # null, imagenet, or a .pth, .pt or .safetensors file
    norm: NormName | None = None  # null: as the name says, batch norm for *_bn
    pool: Literal["max", "avg"] = "max"
    width: float = Field(1.0, gt=0)  # multiplies every channel count
    checkpointing: bool = False  # recompute activations in backward: less memory, more time
    frozen_stages: int = Field(0, ge=0, le=5)


# What the builder, not the constructor, does for a decoder.
BUILDER_OPTIONS: dict[str, dict[str, Any]] = {
    "fcn": {"classifier_weights": (str | None, None)},  # null, imagenet, or a file
}


def _decoder_section(name: str, decoder: type) -> type[Section]:
    """Turn the keyword options of a decoder's constructor into a section of the schema."""
    hints = get_type_hints(decoder.__init__)  # type: ignore[misc]
    options: dict[str, Any] = {"name": (Literal[name], ...)}
    for parameter in inspect.signature(decoder).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            options[parameter.name] = (hints[parameter.name], parameter.default)
    options |= BUILDER_OPTIONS.get(name, {})
    return create_model(f"{decoder.__name__}Config", __base__=Section, **options)


DECODER_SECTIONS = [_decoder_section(name, decoder) for name, decoder in DECODERS.items()]
DecoderConfig: Any = Annotated[
    reduce(operator.or_, DECODER_SECTIONS),
    Field(discriminator="name"),
]


class ModelConfig(Section):
    """`model`: what determines the network, next to the number of classes."""

    in_channels: int = Field(3, ge=1)
    encoder: EncoderConfig
    decoder: DecoderConfig


class DataConfig(Section):
    """`data`: which images, and what happens to them on the way to the network."""

    card: str  # path of a dataset card
    root: str | None = None  # where the data lies; null: where the card says
    train_split: str = "train"  # of the card
    val_split: str = "val"
    # per channel, of images scaled to 0 ... 1; auto: of the training split
    mean: AutoOrNumbers = (0.485, 0.456, 0.406)
    std: AutoOrNumbers = (0.229, 0.224, 0.225)
    train_transforms: tuple[dict[str, dict[str, Any] | None], ...] = ()  # albumentations, in order
    eval_transforms: tuple[dict[str, dict[str, Any] | None], ...] = ()
    batch_size: int = Field(8, ge=1)
    workers: int = Field(2, ge=0)  # processes that load and augment
    cache: Literal["none", "ram"] = "none"  # ram: decode each file once, into shared memory


# by the frequency in the training split, or one number a class
ClassWeights = Annotated[
    Annotated[Literal["none", "median_frequency", "inverse_frequency"], Tag(WORD)]
    | Annotated[tuple[Annotated[float, Field(ge=0)], ...], Tag(NUMBERS)],
    Discriminator(_word_or_numbers),
]


class CrossEntropyConfig(Section):
    """`train.loss` with name cross_entropy, or without a name: mean over the valid pixels."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: ClassWeights = "none"


class FocalConfig(Section):
    """`train.loss` with name focal: cross-entropy times (1 - probability) ** gamma."""

    name: Literal["focal"]
    gamma: float = Field(2.0, ge=0)
    class_weights: ClassWeights = "none"


class DiceConfig(Section):
    """`train.loss` with name dice: mean over images of the mean over classes in the truth."""

    name: Literal["dice"]
    smooth: float = Field(0.0, ge=0)  # pixels added above and below the line of the fraction


class CrossEntropyDiceConfig(Section):
    """`train.loss` with name cross_entropy_dice: (1 - dice_share) and dice_share of either."""

    name: Literal["cross_entropy_dice"]
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: ClassWeights = "none"  # of the cross-entropy
    dice_share: float = Field(0.5, ge=0, le=1)


class LovaszConfig(Section):
    """`train.loss` with name lovasz: Lovász-softmax, averaged as Dice is."""

    name: Literal["lovasz"]


class OHEMConfig(Section):
    """`train.loss` with name ohem: cross-entropy over the hardest pixels of each image."""

    name: Literal["ohem"]
    share: float = Field(0.25, ge=1e-6, le=1)  # of an image's valid pixels
    class_weights: ClassWeights = "none"


LossConfig = (
    CrossEntropyConfig
    | FocalConfig
    | DiceConfig
    | CrossEntropyDiceConfig
    | LovaszConfig
    | OHEMConfig
)


class SGDConfig(Section):
    """`train.optimizer` with name sgd."""

    name: Literal["sgd"]
    lr: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0)  # spares norms and biases
    encoder_lr_factor: float = Field(1.0, gt=0)  # below 1 for a pretrained encoder


class AdamConfig(Section):
    """`train.optimizer` with name adam or adamw."""

    name: Literal["adam", "adamw"]
    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)  # spares norms and biases
    encoder_lr_factor: float = Field(1.0, gt=0)  # below 1 for a pretrained encoder


class ConstantConfig(Section):
    """`train.schedule` with name constant."""

    name: Literal["constant"]
    warmup_epochs: float = Field(0.0, ge=0)  # from zero, linearly


class CosineConfig(Section):
    """`train.schedule` with name cosine: half a cosine down to zero."""

    name: Literal["cosine"]
    warmup_epochs: float = Field(0.0, ge=0)


class PolyConfig(Section):
    """`train.schedule` with name poly: (1 - progress) ** power."""

    name: Literal["poly"]
    warmup_epochs: float = Field(0.0, ge=0)
    power: float = Field(0.9, gt=0)


class OneCycleConfig(Section):
    """`train.schedule` with name onecycle: cosine up from lr / 25, cosine down to zero."""

    name: Literal["onecycle"]
    peak: float = Field(0.3, gt=0, lt=1)  # share of the run at which lr is reached


class TrainConfig(Section):
    """`train`: the recipe."""

    epochs: int = Field(ge=1)
    init_from: str | None = None  # a run folder or checkpoint whose weights to start from
    accumulate: int = Field(1, ge=1)  # batches in an optimiser step
    clip_norm: float | None = Field(None, gt=0)  # of the gradient of all weights together
    ema: float = Field(0.0, ge=0, lt=1)  # decay of a running average, which is judged and kept
    freeze_encoder_epochs: int = Field(0, ge=0)  # train the decoder alone so long
    freeze_norm: bool = False  # the encoder's batch norms keep their statistics
    patience: int | None = Field(None, ge=1)  # epochs without a better mIoU before stopping
    skip_nonfinite: int = Field(0, ge=0)  # steps in a row whose loss or gradient is not finite
    loss: Annotated[LossConfig, Field(discriminator="name")] = CrossEntropyConfig()
    optimizer: Annotated[SGDConfig | AdamConfig, Field(discriminator="name")]
    schedule: Annotated[
        ConstantConfig | CosineConfig | PolyConfig | OneCycleConfig, Field(discriminator="name")
    ] = ConstantConfig(name="constant")
    samples: int = Field(4, ge=0)  # validation images drawn as overlays now and then
    tensorboard: bool = False  # also write the history for TensorBoard

    @field_validator("loss", mode="before")
    @classmethod
    def _loss_without_a_name(cls, loss: Any) -> Any:
        """Take a mapping without a name for cross-entropy's options."""
        if isinstance(loss, dict) and "name" not in loss:
            return {"name": "cross_entropy", **loss}
        return loss


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
