"""Going on with a run: only with the settings it was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segkit.config import Config
from segkit.errors import UserError

# These change where a run happens, not what comes out of it.
FREE = ("run_dir", "data.root", "data.workers", "train.samples")


def check_unchanged(old: Config, new: Config, path: Path) -> None:
    """Refuse to go on with other settings, which would be neither the old run nor a new one.

    Args:
        old: the settings in the checkpoint.
        new: the settings given now.
        path: of the checkpoint.

    Raises:
        UserError: settings that differ, each with both values.
    """
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    changed = [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in FREE
    ]
    if changed:
        raise UserError(
            f"{path} was trained with other settings ({'; '.join(changed)}); resume with those, or "
            "start another run with --set run_dir=DIR"
        )


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
