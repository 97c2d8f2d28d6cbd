"""The experiments and cards that come with segkit, found by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["configs", "datasets"]
_HERE = Path(__file__).parent
INSTALLED = _HERE / "share"  # in a wheel; a checkout has the folders beside the package


def folder_of(kind: Kind) -> Path:
    """Return the folder of the shipped experiments or cards."""
    return INSTALLED / kind if INSTALLED.is_dir() else _HERE.parent / kind


def names_of(kind: Kind) -> list[str]:
    """List what is shipped, by name."""
    return sorted(path.stem for path in folder_of(kind).glob("*.yaml"))


def find(kind: Kind, name: str | Path) -> Path:
    """Return the shipped file of a name, unless there is such a file of the user's.

    Args:
        kind: what to look for.
        name: a path, or a name such as `unet_vgg16`, `unet_vgg16.yaml` or
            `configs/unet_vgg16.yaml`.

    Returns:
        The path itself where it exists or nothing of that name is shipped.
    """
    path = Path(name)
    is_plain = path.parent in (Path(), Path(kind)) and path.suffix in ("", ".yaml")
    shipped = folder_of(kind) / f"{path.stem}.yaml"
    return shipped if is_plain and not path.exists() and shipped.is_file() else path


def data_folder(card: Path) -> Path:
    """Return what the root of a card is relative to: its folder, but never an installed package."""
    return Path("datasets") if card.parent == INSTALLED / "datasets" else card.parent
