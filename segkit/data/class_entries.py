"""The classes of a card: their names, and the colours that they are drawn in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from segkit.config.parts import Section
from segkit.data.colors import BLACK, distinct_colors
from segkit.labels import IGNORE, MAX_CLASSES

Channel = Annotated[int, Field(ge=0, le=255)]


class ClassEntry(Section):
    """A class and the RGB colour that it is drawn in."""

    name: str
    color: tuple[Channel, Channel, Channel]

    @model_validator(mode="before")
    @classmethod
    def _is_a_mapping(cls, given: Any) -> Any:
        if not isinstance(given, (Mapping, ClassEntry)):
            text = "write a class as its name, or as {name: road, color: [128, 64, 128]}"
            raise PydanticCustomError("no_class", text)
        return given


def _with_colors(given: Any) -> Any:
    """Choose colours for the classes that have none."""
    if not isinstance(given, (list, tuple)):
        return given
    if len(given) > MAX_CLASSES:
        raise ValueError(f"classes has {len(given)} entries; at most {MAX_CLASSES} fit")
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in given]
    plain = [i for i, e in enumerate(entries) if isinstance(e, dict) and "color" not in e]
    taken = []
    for entry in entries:
        match entry:
            case {"color": [int() as r, int() as g, int() as b]} | ClassEntry(color=(r, g, b)):
                if max(r, g, b) <= 255 and min(r, g, b) >= 0:
                    taken.append((r, g, b))
    chosen = distinct_colors(len(plain), taken)
    if plain[:1] == [0] and BLACK not in taken:  # the first class is the background, as a rule
        chosen.insert(0, BLACK)
    for index, color in zip(plain, chosen, strict=False):
        entries[index] = {**entries[index], "color": color}
    return entries


def _distinct(classes: tuple[ClassEntry, ...]) -> tuple[ClassEntry, ...]:
    names = [entry.name for entry in classes]
    if len(names) < 2:
        raise ValueError(
            f"classes has {len(names)} entry; a binary task is two classes, for example "
            "background and thing, each with its raw value in label_map"
        )
    if len(set(names)) < len(names) or IGNORE in names:
        raise ValueError(f"class names must be unique and not '{IGNORE}', got {names}")
    return classes


# in the order of the class indices; YAML may hold names alone
ClassEntries = Annotated[
    tuple[ClassEntry, ...], BeforeValidator(_with_colors), AfterValidator(_distinct)
]
