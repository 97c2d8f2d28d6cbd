"""Load an experiment's YAML file; every mistake is told with file, line, key and nearest key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from segkit.config.parts import NUMBERS, WORD, Part, is_section
from segkit.config.resolve import locate_card, move_data, normalize_as_published
from segkit.config.schema import Config
from segkit.errors import LONGEST, UserError, nearest, shorten
from segkit.shipped import find, names_of
from segkit.yaml_text import MAX_DEPTH, Lines, parse_yaml, read_yaml_file

SectionT = TypeVar("SectionT", bound=BaseModel)
RUN_CONFIG = "config.yaml"  # in a run folder
MAX_TOLD = 20  # mistakes
# pydantic's types of errors in the words of YAML
KINDS = {
    "tuple_type": "it must be a list, [first, second, ...]",
    "dict_type": "it must be a mapping, {key: value}",
}


def load_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    data_root: str | None = None,
    varied: str | None = None,
) -> Config:
    """Read and check an experiment.

    Args:
        path: of a YAML file, or the name of a shipped one.
        overrides: `a.b=c` each, replacing or adding one value; `c` is read as YAML.
        data_root: see `move_data`.
        varied: one more override, which errors call `--vary`.

    Raises:
        UserError: no such file, broken YAML, an unknown key or an unfit value, all told at once.
    """
    path = find("configs", path)
    data, lines = read_yaml(path, names_of("configs"))
    for override in overrides:
        apply_override(override, data, lines)
    if varied is not None:
        apply_override(varied, data, lines, "--vary")
    data.setdefault("run_dir", f"runs/{path.stem}")
    config = locate_card(validate(Config, data, lines, str(path)), path)
    return move_data(normalize_as_published(config), data_root)


def parse_config(data: Mapping[str, Any], source: str) -> Config:
    """Check an experiment that is already a mapping, for example from a checkpoint."""
    return validate(Config, dict(data), {}, source)


def dump_config(config: Config) -> str:
    """Write an experiment as YAML, every default spelled out; loading it gives the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_yaml(path: Path, shipped: Sequence[str] = ()) -> tuple[dict[str, Any], Lines]:
    """Read a YAML mapping and where each of its keys stands; a hint may name what is shipped."""
    if path.is_dir():
        held = path / RUN_CONFIG
        hint = f"did you mean {held}?" if held.is_file() else "name a YAML file"
        raise UserError(f"{path} is a folder; {hint}")
    if not path.is_file():
        siblings = [str(p) for p in sorted(path.parent.glob("*.yaml")) if p != path]
        near = nearest(str(path), [*siblings, *shipped])
        hint = f"; did you mean {near}?" if near else ""
        raise UserError(f"{path} is not a file{hint}")
    data, lines = read_yaml_file(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: must hold a mapping of keys to values")
    return data, lines


def apply_override(
    override: str, data: dict[str, Any], lines: Lines, option: str = "--set"
) -> None:
    """Put the value of `a.b=c` into nested `data`, and the option it is from into `lines`."""
    named = f"{option} {override if len(override) <= LONGEST else override[:LONGEST] + ' ...'}"
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path) or len(path) > MAX_DEPTH:
        raise UserError(f"{named}: write it as key.path=value, e.g. train.epochs=3")
    value, _ = parse_yaml(text, named, numbered=False)
    if not isinstance(value, (str, list, dict, type(None))):  # a number or a switch
        value = text.strip()  # the field's own type decides, so that run_dir=2024 stays a name
    for depth, part in enumerate(path[:-1]):
        if not isinstance(data.get(part, {}), dict):
            raise UserError(f"{named}: {_dotted(path[: depth + 1])} is not a section")
        if part not in data:
            lines[path[: depth + 1]] = named
        data = data.setdefault(part, {})
    data[path[-1]] = value
    for known in [k for k in lines if k[: len(path)] == path]:
        del lines[known]
    lines[path] = named


