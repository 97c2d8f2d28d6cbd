"""What must be the same in all processes of a run: told short, to be compared."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import segkit
from segkit.config import Config
from segkit.config.flatten import flatten
from segkit.data.card import Card
from segkit.data.reader import SampleReader

PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "torchmetrics")
FILES = 8  # of a split whose contents are compared
# each machine may have its own
LOCAL = ("root", "data.root", "data.workers", "data.cache")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on, by name."""
    return {"segkit": segkit.__version__} | {name: version(name) for name in PACKAGES}


def code_facts() -> dict[str, Any]:
    """Return versions, and a digest of the package's source."""
    sources = sorted(Path(segkit.__file__).parent.rglob("*.py"))
    versions = {"Python": platform.python_version(), **package_versions()}
    return {
        **{f"the version of {name}": number for name, number in versions.items()},
        "segkit's code": _digest(path.read_bytes() for path in sources),
    }


def settings_facts(config: Config, card: Card) -> dict[str, Any]:
    """Return every setting, and the data set's card."""
    settings = flatten(config.model_dump())
    facts = {key: value for key, value in settings.items() if not key.startswith(LOCAL)}
    entries = card.model_dump(mode="json")
    return facts | {f"the card's {key}": entries[key] for key in entries if key not in LOCAL}


def split_facts(reader: SampleReader) -> dict[str, Any]:
    """Return the number, names and sizes of a split's files, and the contents of a few."""
    pairs, split = reader.pairs, f"'{reader.split}'"
    files = [path for pair in pairs for path in (pair.image, pair.mask)]
    few = files[:: max(len(files) // FILES, 1)]
    return {
        f"the number of images in {split}": len(pairs),
        f"the names of the images in {split}": _digest(name.encode() for name in pairs.names),
        f"the sizes of the files in {split}": _digest(
            str(path.stat().st_size).encode() for path in files
        ),
        f"the files in {split}": _digest(path.read_bytes() for path in few),
    }


def _digest(parts: Iterable[bytes]) -> str:
    """Return what differs where any part does, in 16 letters."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        total.update(hashlib.blake2b(part).digest())
    return total.hexdigest()
