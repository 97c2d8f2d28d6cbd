"""The options of registered parts as sections of the schema, derived from their constructors."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeGuard, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    create_model,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from segkit.errors import shorten
from segkit.registry import Bounds, find, is_known, names

MAX_NAME, MAX_PATH = 255, 4000  # of most systems
MAX_OPTION = 1_000_000  # channels, layers and the like
WORD, NUMBERS = "<word>", "<numbers>"  # in pydantic's path of an error, but not in a file


class Section(BaseModel):
    """A frozen mapping of finite numbers and more, in which an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _can_be_built(value: Any) -> Any:
    for number in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(number, (int, float)) and abs(number) > MAX_OPTION:
            raise ValueError(f"{shorten(number)} is too much for a network: at most {MAX_OPTION:,}")
    return value


def _short_enough(path: str) -> str:
    longest = max(len(os.fsencode(name)) for name in re.split(r"[/\\]", path))
    if longest > MAX_NAME or len(path) > MAX_PATH:
        raise ValueError(
            f"{shorten(path)} is longer than a path can be: {MAX_NAME} bytes a name and "
            f"{MAX_PATH} characters in all"
        )
    return path


PathText = Annotated[str, AfterValidator(_short_enough)]


def word_or_numbers(value: object) -> str:
    """Choose the member of a union by its look, so that an error speaks of one of them."""
    return WORD if isinstance(value, str) else NUMBERS


# by the frequency in the training split, or one number a class
ClassWeights = Annotated[
    Annotated[
        Literal["none", "median_frequency", "sqrt_median_frequency", "inverse_frequency"], Tag(WORD)
    ]
    | Annotated[tuple[Annotated[float, Field(ge=0)], ...], Tag(NUMBERS)],
    Discriminator(word_or_numbers),
]


def _as_transform(value: object) -> object:
    """Read a name alone as a transform with its defaults."""
    if isinstance(value, str):
        return {value: None}
    if not isinstance(value, Mapping):
        text = "write a transform as Name, or as {Name: {argument: value}}"
        raise PydanticCustomError("no_mapping", text)
    return value


# one `{name: {argument: value}}`; YAML may hold the name alone
Transform = Annotated[dict[str, dict[str, Any] | None], BeforeValidator(_as_transform)]

# What the builder passes to a part's constructor, which is no key in YAML.
SUPPLIED = {
    "encoder": {"wants", "in_channels"},
    "decoder": {"in_channels", "strides", "num_classes"},
    "optimizer": {"groups"},
    "schedule": {"total_steps", "steps_per_epoch"},
}
# What the builder does for every part of a kind.
COMMON: dict[str, dict[str, Any]] = {
    "encoder": {
        "weights": (
            PathText | None,
            Field(
                None,
                description="null, imagenet, hf://user/model, or a .pth, .pt or .safetensors file",
            ),
        ),
    },
    "optimizer": {
        "weight_decay": (float, Field(0.0, ge=0, description="spares norms and biases")),
        "encoder_lr_factor": (
            float,
            Field(
                1.0,
                gt=0,
                description="the encoder's learning rate as a share of lr; below 1 for "
                "pretrained weights",
            ),
        ),
    },
}


def is_section(kind: object) -> TypeGuard[type[BaseModel]]:
    """Say whether a type annotation is a section of the schema."""
    return isinstance(kind, type(BaseModel))  # in Python 3.10 even list[int] is a `type`


@dataclass(frozen=True)
class Part:
    """Marks a field that holds the name and the options of a registered part."""

    kind: str  # of the part, see `segkit.registry`
    default: str | None = None  # the name where a mapping gives none

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def read(self, value: object) -> Section:
        """Validate a mapping, or a name alone, as the section of the part that it names."""
        if isinstance(value, Section):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            example = "{" + f"name: {names(self.kind)[0]}" + "}"
            raise PydanticCustomError("no_mapping", f"write a {self.kind} as {example}")
        name = given.get("name", self.default)
        if name is None:
            raise PydanticCustomError("no_name", "needs a key 'name'")
        if not isinstance(name, str) or not is_known(self.kind, name):
            known = {"known": names(self.kind)}
            raise PydanticCustomError("unknown_part", "is unknown", known)
        return section_of_part(self.kind, name).model_validate({**given, "name": name})

    def section_of(self, given: Mapping[str, Any]) -> type[Section] | None:
        """Return the section of the part that a mapping names; None if it names none."""
        name = given.get("name", self.default)
        known = isinstance(name, str) and is_known(self.kind, name)
        return section_of_part(self.kind, name) if known else None


def section_of_part(kind: str, name: str) -> type[Section]:
    """Return the section of a registered part: its name and its options."""
    return _derive(kind, name, find(kind, name))


@cache
def _derive(kind: str, name: str, factory: Callable[..., Any]) -> type[Section]:
    """Turn the options of a constructor into a section; what the builder supplies is left out."""
    function: Any = factory.func if isinstance(factory, partial) else factory
    annotated = function.__init__ if inspect.isclass(function) else function
    hints = get_type_hints(annotated, include_extras=True)
    described = options_in(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {"name": (Literal[name], ...), **COMMON.get(kind, {})}
    for option in inspect.signature(factory).parameters.values():
        if option.name in SUPPLIED.get(kind, ()) or option.kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        ):
            continue
        hint, default = hints.get(option.name, Any), option.default
        if kind == "loss" and option.name == "class_weights":
            hint, default = ClassWeights, "none"  # names become numbers once the data is known
        text = described.get(option.name)
        if default is inspect.Parameter.empty:
            field = Field(..., description=text)
        elif isinstance(default, tuple):  # as YAML has it, a list, which is read as the hint says
            field = Field(list(default), validate_default=True, description=text)
        else:
            field = Field(default, description=text)
        fields[option.name] = (_bounded(hint), field)
    checks: dict[str, Any] = {}
    if kind in ("encoder", "decoder"):  # whose numbers say how much is built
        checks["can_be_built"] = field_validator("*")(_can_be_built)
    return create_model(f"{name}_{kind}", __base__=Section, __validators__=checks, **fields)


def options_in(docstring: str) -> dict[str, str]:
    """Read what a docstring says of each argument, in its section `Args:`.

    >>> options_in("A loss.\\n\\nArgs:\\n    gamma: of focus;\\n        0: none.")
    {'gamma': 'of focus; 0: none'}
    """
    found: dict[str, str] = {}
    name = ""
    _, _, section = docstring.partition("Args:\n")
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        if line[4] == " ":
            found[name] += f" {line.strip()}"
        else:
            several, _, text = line.strip().partition(": ")
            for name in several.split(", "):
                found[name] = text
    return {name: text.rstrip(".") for name, text in found.items()}


def _bounded(hint: Any) -> Any:
    """Turn our notes, which need no pydantic, into pydantic's: `Bounds`, and checking functions."""
    if get_origin(hint) is tuple:
        return tuple[tuple(_bounded(each) for each in get_args(hint))]  # type: ignore[misc]
    if get_origin(hint) is not Annotated:
        return hint
    kind, *notes = get_args(hint)
    fields = [
        Field(**{k: v for k, v in note._asdict().items() if v is not None})
        if isinstance(note, Bounds)
        else BeforeValidator(note)
        if inspect.isfunction(note)
        else note
        for note in notes
    ]
    for field in fields:
        kind = Annotated[kind, field]
    return kind
