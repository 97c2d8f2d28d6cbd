"""Download, verify and unpack tar files."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.request import Request, urlopen

from rich.progress import Progress

from segkit.errors import UserError
from segkit.files import below

TIMEOUT_SECONDS = 30.0  # for each wait on the network, not for the whole download


class Archive(NamedTuple):
    """A tar file, compressed or not, on a server."""

    url: str
    md5: str

    @property
    def filename(self) -> str:
        """Name of the file, the last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


def download(archive: Archive, path: Path, bar: Progress) -> None:
    """Download an archive to `path` and verify it."""
    request = Request(archive.url, headers={"User-Agent": "segkit"})
    with urlopen(request, timeout=TIMEOUT_SECONDS) as response, open(path, "wb") as file:
        total = response.length  # None where the server does not say
        free = shutil.disk_usage(path.parent).free
        if total and 2 * total > free:  # it lies beside what is unpacked from it
            raise OSError(f"it takes {2 * total / 1e9:.1f} GB, but only {free / 1e9:.1f} are free")
        task = bar.add_task(archive.filename, total=total)
        while chunk := response.read(1 << 20):
            file.write(chunk)
            bar.advance(task, len(chunk))
    size = path.stat().st_size
    if total is not None and size != total:
        raise OSError(f"the transfer ended after {size:,} of {total:,} bytes")
    check_md5(path, archive.md5)


def check_md5(path: Path, md5: str) -> None:
    """Refuse a file of another MD5 sum."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != md5:
        raise OSError(
            f"{path.name} is cut short or another file (MD5 {digest.hexdigest()} instead of {md5})"
        )


def unpack(path: Path, folder: Path, wanted: tuple[str, ...], bar: Progress) -> None:
    """Unpack the files whose names start with one of `wanted` into an empty folder.

    Python's own filters let links lead out of it (CVE-2025-4517), so no link is unpacked; no data
    set needs one.

    Raises:
        OSError: a wanted member is a link or a device, or its name leads out of the folder.
    """
    with (
        bar.open(path, "rb", description=f"unpack {path.name}") as file,
        tarfile.open(fileobj=file) as tar,
    ):
        for member in tar:
            name = PurePosixPath(member.name)  # without a leading ./
            # macOS' notes on a file look like masks
            if name.name.startswith("._") or not str(name).startswith(wanted):
                continue
            _unpack_member(tar, member, folder)


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    try:
        target = below(folder, member.name)
    except UserError as error:
        raise OSError(f"the archive is no data set: {error}") from error
    content = None if member.islnk() or member.issym() else tar.extractfile(member)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif content is None:
        raise OSError(f"the archive is no data set: {member.name!r} is a link or a device")
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, open(target, "wb") as file:
            shutil.copyfileobj(content, file)
