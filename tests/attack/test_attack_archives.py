"""Changed tar files, with names, links and devices that lead out of the folder."""

import contextlib
import io
import random
import tarfile

import pytest
from hostile import hostile_texts
from rich.progress import Progress

from segkit.data.archives import unpack
from segkit.data.fetch import FAILURES

TYPES = (
    *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.CONTTYPE, b"z"),
)
NAMES = ("a", "a/b", "a/b/c", "d", "..", "../evil", "a/../../evil", "/tmp/evil", "./a", "")


def archive(rng):
    """A tar file of up to eight members; one in three is damaged."""
    names = (
        *NAMES,
        *(
            text.replace("\0", "")
            for text in hostile_texts(50, rng.randrange(20))
            if "\ud800" not in text
        ),
    )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=rng.choice(("w", "w:gz", "w:xz"))) as tar:
        for _ in range(rng.randint(1, 8)):
            member = tarfile.TarInfo(rng.choice(rng.choice((NAMES, names))))
            member.type, member.linkname = rng.choice(TYPES), rng.choice(NAMES)
            content = b"evil" * (member.type == tarfile.REGTYPE)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data = bytearray(stream.getvalue())
    if rng.random() < 0.33:
        for _ in range(rng.randint(1, 10)):
            data[rng.randrange(min(len(data), 600))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.slow
def test_archives_of_any_content(tmp_path, rounds, count):
    for case in range(400 * rounds):
        place = tmp_path / str(case)
        (place / "inside").mkdir(parents=True)
        file = tmp_path / "case.tar"
        file.write_bytes(archive(random.Random(case)))
        with contextlib.suppress(*FAILURES), Progress(disable=True) as bar:
            unpack(file, place / "inside", ("",), bar)
        assert [path.name for path in place.iterdir()] == ["inside"], case
        assert not [path for path in place.rglob("*") if path.is_symlink()], case
    assert {path.name for path in tmp_path.iterdir()} == {
        "case.tar",
        *(str(case) for case in range(400 * rounds)),
    }
    count("archives", 400 * rounds)
