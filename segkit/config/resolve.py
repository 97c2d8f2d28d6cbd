"""Values of a config that follow from elsewhere: where data lies, how an encoder was trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from segkit.config.schema import Config
from segkit.registry import find


def normalize_as_published(config: Config) -> Config:
    """Take the mean and std that a published encoder was trained with, unless some are given."""
    own = getattr(find("encoder", config.model.encoder.name), "normalization", None)
    if own is None or config.model.in_channels != len(own[0]):
        return config
    if {"mean", "std"} & config.data.model_fields_set:
        return config
    return _with_data(config, mean=own[0], std=own[1])


def locate_card(config: Config, source: Path) -> Config:
    """Find the card of an experiment that was read from a file.

    A relative path is looked up in the working directory, then in the folder of the file and in
    each folder above it. If it is in none of them, the config stays as it is: a shipped card is
    found by its name.
    """
    card = config.data.card
    if Path(card).is_file():
        return config
    above = Path(os.path.abspath(source)).parents  # without the dots that `absolute` keeps
    found = (str(folder / card) for folder in above if (folder / card).is_file())
    return _with_data(config, card=next(found, card))


def move_data(config: Config, root: str | None) -> Config:
    """Set the folder of the data, relative to the working directory; None keeps it."""
    return config if root is None else _with_data(config, root=str(Path(root).absolute()))


def _with_data(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})
