"""The one atomic writer: whole files or none, and never through a planted link."""

import os
import secrets
import stat

import pytest
from hostile import hostile_texts

from segkit import files
from segkit.checkpoint import load_checkpoint
from segkit.data.raster import raster_size, read_raster
from segkit.errors import UserError
from segkit.files import append_line, below, remove_leftovers, replacing, write_file
from segkit.inference.video import Video


def test_a_file_appears_whole_with_the_usual_rights(tmp_path):
    umask = os.umask(0o027)
    try:
        write_file(tmp_path / "a.txt", "äöü")
    finally:
        os.umask(umask)
    assert (tmp_path / "a.txt").read_bytes() == "äöü".encode()
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupt_at_its_very_beginning_leaves_nothing(tmp_path, monkeypatch):
    close = os.close

    def interrupt(handle):
        close(handle)
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "close", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a.txt", "text")
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_the_file_before_may_be_kept(tmp_path):
    path, previous = tmp_path / "a.txt", tmp_path / "b.txt"
    for text in ("one", "two"):
        with replacing(path, previous=previous, durable=True) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), previous.read_text()) == ("two", "one")


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    (tmp_path / ".a.txt.segkit-tmp-guessed.txt").symlink_to(victim)
    with pytest.raises(UserError, match="cannot write"):
        write_file(tmp_path / "a.txt", "text")
    assert victim.read_text() == "precious"


def test_lines_are_appended_but_not_through_a_link(tmp_path):
    for line in ("one", "zwei ä"):
        append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_text("utf-8") == "one\nzwei ä\n"
    assert not (tmp_path / "log").stat().st_mode & 0o111
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(UserError, match=r"cannot write .*link"):
        append_line(tmp_path / "link", "three")
    assert (tmp_path / "log").read_text("utf-8") == "one\nzwei ä\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize(
    ("name", "read"),
    [
        *(
            (name, read)
            for name in ("a.png", "a.tif", "a.npy")
            for read in (read_raster, raster_size)
        ),
        *(("a.mp4", Video), ("a.pt", load_checkpoint)),
    ],
)
def test_a_pipe_is_refused_as_nothing_may_ever_come(name, read, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}.* it is no file, but"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("system", "held", "waits"), [("nt", 3, 3), ("nt", 999, 20), ("posix", 1, 0)]
)
def test_windows_waits_for_who_has_the_file_open(system, held, waits, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    slept, attempts, rename = [], iter(range(held)), os.replace

    def replace(source, target):
        if next(attempts, None) is not None:
            raise PermissionError(13, "The process cannot access the file")
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.os, "name", system)
    monkeypatch.setattr(files.time, "monotonic", lambda: 0.5 * len(slept))
    monkeypatch.setattr(files.time, "sleep", slept.append)
    if held == 3:
        write_file(path, "new")
    else:
        with pytest.raises(UserError, match=r"cannot write .*: The process cannot access the file"):
            write_file(path, "new")
    monkeypatch.undo()
    assert path.read_text() == ("new" if held == 3 else "old")
    assert len(slept) == pytest.approx(waits, abs=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_temporary_names_cannot_be_foreseen(tmp_path):
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "a.png") as temporary:
            names.add(temporary.name)
            assert temporary.suffix == ".png"  # for writers that go by it
    assert len(names) == 3


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    with replacing(tmp_path / "a.pt") as temporary:
        (tmp_path / temporary.name.replace("segkit-tmp-", "segkit-tmp-0")).touch()
    (tmp_path / ".other.tmp").touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.tmp", "a.pt"]


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*no/a\.txt: No such file"):
        write_file(tmp_path / "no/a.txt", "text")


def test_a_name_from_a_file_stays_below_its_folder(tmp_path):
    folder = tmp_path / "top/folder"
    refused = 0
    for text in hostile_texts(2000):
        try:
            path = below(folder, text)
        except UserError:
            refused += 1
            continue
        assert os.path.normpath(path) == os.path.normpath(folder) or os.path.normpath(
            path
        ).startswith(f"{folder}{os.sep}")
    assert 200 < refused < 1900
    for name in ("a.png", "a/b.png", "..a", "a..b/c..", "~", "-", "a b"):
        assert below(folder, name) == folder / name


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    path = tmp_path / f"{'a' * 251}.txt"
    write_file(path, "half a character: \udcff")
    assert path.read_bytes() == b"half a character: ?"
