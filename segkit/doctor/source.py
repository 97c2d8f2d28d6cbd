"""The data set to check: a card, or an experiment that names one."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.config import Config, load_config
from segkit.config.load import read_yaml
from segkit.data.card import Card, load_card
from segkit.errors import UserError
from segkit.shipped import find, names_of


def load_source(
    path: str, overrides: Sequence[str], data_root: str | None = None
) -> tuple[Card, Config | None]:
    """Load a card, or an experiment and its card.

    Args:
        path: of the YAML file of either, or the name of a shipped one.
        overrides: settings as `a.b=c`; `root=DIR` sets the folder of the data.
        data_root: the same.
    """
    file = find("configs", path)
    file = file if file.is_file() else find("datasets", path)
    data, _ = read_yaml(file, [*names_of("configs"), *names_of("datasets")])
    if "model" not in data and "train" not in data:
        of_card = [o.removeprefix("data.") for o in overrides]
        return load_card(path, data_root, of_card), None
    of_config = [f"data.{o}" if o.startswith("root=") else o for o in overrides]
    config = load_config(path, of_config, data_root)
    return load_card(config.data.card, config.data.root), config


def chosen_splits(card: Card, config: Config | None) -> tuple[list[str], list[str]]:
    """Return the splits to check, and those of them that must exist."""
    names = list(card.splits)
    if config is None:
        return names, [name for name in names if name in ("train", "val")] or names
    needed = [config.data.train_split, config.data.val_split]
    if needed[0] == needed[1]:
        raise UserError(
            f"data.val_split and data.train_split are both '{needed[0]}'; a score on what was "
            "trained on says nothing, name two splits"
        )
    return needed + [name for name in names if name == "test" and name not in needed], needed
