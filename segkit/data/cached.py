"""Results computed from files, cached on disk until one of the files changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from segkit.files import replacing


def cache_folder() -> Path:
    """Return the folder of cached results: `$SEGKIT_CACHE`, else `~/.cache/segkit`.

    Raises:
        OSError: the user has no home, as in a container that runs under any number.
    """
    given = os.environ.get("SEGKIT_CACHE")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache" / "segkit"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def cached(kind: str, state: str, compute: Callable[[], Any]) -> Any:
    """Return a cached result; compute and cache it, as plain values for JSON, if there is none.

    A cache that cannot be read or written costs time and does no other harm.
    """
    try:
        path = cache_folder() / f"{kind}-{state}.json"
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = compute()
    with suppress(OSError):
        path = cache_folder() / f"{kind}-{state}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(result), encoding="utf-8")
    return result


def state_of(settings: object, files: Iterable[str]) -> str:
    """Hash settings, and the names, sizes and modification times of files."""
    digest = blake2b(repr(settings).encode(), digest_size=16)
    for file in files:
        stat = os.stat(file)
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
