"""Every key of an experiment in words, from the schema and the docstrings of its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from segkit.config.parts import Part, is_section, section_of_part
from segkit.config.schema import Config
from segkit.registry import names

KINDS = {
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "array": "list",
    "object": "mapping",
    "null": "null",
}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class Key(NamedTuple):
    """A key that may stand in an experiment.

    Args:
        path: dotted; of an option of a part, such as `model.decoder(unet).depth`.
        kind: type, bounds or choices, in words.
        default: as YAML; empty for a key that must be given.
        text: what it means.
    """

    path: str
    kind: str
    default: str
    text: str


def explain_config(config: Config) -> str:
    """Write an experiment as YAML, with what each key means as a comment beside it."""
    lines = [*_lines(config, 0)]
    width = min(48, max(len(line) for line, text in lines if text))
    return "".join(f"{line:<{width}}  # {text}\n" if text else f"{line}\n" for line, text in lines)


def list_keys() -> list[Key]:
    """List all keys, those of every registered part included."""
    return [*_keys(Config, "")]


def _lines(section: BaseModel, depth: int) -> Iterator[tuple[str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        text = _first_sentence(field)
        if isinstance(value, BaseModel):
            yield f"{'  ' * depth}{name}:", text
            yield from _lines(value, depth + 1)
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            yield f"{'  ' * depth}{name}: {_as_yaml(plain)}", text


def _keys(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    properties = section.model_json_schema()["properties"]
    for name, field in section.model_fields.items():
        path, text = f"{prefix}{name}", _first_sentence(field)
        part = next((note for note in field.metadata if isinstance(note, Part)), None)
        inner = field.annotation
        if part is not None:
            default = (field.default or {}).get("name", "") if _has_default(field) else ""
            yield Key(f"{path}.name", ", ".join(names(part.kind)), default, text)
            yield from _keys_of_parts(part.kind, path)
        elif is_section(inner):
            yield from _keys(inner, f"{path}.")
        else:
            default = _as_yaml(_plain(field.default)) if _has_default(field) else ""
            yield Key(path, _kind(properties[name]), default, text)


def _keys_of_parts(kind: str, path: str) -> Iterator[Key]:
    """Yield the options of all parts of a kind, each once for the parts that share it."""
    owners: dict[Key, list[str]] = {}
    for name in names(kind):
        for key in _keys(section_of_part(kind, name), ""):
            if key.path != "name":
                owners.setdefault(key, []).append(name)
    for key, parts in owners.items():
        whose = "" if parts == names(kind) else f"({', '.join(_families(parts, names(kind)))})"
        yield key._replace(path=f"{path}{whose}.{key.path}")


def _families(parts: list[str], known: list[str]) -> dict[str, None]:
    """Shorten names whose whole family is there, such as those of all ResNets, to `resnet*`."""
    shown: dict[str, None] = {}
    for name in parts:
        stem = re.split(r"[^a-z]", name)[0]
        family = [each for each in known if re.split(r"[^a-z]", each)[0] == stem]
        shown[f"{stem}*" if len(family) > 2 and set(family) <= set(parts) else name] = None
    return shown


def _first_sentence(field: FieldInfo) -> str:
    return re.split(r"\. (?=[A-Z])", field.description or "", maxsplit=1)[0]


def _has_default(field: FieldInfo) -> bool:
    return field.default is not PydanticUndefined


def _kind(schema: dict[str, Any]) -> str:
    """Put a JSON schema into words."""
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[choices]))
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = KINDS.get(schema.get("type", ""), "anything")
    bounds = [f"{sign} {_number(schema[key])}" for key, sign in BOUNDS.items() if key in schema]
    if kind == "list" and "items" in schema:
        kind = f"list of {_kind(schema['items'])}"
    return " ".join([kind, " and ".join(bounds)]).strip()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) and value < 10**7 else f"{value:g}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
