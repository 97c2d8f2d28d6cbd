"""The config that a run folder keeps, and the names of its records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segkit.config.load import RUN_CONFIG, load_config
from segkit.config.schema import Config
from segkit.errors import UserError
from segkit.invocation import import_hint

ENVIRONMENT = "env.json"
HISTORY = "metrics.jsonl"


def load_run(folder: Path, overrides: Sequence[str] = (), data_root: str | None = None) -> Config:
    """Read the config of a run to resume; see `load_config`.

    Raises:
        UserError: the folder holds no config, or one with parts that are not registered here.
    """
    path = folder / RUN_CONFIG
    if not path.is_file():
        raise UserError(f"nothing to resume: there is no {path}; name a run folder or a YAML file")
    try:
        return load_config(path, overrides, data_root)
    except UserError as error:
        raise UserError(f"{error}{import_hint(_imports(folder / ENVIRONMENT))}") from error


def _imports(path: Path) -> list[Any]:
    """Return what the run imported; a damaged record tells nothing."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["imports"])
    except (OSError, ValueError, LookupError, TypeError):
        return []
