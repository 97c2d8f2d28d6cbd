"""Unpacking archives of any content: nothing is written outside, and no link is made."""

import io
import os
import random
import tarfile
from contextlib import suppress

import pytest
from hostile import hostile_texts
from rich.progress import Progress

from segkit.data.archives import unpack
from segkit.data.fetch import FAILURES

TYPES = (
    *(tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.CONTTYPE, b"z"),
)
NAMES = ("a", "a/b", "a/b/c", "d", "..", "../evil", "a/../../evil", "/tmp/evil", "./a", "")


def write(path, members):
    """Write a tar file of (name, type, target of the link)."""
    with tarfile.open(path, "w") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o777
            content = b"evil" if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def unpack_all(path, folder, wanted=("",)):
    folder.mkdir()
    with Progress(disable=True) as bar:
        unpack(path, folder, wanted, bar)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("seed", range(4))
def test_random_archives_write_nowhere_else(tmp_path, seed):
    rng = random.Random(seed)
    names = (*NAMES, *(t.replace("\0", "") for t in hostile_texts(100, seed)))
    unpacked = 0
    for number in range(60):
        members = [
            (rng.choice(rng.choice([NAMES, names])), rng.choice(TYPES), rng.choice(NAMES))
            for _ in range(rng.randint(1, 8))
        ]
        if number % 3 == 0:  # most archives would end at their first link
            members = [(name, tarfile.REGTYPE, "") for name, _, _ in members]
        place = tmp_path / str(number)
        (place / "out").mkdir(parents=True)
        write(place / "a.tar", [(n.encode(errors="replace").decode(), k, t) for n, k, t in members])
        with suppress(FAILURES):
            unpack_all(place / "a.tar", place / "out/in")
        assert sorted(os.listdir(place)) == ["a.tar", "out"]
        assert os.listdir(place / "out") == ["in"]
        assert not [path for path in (place / "out").rglob("*") if path.is_symlink()]
        unpacked += len(contents(place / "out"))
    assert unpacked > 20
    assert not os.path.lexists("/tmp/evil")


def test_the_way_around_python_s_filters(tmp_path):
    """CVE-2025-4517: links whose real path is too long to be resolved, and one through them."""
    deep = "d" * 247
    members, at = [], ""
    for letter in "abcdefghijklmnop":
        members.append((f"{at}{deep}", tarfile.DIRTYPE, ""))
        members.append((f"{at}{letter}", tarfile.SYMTYPE, deep))
        at += f"{deep}/"
    short = "/".join("abcdefghijklmnop")
    members.append((f"{short}/{'l' * 254}", tarfile.SYMTYPE, "../" * 16))
    members.append(("escape", tarfile.SYMTYPE, f"{short}/{'l' * 254}/../../evil"))
    members.append(("escape", tarfile.REGTYPE, ""))
    write(tmp_path / "a.tar", members)
    with pytest.raises(OSError, match="is a link or a device"):
        unpack_all(tmp_path / "a.tar", tmp_path / "in")
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "in"]


def test_what_is_not_wanted_may_be_anything(tmp_path):
    members = [
        ("set/a.png", tarfile.REGTYPE, ""),
        ("set/a.png", tarfile.REGTYPE, ""),
        ("set/empty", tarfile.DIRTYPE, ""),
        ("other", tarfile.SYMTYPE, "/etc"),
        ("set/._a.png", tarfile.REGTYPE, ""),
    ]
    write(tmp_path / "a.tar", members)
    unpack_all(tmp_path / "a.tar", tmp_path / "in", ("set/",))
    assert contents(tmp_path / "in") == {"set/a.png": b"evil"}
    assert (tmp_path / "in/set/empty").is_dir()
