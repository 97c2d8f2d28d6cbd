"""What the system refuses at any look at a path: one sentence, exit code 2, nothing torn."""

import builtins
import errno
import io
import os
import random
import shutil

import pytest

CALLS = ("stat", "lstat", "scandir", "listdir", "mkdir", "open", "replace", "access")
REASONS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS)


class Refusals:
    """Lets one look at a path below a folder fail: the one of this number."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.seen, self.number, self.reason = str(folder), 0, None, 0
        for module, names in ((os, CALLS), (io, ["open"]), (builtins, ["open"])):
            for name in names:
                monkeypatch.setattr(module, name, self.guarded(getattr(module, name)))

    def guarded(self, function):
        def call(*arguments, **options):
            path = arguments[0] if arguments else None
            if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folder):
                self.seen += 1
                if self.seen == self.number:
                    raise OSError(self.reason, os.strerror(self.reason), str(path))
            return function(*arguments, **options)

        return call

    def arm(self, number, reason):
        self.seen, self.number, self.reason = 0, number, reason


@pytest.fixture
def commands(run_dir, tiny_config, tiny_set, tmp_path):
    """Commands whose every look at a path may fail."""
    config = tiny_config({"train.epochs": 1, "run_dir": str(tmp_path / "other")}, "other")
    images, cpu = tiny_set.root / "val/images", ("--device", "cpu")
    return {
        "config": ("config", config, "--json", tmp_path / "config.json"),
        "check-data": ("check-data", config, "--html", tmp_path / "page.html"),
        "eval": ("eval", run_dir, "--report", tmp_path / "report", *cpu),
        "predict": ("predict", run_dir, images, "--out", tmp_path / "masks", *cpu),
        "train": ("train", config, *cpu),
        "browse": ("browse", config, "--out", tmp_path / "sheet.png"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config", "check-data", "eval", "predict", "train", "browse"])
def test_any_refusal_is_a_sentence(name, commands, tool, tmp_path, monkeypatch, capsys):
    refusals, rng = Refusals(tmp_path, monkeypatch), random.Random(0)
    assert tool(*commands[name]) == 0
    total = refusals.seen
    assert total > 5
    told = []
    for number in sorted(rng.sample(range(1, total + 1), min(total, 40))):
        capsys.readouterr()
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        refusals.arm(number, rng.choice(REASONS))
        code = tool(*commands[name])
        refusals.arm(None, 0)
        error = capsys.readouterr().err
        assert code in (0, 1, 2), number
        assert "Traceback" not in error
        assert (code == 2) == error.startswith("error: "), error
        told += [error] * (code == 2)
    assert len(set(told)) > 3
    assert not list(tmp_path.rglob("*segkit-tmp*"))


@pytest.mark.parametrize("name", ["check-data", "train"])
def test_a_link_to_itself_is_a_sentence(name, tool, tiny_config, tmp_path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    given = ("--set", f"run_dir={loop}") if name == "train" else ("--data-root", loop)
    assert tool(name, tiny_config(), *given) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(loop) in error


def test_a_folder_that_cannot_be_read_is_not_left_out(tool, run_dir, tiny_set, tmp_path, capsys):
    hidden, scandir = tiny_set.root / "val/images/hidden", os.scandir
    hidden.mkdir()

    def refuse(path):
        if os.fspath(path) == str(hidden):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        for command in (
            ("eval", run_dir),
            ("predict", run_dir, tiny_set.root / "val", "--out", tmp_path / "out"),
            ("train", run_dir, "--resume"),
        ):
            assert tool(*command) == 2
            told = f"error: cannot read the folder {hidden}: Permission denied; mend that"
            assert capsys.readouterr().err.startswith(told)
    assert not (tmp_path / "out").exists()
