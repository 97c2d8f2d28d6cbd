"""Files: written whole or not at all, below their folders; what cannot be written is told early."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segkit.errors import UserError
from segkit.interrupt import unfinished

PATIENCE_S = 10.0  # with a virus scanner, or with a program that shows a file
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
_TEMPORARY = "segkit-tmp"  # part of every temporary name


@contextmanager
def replacing(path: Path, *, previous: Path | None = None, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it to `path` once it is written.

    The temporary file is created exclusively under a random name, so that a planted link is never
    followed. Whatever goes wrong, it is removed, and `path` is as it was before.

    Args:
        path: of the file; its folder must exist.
        previous: where to keep the file that was at `path`.
        durable: wait until the data and the new name are on the disk.
    """
    beginning = path.name[:40]  # the whole one may be as long as names can be
    temporary = path.with_name(f".{beginning}.{_TEMPORARY}-{secrets.token_hex(6)}{path.suffix}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_LINK
    is_ours = True
    try:
        unfinished.add(temporary)
        try:
            os.close(os.open(temporary, flags, 0o666))
        except OSError:
            is_ours = False
            raise
        yield temporary
        if durable:
            _sync(temporary)
        if previous is not None and path.exists():
            move(path, previous)  # a process killed here goes on from `previous`
        move(temporary, path)
        if durable:
            _sync(path.parent)
    finally:
        if is_ours:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        unfinished.discard(temporary)


def move(source: Path, target: Path) -> None:
    """Rename a file onto another; on Windows wait some seconds for who has that one open."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > until:
                raise
        time.sleep(0.1)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8, with a ? for what has no place in it."""
    if isinstance(content, str):
        content = content.encode("utf-8", "replace")  # names of files may be any bytes
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def require_file(path: Path) -> None:
    """Refuse a pipe or a device, which may never end.

    Raises:
        OSError: it is one, or there is nothing.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is no file, but a folder, a pipe or a device")


def append_line(path: Path, text: str) -> None:
    """Append a line to a file, as UTF-8; a link in its place is not followed."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | _NO_LINK, 0o666)

    try:
        with open(path, "a", encoding="utf-8", opener=opener) as file:
            file.write(text + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def below(folder: Path, name: str | Path) -> Path:
    """Return a path below a folder, for a name that a file, an archive or a glob gave.

    Raises:
        UserError: the name leads elsewhere, or the system has no such names.
    """
    path = Path(name)
    if path.anchor or ".." in path.parts or "\0" in str(name):
        raise UserError(f"the name {str(name)!r} leads out of {folder}; nothing is written there")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UserError(
            f"no file can have the name {str(name)!a} here; rename it, or set PYTHONUTF8=1 where "
            "names are ASCII alone"
        ) from error
    return folder / path


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    for path in folder.glob(f".*.{_TEMPORARY}-*"):
        with suppress(OSError):
            path.unlink()


def check_output(path: Path | None) -> None:
    """Refuse a file that cannot be written, before the work is done."""
    folder = os.path.dirname(os.path.realpath(path or ""))  # unlike pathlib's, it bears loops
    if path and (path.is_dir() or not os.access(folder, os.W_OK)):
        raise UserError(f"cannot write {path}: name a file in a folder that is there")


def check_folder(path: Path | None) -> None:
    """Make a folder for results and try to write into it, before the work is done."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()  # permission bits do not tell all
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot write into {path}: {why}; name another folder") from error


def walk(top: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and all below it in order, without hidden ones, each with its files' names.

    Raises:
        UserError: one that cannot be read, as data must not be missing in silence.
    """
    for folder, folders, files in os.walk(top, onerror=_unreadable, followlinks=True):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "lost+found")
        yield folder, files


def _unreadable(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):  # those hold nothing
        raise UserError(
            f"cannot read the folder {error.filename}: {error.strerror}; mend that, or take it out"
        ) from error


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
