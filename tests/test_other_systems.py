"""What other systems lack or do otherwise, played here: forks, homes, volumes, consoles."""

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segkit
from segkit.commands import main
from segkit.data import cached, parallel
from segkit.data.raster import read_raster
from segkit.invocation import again
from segkit.streets import SPLITS, generate
from segkit.training.listeners.run_folder import _git_commit

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("forks", ["unsafe", "missing"])
def test_where_forks_are_unsafe_threads_do_the_work(forks, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a process was forked")

    expected = list(parallel.parallel_map(lambda index: index**2, 150))
    if forks == "unsafe":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.delattr(os, "fork", raising=False)
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", refuse)
    assert list(parallel.parallel_map(lambda index: index**2, 150)) == expected
    assert expected == [index**2 for index in range(150)]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_calls_beside_each_other_keep_their_order(threads):
    taken = []

    def calls():
        for number in range(10):
            taken.append(number)
            yield lambda number=number: -number

    results = parallel.in_threads(calls(), threads)
    assert next(results) == 0
    assert len(taken) == threads + 1  # no more is taken ahead
    assert list(results) == [-number for number in range(1, 10)]


def test_an_error_of_a_call_comes_in_its_turn():
    results = parallel.in_threads([lambda: 1, lambda: 1 // 0, lambda: 3], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_without_a_home_results_are_computed_each_time(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SEGKIT_CACHE")
    monkeypatch.setattr(Path, "home", no_home)
    computed = []
    for number in range(2):
        assert cached.cached("kind", "state", lambda n=number: computed.append(n) or n) == number
    assert computed == [0, 1]


def test_streets_are_drawn_into_a_mounted_volume(tmp_path, monkeypatch):
    """Which can be neither renamed nor replaced, in a folder that may not be written to."""
    monkeypatch.setitem(SPLITS, "train", 2)
    monkeypatch.setitem(SPLITS, "val", 1)
    monkeypatch.setitem(SPLITS, "test", 1)
    generate(tmp_path / "expected")
    volume = tmp_path / "above" / "volume"
    volume.mkdir(parents=True)
    rename = os.replace

    def replace(source, target):
        assert volume in Path(source).parents
        assert volume in Path(target).parents
        rename(source, target)

    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == volume)
    monkeypatch.setattr(os, "replace", replace)
    generate(volume)

    def contents(top):
        return {path.relative_to(top): path.read_bytes() for path in top.rglob("*.png")}

    assert contents(volume) == contents(tmp_path / "expected")
    assert sorted(path.name for path in volume.iterdir()) == ["test", "train", "val"]
    assert os.listdir(volume.parent) == ["volume"]


def test_a_console_without_a_sign_shows_another(monkeypatch):
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii"))
    assert main(["runs", str(ROOT / "configs")]) in (0, 2)
    print("mIoU 76.8 ± 0.6", flush=True)
    assert b"mIoU 76.8 ? 0.6" in bytes_out.getvalue()


def test_hints_are_quoted_for_the_shell(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["segkit"])
    assert again("eval", "my runs/a") == "segkit eval 'my runs/a'"
    monkeypatch.setattr(sys, "platform", "win32")
    assert again("eval", "my runs/a") == 'segkit eval "my runs/a"'


def test_pillows_limit_stays_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with ThreadPoolExecutor(4) as pool:
        shapes = list(pool.map(lambda _: read_raster(path).pixels.shape, range(100)))
    assert set(shapes) == {(40, 50)}
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_the_commit_is_that_of_segkits_own_checkout(tmp_path, monkeypatch):
    """Installed in a user's environment, it lies within the user's checkout."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    for place, is_own in ((tmp_path, True), (tmp_path / "site-packages", False)):
        (place / "segkit").mkdir(parents=True)
        monkeypatch.setattr(segkit, "__file__", str(place / "segkit" / "__init__.py"))
        assert (_git_commit() is not None) == is_own


@pytest.mark.slow
def test_benchmarks_import_without_the_module_resource():
    blocked = "import sys; sys.modules['resource'] = None; import segkit.comparison.report"
    subprocess.run([sys.executable, "-c", blocked], check=True, cwd=ROOT)
