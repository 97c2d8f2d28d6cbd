"""What a checkpoint may hold. A file may come from a stranger, so nothing in it is taken on trust.

Two passes: first every value, at any depth, is of a plain type and of bounded size, and tensors are
what they seem; then a schema says where each stands.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from segkit.data.card import Card
from segkit.errors import UserError
from segkit.hub import Source
from segkit.labels import MAX_CLASSES
from segkit.tensor_files import MAX_VALUES, check_tensor

MAX_DEPTH = 50  # mappings and lists inside of each other
SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
PLAIN = (type(None), bool, float, torch.dtype, torch.device)


def check_plain(content: Any) -> None:
    """Refuse values of other types than plain ones and tensors, and more than a file may hold.

    A text counts by its length.

    Raises:
        ValueError: where, and what is wrong.
    """
    room = MAX_VALUES
    todo: list[tuple[Any, str, int]] = [(content, "", 0)]
    while todo:
        value, where, depth = todo.pop()
        room -= 1 + (len(value) // 16 if isinstance(value, (str, bytes)) else 0)
        if room < 0 or depth > MAX_DEPTH:
            raise ValueError(f"{where}: more values than a checkpoint has")
        if isinstance(value, Tensor):
            try:
                check_tensor(value)
                if value.requires_grad:
                    raise ValueError("it requires a gradient")
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        elif type(value) in (dict, OrderedDict):
            for key, item in value.items():
                todo += [(key, where, depth + 1), (item, f"{where}.{key!s:.80}", depth + 1)]
        elif type(value) in (list, tuple, torch.Size):
            todo += [(item, where, depth + 1) for item in value]
        elif type(value) is int:
            if value.bit_length() > 64:
                raise ValueError(f"{where}: a number of more than 64 bits")
        elif type(value) is str:
            if "\0" in value:
                raise ValueError(f"{where}: text with a null byte")
        elif type(value) not in (*PLAIN, bytes):
            raise ValueError(f"{where}: a {type(value).__name__}, which no checkpoint holds")


Tensors = dict[str, Tensor]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Channel = Annotated[int, Field(ge=0, le=255)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class _Statistics(_Strict):
    """See `segkit.data.statistics.Statistics`."""

    mean: tuple[Finite, ...]
    std: tuple[Annotated[Finite, Field(gt=0)], ...]
    class_weights: tuple[Annotated[Finite, Field(ge=0)], ...] | None = None


class _Classes(_Strict):
    """See `segkit.labels.Classes`."""

    names: tuple[str, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    colors: tuple[tuple[Channel, Channel, Channel], ...]
    foreground: str | None = None

    @model_validator(mode="after")
    def _fit(self) -> _Classes:
        if len(set(self.names)) < len(self.names) or len(self.names) != len(self.colors):
            raise ValueError("names and colours are not one a class")
        if self.foreground not in (None, *self.names):
            raise ValueError("the foreground is no class")
        return self


class _Position(_Strict):
    """See `segkit.training.progress.Progress`."""

    epoch: Count = 0
    step: Count = 0
    loss_sum: float = 0.0
    seconds: Annotated[Finite, Field(ge=0)] = 0.0
    waited: Annotated[Finite, Field(ge=0)] = 0.0
    best_miou: float = -1.0
    best_epoch: Count = 0
    history: list[dict[str, int | float | None]] = []

    @model_validator(mode="after")
    def _steps_take_time(self) -> _Position:
        if self.step > 0 and self.seconds == 0:
            raise ValueError("steps that took no time")
        return self


class _Schedule(BaseModel):
    """The state of a `LambdaLR`; what versions of torch keep beside it is left out."""

    base_lrs: list[Annotated[Finite, Field(ge=0)]]
    last_epoch: Count
    step_count: Annotated[Count, Field(alias="_step_count")]
    last_lr: Annotated[list[Finite], Field(alias="_last_lr")]
    lr_lambdas: list[None]


class _Optimizer(_Strict):
    state: dict[int, dict[str, Tensor | float | int | bool | None]]
    param_groups: list[dict[str, Any]]

    @model_validator(mode="after")
    def _can_go_on(self) -> _Optimizer:
        for group in self.param_groups:
            numbers = [group.get("lr"), group.get("initial_lr", 0.0)]
            if not all(isinstance(n, float) and math.isfinite(n) and n >= 0 for n in numbers):
                raise ValueError("a learning rate is no number")
            indices = group.get("params")
            if not isinstance(indices, list) or not all(type(i) is int for i in indices):
                raise ValueError("a group does not say which parameters are in it")
        return self


class _RandomStates(_Strict):
    torch: Tensor
    cuda: list[Tensor]
    python: tuple[int, tuple[int, ...], float | None]
    numpy: tuple[
        Literal["MT19937"],
        Annotated[
            list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=624, max_length=624)
        ],
        Annotated[int, Field(ge=0, le=624)],  # NumPy would read beyond the end
        Annotated[int, Field(ge=0, le=1)],
        float,
    ]


class _Training(_Strict):
    """See `segkit.training.state`."""

    position: _Position
    optimizer: _Optimizer
    optimizer_name: str = ""
    schedule: _Schedule
    scaler: dict[str, Finite | int]
    average: Tensors | None
    random_states: list[_RandomStates] = Field(min_length=1)
    rounding: dict[str, str | int | None] = {}
    step_size: Annotated[Count, Field(ge=1)]
    length: Count = 0

    @model_validator(mode="after")
    def _scaler_is_whole(self) -> _Training:
        if self.scaler and not self.scaler.keys() >= SCALER:
            raise ValueError("the scaler lacks some of its numbers")
        return self


class Described(BaseModel):
    """All that a checkpoint holds but weights and training; an exported file holds it, too."""

    format: int
    config: dict[str, Any] | None
    card: Card | None
    statistics: _Statistics | None = None
    settings: dict[str, Any] | None = None
    classes: _Classes | None = None
    imports: Sequence[str] = ()
    epoch: Count
    scores: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> Described:
        if self.config is None and self.settings is None:
            raise ValueError("neither config nor settings")
        if self.card is None and self.classes is None:
            raise ValueError("neither card nor classes")
        if self.card and self.classes and self.card.class_names != self.classes.names:
            raise ValueError("classes and card disagree")
        return self


class _Content(Described):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Tensors
    training: _Training | None = None


def checked_content(raw: dict[str, Any], source: Source) -> dict[str, Any]:
    """Return the content of a checkpoint as plain values and tensors, each of its type.

    Raises:
        UserError: something is missing, or is not what a checkpoint holds.
    """
    try:
        check_plain(raw)
        found = _Content.model_validate(raw)
    except ValueError as error:
        raise UserError(f"{source} is damaged or no checkpoint: {first_problem(error)}") from error
    # torch reads versions of modules off the state dict itself
    return found.model_dump(by_alias=True, exclude_unset=True) | {"model": raw["model"]}


def first_problem(error: Exception) -> str:
    """Return the first of what is wrong, and where in the file."""
    if not isinstance(error, ValidationError):
        return str(error).lstrip(".: ")
    first = error.errors()[0]
    where = ".".join(f"{part!s:.80}" for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
