"""Where files are made before they are judged, so that nothing half-written is left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segkit.errors import UserError
from segkit.export.deployed import first_line


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """Make a hidden folder beside the files to come, and remove it whatever happens."""
    with writing(out):
        folder = Path(tempfile.mkdtemp(prefix=".segkit-tmp-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Tell that a folder cannot be written into, as with a full disk."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the writers of torch and OpenVINO raise RuntimeError
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"cannot write into {out}: {why}; free some space or name another"
        ) from error
