"""A model as a folder, as the hub holds it: `model.safetensors` and `config.json`.

The folder may come from a stranger. Weights are tensors alone, and every value of the JSON file is
checked before it is used.
"""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

from pydantic import BaseModel, PlainSerializer

from segkit.checkpoint_schema import first_problem
from segkit.data.card import Card
from segkit.data.statistics import Statistics
from segkit.encoders.weights import read_weights
from segkit.errors import UserError
from segkit.labels import Classes

MAX_SIZE = 10_000_000  # bytes of the description
WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
# absolute, of a user's home, or leading out of a folder
_PRIVATE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|(.*[/\\])?\.\.([/\\]|$)")
_BY_NAME = PlainSerializer(lambda value: value._asdict())  # a named tuple would become a list


class Description(BaseModel):
    """What `config.json` holds: all of a checkpoint but the weights and the state of training."""

    format: int
    segkit: str  # the version that wrote it
    config: dict[str, Any]
    card: Card
    statistics: Annotated[Statistics, _BY_NAME]
    classes: Annotated[Classes, _BY_NAME]
    imports: tuple[str, ...]
    epoch: int
    scores: dict[str, Any] | None


def is_model_folder(folder: Path) -> bool:
    """Return whether a folder holds a model."""
    return all((folder / name).is_file() for name in (WEIGHTS, DESCRIPTION))


def read_model_folder(folder: Path) -> dict[str, Any]:
    """Read a model from its folder, as the content of a checkpoint."""
    path = folder / DESCRIPTION
    try:
        if path.stat().st_size > MAX_SIZE:
            raise ValueError(f"it has more than {MAX_SIZE:,} bytes")
        found = Description.model_validate_json(path.read_bytes())
        if found.classes.names != found.card.class_names:
            raise ValueError("classes and card disagree")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or of no segkit model: {first_problem(error)}; fetch it again, or "
            "`segkit push` the run again"
        ) from error
    return {
        **dict(found),
        "card": public_card(found.card),  # data may be drawn into its root
        "statistics": found.statistics._asdict(),
        "classes": found.classes._asdict(),
        "model": read_weights(folder / WEIGHTS),
    }


def public_card(card: Card) -> dict[str, Any]:
    """Return a card as plain values, without private paths."""
    values = card.model_dump()
    return values | without_private_paths({key: values[key] for key in ("root", "splits")})


def without_private_paths(value: Any) -> Any:
    """Reduce paths in plain values to what they are below the working directory, or their names.

    >>> without_private_paths({"root": "/home/me/photos", "run_dir": "runs/mine"})
    {'root': 'photos', 'run_dir': 'runs/mine'}
    """
    if isinstance(value, dict):
        return {key: without_private_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_private_paths(item) for item in value)
    if not isinstance(value, str) or not _PRIVATE.match(value):
        return value
    here = Path.cwd()
    path = Path(value)
    if path.is_relative_to(here) and ".." not in path.parts:
        return path.relative_to(here).as_posix()
    name = PureWindowsPath(value).name  # which takes either slash
    return "." if name == ".." else name
