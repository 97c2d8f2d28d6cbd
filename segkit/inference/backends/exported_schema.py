"""What an exported file may say of itself; it may come from a stranger, as a checkpoint may."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

from segkit.checkpoint_schema import Count, Described, Finite, check_plain, first_problem
from segkit.data.card import Card
from segkit.errors import UserError

MAX_STRIDE = 4096  # pixels


class _Open(BaseModel):
    """Holds more than is named here."""

    model_config = ConfigDict(extra="allow")


class _Named(_Open):
    name: str


class _Model(_Open):
    encoder: _Named
    decoder: _Named


class _Config(_Open):
    """A config, which may have parts that are not registered here."""

    model: _Model


class _Scores(_Open):
    miou: float


def _fits(schema: type[BaseModel]) -> AfterValidator:
    """Check a mapping, and leave it as it is."""

    def check(value: Any) -> Any:
        if value is not None:
            schema.model_validate(value)
        return value

    return AfterValidator(check)


class _Input(_Open):
    name: str
    dtype: Literal["uint8", "float32"]
    range: tuple[int | float, int | float]
    channels: Annotated[int, Field(ge=1, le=10**6)]


class _Origin(_Open):
    name: str
    sha256: str


class _Gate(_Open):
    miou: float
    torch_miou: float
    images: Count
    failures: tuple[str, ...]


class _Export(_Open):
    format: str
    precision: Literal["fp32", "half", "int8"]
    kept: tuple[str, ...] = ()
    gate: _Gate | None = None


class _Metadata(Described):
    """See `segkit.export.metadata`."""

    model_config = ConfigDict(ser_json_inf_nan="constants")  # not null: an IoU may be NaN

    segkit: str
    checkpoint: _Origin
    config: Annotated[dict[str, Any], _fits(_Config)]
    card: Card
    scores: Annotated[dict[str, Any] | None, _fits(_Scores)] = None
    input: _Input
    outputs: tuple[str, ...]
    legend: tuple[_Named, ...]
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]
    stride: Annotated[int, Field(ge=1, le=MAX_STRIDE)]
    receptive_field: Count | None
    halo: tuple[Count, Count] | str
    export: _Export


def parse_metadata(text: str | None, path: Path) -> dict[str, Any]:
    """Read the metadata of a file, each value of its type as JSON has it.

    Raises:
        UserError: there is none, or something else.
    """
    if not text:
        raise UserError(f"{path} was not written by segkit export: it has no metadata of it")
    try:
        content = from_json(text)
        check_plain(content)
        found = _Metadata.model_validate(content)
    except ValueError as error:
        raise UserError(
            f"{path}: its metadata is damaged: {first_problem(error)}; export the model again"
        ) from error
    checked: dict[str, Any] = content | found.model_dump(mode="json", exclude_unset=True)
    return checked