def validate(schema: type[SectionT], data: dict[str, Any], lines: Lines, source: str) -> SectionT:
    """Check a mapping against a schema; a `UserError` lists every mistake with its line."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        messages = [_explain(e, schema, data, lines, source) for e in found[:MAX_TOLD]]
        if len(found) > MAX_TOLD:
            messages.append(f"{source}: and {len(found) - MAX_TOLD} more")
        raise UserError("\n".join(dict.fromkeys(messages))) from error


def _explain(
    error: ErrorDetails, schema: type[BaseModel], data: dict[str, Any], lines: Lines, source: str
) -> str:
    """Turn one of pydantic's errors into a sentence with the place and the way out."""
    loc = tuple(part for part in error["loc"] if part not in (WORD, NUMBERS))
    path, section = _follow(loc, schema, data)
    value = error["input"]
    if error["type"] == "extra_forbidden":
        return _unknown_key(path, list(section.model_fields), lines, source)
    if error["type"] == "no_name":  # by which a part is chosen
        if key := nearest("name", map(str, value)):
            return _unknown_key((*path, key), ["name"], lines, source)
        return f"{_place(path, lines, source)}: {_dotted(path)} needs a key 'name'"
    if error["type"] == "missing":
        return f"{_place(path[:-1], lines, source)}: {_dotted(path)} is missing; add it"
    if error["type"] == "unknown_part":
        name = value["name"] if isinstance(value, Mapping) else value
        return _unfit((*path, "name"), name, error["ctx"]["known"], lines, source)
    if error["type"] == "literal_error":
        options = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return _unfit(path, value, options, lines, source)
    if error["type"] == "value_error":  # one of our own sentences
        return f"{_place(path, lines, source)}: {error['ctx']['error']}"
    reason = KINDS.get(error["type"]) or error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "model_type":
        keys = _follow((*loc, ""), schema, data)[1].model_fields
        reason = f"it must be a mapping with keys of {', '.join(keys)}"
    return f"{_place(path, lines, source)}: {_dotted(path)} is {shorten(value)}: {reason}"


def _unknown_key(path: tuple[str | int, ...], known: list[str], lines: Lines, source: str) -> str:
    near = nearest(str(path[-1]), known, cutoff=0.5)
    hint = f"did you mean '{near}'?" if near else f"known here: {', '.join(known)}"
    return f"{_place(path, lines, source)}: {_dotted(path)} is an unknown key; {hint}"


def _unfit(
    path: tuple[str | int, ...], value: Any, options: list[str], lines: Lines, source: str
) -> str:
    near = nearest(str(value), options)
    hint = f"did you mean '{near}'? " if near else ""
    place = _place(path, lines, source)
    return f"{place}: {_dotted(path)} is {shorten(value)}; {hint}Known: {', '.join(options)}"


def _follow(
    loc: tuple[str | int, ...], schema: type[BaseModel], data: Any
) -> tuple[tuple[str | int, ...], type[BaseModel]]:
    """Return the path of an error in the file, and the section of the schema that holds its key."""
    section = schema
    member: type[BaseModel] | None = None  # of a mapping or list of sections
    for step in loc:
        inside = data[step] if _holds(data, step) else None
        if member:
            schema, member = member, None
        else:
            section = schema
            field = schema.model_fields.get(str(step))
            part = next((m for m in field.metadata if isinstance(m, Part)), None) if field else None
            if part and isinstance(inside, Mapping):
                schema = part.section_of(inside) or schema
            elif field and is_section(field.annotation):
                schema = field.annotation
            elif field:
                member = next((k for k in get_args(field.annotation) if is_section(k)), None)
        data = inside
    return loc, section


def _holds(data: Any, step: str | int) -> bool:
    if isinstance(data, Mapping):
        return step in data
    return isinstance(data, Sequence) and isinstance(step, int) and step < len(data)


def _place(path: tuple[str | int, ...], lines: Lines, source: str) -> str:
    """Name the line of a key, or of the nearest section around it that has one."""
    keys = tuple(str(part) for part in path)  # numbers, in a label map or of a list's items
    for end in range(len(keys), 0, -1):
        if keys[:end] in lines:
            return lines[keys[:end]]
    return source


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(part)[:LONGEST] for part in path)
