"""Results about files, kept from run to run for as long as the files stay as they are."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Name the folder of remembered results: `$SEGKIT_CACHE`, else `~/.cache/segkit`."""
    given = os.environ.get("SEGKIT_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "segkit"


def remembered(kind: str, state: str, compute: Callable[[], Any]) -> Any:
    """Look a result up, or compute and keep it.

    A cache that cannot be read or written changes nothing but the time it takes.

    Args:
        kind: of the result, part of its file name.
        state: of all it depends on, see `state_of`.
        compute: gives plain values, as JSON knows them.
    """
    path = cache_folder() / f"{kind}-{state}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = compute()
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(result), encoding="utf-8")
        os.replace(temporary, path)
    return result


def state_of(settings: object, files: Iterable[str]) -> str:
    """Hash settings, and the names, sizes and modification times of files.

    Raises:
        OSError: a file is gone.
    """
    digest = blake2b(repr(settings).encode(), digest_size=16)
    for file in files:
        stat = os.stat(file)
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
