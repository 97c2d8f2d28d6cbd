"""Runs that are killed, torn, out of disk or changed: what is left goes on, and ends the same."""

import csv
import itertools
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from outcomes import SETTINGS, assert_equal, outcome

from segkit.data.epoch_batches import EpochBatches
from segkit.training.listeners import pictures
from segkit.training.listeners.console import ConsoleLog
from segkit.training.step import Step

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

ROOT = Path(__file__).parents[2]
# forks of a process that has imported all there is: a start costs no seconds, and is a real one
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["segkit.training.trainer", "pytest"])

UNFORESEEN = [  # how often which function is called, on which file, before the end
    ("step", "", 1),
    ("save", "last.pt", 2),
    ("fsync", "", 3),
    ("replace", "previous.pt", 1),
    ("replace", "last.pt", 2),
    ("save", "best.pt", 1),
    ("replace", "best.pt", 1),
    ("replace", "metrics.jsonl", 1),
    ("replace", "metrics.csv", 1),
    ("step", "", 3),
]


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    """Spare the time that drawing takes, which is most of such a run."""
    monkeypatch.setattr("segkit.training.listeners.pictures.draw_curves", draw_nothing)


def draw_nothing(*_):
    pass


def die():
    os.killpg(0, signal.SIGKILL)


def die_at(what, name, count):
    """Kill this process at the so many-th call that is about a file, or about saying this."""
    calls = itertools.count(1)

    def is_time(*places):
        return any(name in str(place) for place in places) and next(calls) == count

    def step(self, parts, original=Step.__call__):
        if is_time(""):
            die()
        return original(self, parts)

    def save(content, path, original=torch.save):
        original(content, path)
        if is_time(path):
            os.truncate(path, path.stat().st_size // 2)
            die()

    def fsync(handle, original=os.fsync):
        original(handle)
        if is_time(""):
            die()

    def replace(source, target, original=os.replace):
        if is_time(target):
            die()
        original(source, target)

    def say(self, text, original=ConsoleLog.on_log):
        if is_time(text):
            die()
        original(self, text)

    if what == "step":
        Step.__call__ = step
    elif what == "say":
        ConsoleLog.on_log = say
    elif what == "save":
        torch.save = save
    else:
        setattr(os, what, {"fsync": fsync, "replace": replace}[what])


def child(arguments, output, cache, end, limit):
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # for loading; a fork's own is its server
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {"SEGKIT_CACHE": cache, "CUDA_VISIBLE_DEVICES": ""}
    os.chdir(ROOT)
    torch.set_num_threads(1)
    pictures.draw_curves = draw_nothing
    if end:
        die_at(*end)
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["tools/train.py", *arguments, "--device", "cpu"]
    runpy.run_path(str(ROOT / "tools/train.py"), run_name="__main__")


@pytest.fixture
def begin(tmp_path):
    """Begin tools/train.py in a process group of its own, to end early or not."""
    started = []

    def run(*arguments, end=None, limit=None):
        values = (list(map(str, arguments)), tmp_path / "output", os.environ["SEGKIT_CACHE"])
        process = FORKS.Process(target=child, args=(*values, end, limit))
        process.start()
        started.append(process)
        return process

    yield run
    for process in started:
        if process.is_alive():
            process.kill()
        process.join(10)


@pytest.fixture
def finish(begin, tmp_path):
    """Run tools/train.py; gives the exit code, negative for a signal, and what it said."""

    def run(*arguments, **how):
        process = begin(*arguments, **how)
        process.join(60)
        return process.exitcode, (tmp_path / "output").read_text()

    return run


@pytest.fixture
def straight(tiny_config, train, tmp_path):
    """What a run that nothing happened to ends with."""

    def run(**settings):
        path = tmp_path / "straight"
        changes = {**SETTINGS, **settings, "run_dir": str(path)}
        config = tiny_config({**changes, "checkpoint.every": {"epochs": 1}}, "straight")
        assert train(config) == 0
        return outcome(path)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_wherever_it_hurts_and_resumed_ends_the_same(
    workers, tiny_config, straight, finish, tmp_path
):
    config = tiny_config({**SETTINGS, "data.workers": workers})
    arguments = [config]
    for end in UNFORESEEN:
        assert finish(*arguments, end=end)[0] == -signal.SIGKILL, end
        if (tmp_path / "run/checkpoints/last.pt").exists():
            arguments = [config, "--resume"]
    code, said = finish(*arguments)
    assert code == 0, said
    assert_equal(outcome(tmp_path / "run"), straight())
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_resumed_ends_the_same(
    workers, tiny_config, straight, begin, finish, tmp_path
):
    config = tiny_config({**SETTINGS, "data.workers": workers, "train.epochs": 16})
    last = tmp_path / "run/checkpoints/last.pt"
    arguments, chance = [config], random.Random(workers)
    for _ in range(3):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = begin(*arguments)
        deadline = time.monotonic() + 30
        while not last.exists() or last.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.06))
        os.killpg(process.pid, signal.SIGKILL)
        process.join(10)
        assert process.exitcode == -signal.SIGKILL
        arguments = [config, "--resume"]
    code, said = finish(*arguments)
    assert code == 0, said
    assert_equal(outcome(tmp_path / "run"), straight(**{"train.epochs": 16}))


def test_killed_after_the_last_checkpoint_the_history_is_whole(
    tiny_config, finish, train, tmp_path
):
    config = tiny_config({"train.samples": 0})
    assert finish(config, end=("say", "epoch 2/2", 1))[0] == -signal.SIGKILL
    assert train(config, "--resume") == 0
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2"]
    assert not list((tmp_path / "run").rglob("*.tmp"))


def rows(run):
    return list(csv.DictReader((run / "metrics.csv").open()))


# Torn files


def cut(path):
    path.write_bytes(path.read_bytes()[:-2000])


def flip(path):
    """Change one bit of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + largest.file_size // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def finished(tiny_config, train, tmp_path):
    """A run of three epochs: its config and checkpoints."""
    config = tiny_config({**SETTINGS, "train.epochs": 3, "checkpoint.every": {"epochs": 1}})
    assert train(config) == 0
    return config, tmp_path / "run/checkpoints"


@pytest.mark.parametrize("harm", [cut, flip])
def test_a_torn_checkpoint_is_named_and_the_one_before_used(harm, finished, train, capsys):
    config, folder = finished
    expected = outcome(folder.parent)
    harm(folder / "last.pt")
    assert train(config, "--resume") == 0
    said = capsys.readouterr().out
    assert f"WARNING: {folder / 'last.pt'} is damaged" in said
    assert f"going on from {folder / 'previous.pt'}" in said
    assert "2 of 3 epochs done" in said
    assert_equal(outcome(folder.parent), expected)


def test_a_torn_checkpoint_never_takes_the_place_of_the_good_one(finished, finish, train):
    config, folder = finished
    expected = outcome(folder.parent)
    cut(folder / "last.pt")
    assert finish(config, "--resume", end=("replace", "last.pt", 1))[0] == -signal.SIGKILL
    assert train(config, "--resume") == 0
    assert_equal(outcome(folder.parent), expected)


def test_two_torn_checkpoints_are_one_sentence(finished, train, capsys):
    config, folder = finished
    cut(folder / "last.pt")
    flip(folder / "previous.pt")
    assert train(config, "--resume") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(folder / "previous.pt") in error
    assert "damaged" in error


# A full disk


@pytest.mark.parametrize("full", ["best.pt", "last.pt"])
def test_a_full_disk_ends_in_one_sentence_and_spoils_nothing(
    full, finished, finish, evaluate, train, tmp_path
):
    config, folder = finished
    if full == "best.pt":  # as if no epoch had been good so far
        content = torch.load(folder / "last.pt", weights_only=True)
        content["training"]["position"]["best_miou"] = -1.0
        torch.save(content, folder / "last.pt")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    size = len(before[full])
    others = ["--set", "train.epochs=4", "--override"]
    code, said = finish(config, "--resume", *others, limit=size - 1000)
    assert code == 2, said
    [line] = [line for line in said.splitlines() if "error" in line.lower()]
    assert line.startswith(f"error: cannot write {folder / full}: ")
    assert "Traceback" not in said
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert kept["last.pt"] == before["last.pt"]
    assert kept.keys() == before.keys()  # no temporary file either
    assert evaluate(tmp_path / "run") == 0
    assert evaluate(folder / "last.pt") == 0
    assert train(config, "--resume", *others) == 0
    assert len(rows(tmp_path / "run")) == 4


def test_a_log_that_cannot_be_written_is_one_sentence(tiny_config, train, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/train.log").symlink_to("/dev/full")
    assert train(tiny_config()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot write {tmp_path / 'run/train.log'}: ")
    assert error.count("\n") == 1


# Settings that have changed


def test_a_folder_with_a_run_is_refused_with_both_ways_out(finished, train, capsys):
    config, folder = finished
    before = (folder / "last.pt").read_bytes()
    (folder / "last.pt").unlink()  # as if killed between the two renames of a save
    for _ in range(2):
        assert train(config) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {folder.parent} already holds a run; ")
        assert "--resume" in error
        assert "--set run_dir=DIR" in error
        (folder / "last.pt").write_bytes(before)


def test_changed_settings_are_told_and_taken_if_wanted(finished, train, capsys, tmp_path):
    config, _ = finished
    constant = "train.schedule={name: constant}"
    others = ["--set", "train.optimizer.lr=0.0004", "train.epochs=5", constant]
    before = (tmp_path / "run/metrics.csv").read_bytes()
    assert train(config, "--resume", *others) == 2
    error = capsys.readouterr().err
    assert "train.optimizer.lr: 0.003 -> 0.0004" in error
    assert "train.epochs: 3 -> 5" in error
    assert "train.schedule.name: cosine -> constant" in error
    assert "--override" in error
    assert error.count("\n") == 1
    assert (tmp_path / "run/metrics.csv").read_bytes() == before
    assert train(config, "--resume", "--override", *others) == 0
    assert "changed  train.optimizer.lr: 0.003 -> 0.0004" in capsys.readouterr().out
    rates = [float(row["lr"]) for row in rows(tmp_path / "run")]
    assert rates[3:] == [0.0004, 0.0004]
    assert rates[:3] != rates[3:]


def test_the_new_rate_holds_from_the_first_step(tiny_config, train, tmp_path):
    constant = {"train.schedule": {"name": "constant"}, "checkpoint.every": {"epochs": 1}}
    config = tiny_config({**SETTINGS, **constant, "train.epochs": 1})
    assert train(config) == 0
    before = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)["model"]
    moved = {}
    for rate in (1e-12, 1e-3):
        shutil.copytree(tmp_path / "run", tmp_path / f"run{rate}")
        others = [f"train.optimizer.lr={rate}", "train.epochs=2", f"run_dir={tmp_path}/run{rate}"]
        assert train(config, "--resume", "--override", "--set", *others) == 0
        after = torch.load(tmp_path / f"run{rate}/checkpoints/last.pt", weights_only=True)["model"]
        names = [name for name in before if name.endswith("weight")]
        moved[rate] = max((after[name] - before[name]).abs().max().item() for name in names)
    assert moved[1e-12] < 1e-6 < 1e-4 < moved[1e-3]


def test_with_another_batch_size_the_epoch_goes_on_where_it_was(
    tiny_config, finish, train, monkeypatch, capsys
):
    config = tiny_config({**SETTINGS, "train.epochs": 1})
    assert finish(config, end=("step", "", 3))[0] == -signal.SIGKILL  # four of six images seen
    seen = []

    def take(self, parts, original=Step.__call__):
        seen.extend(name for part in parts for name in part.names)
        return original(self, parts)

    monkeypatch.setattr(Step, "__call__", take)
    others = ["--set", "data.batch_size=1"]
    assert train(config, "--resume", "--override", *others) == 0
    assert "changed  images in a step: 2 -> 1" in capsys.readouterr().out
    order = list(EpochBatches(6, 1))
    assert seen == [f"train_{index}" for [(_, index)] in order[4:]]


def test_settings_that_change_nothing_are_free(finished, train, tmp_path):
    config, _ = finished
    free = ["data.workers=1", "data.cache=ram", "checkpoint.every={minutes: 5}"]
    assert train(config, "--resume", "--set", *free) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"train.optimizer": {"name": "sgd", "lr": 0.01}},
        {"train.optimizer": {"name": "adam", "lr": 0.01}},
        {"model.encoder.frozen_stages": 2},
        {"train.ema": 0.0},
        {"data.batch_size": 4},
        {"train.accumulate": 3},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("backwards", [False, True], ids=["there", "back"])
def test_any_other_recipe_goes_on_or_is_one_sentence(
    change, backwards, tiny_config, train, tmp_path, capsys
):
    plain = {**SETTINGS, "train.epochs": 1, "checkpoint.every": {"epochs": 1}}
    before, after = {**plain, **change}, plain
    if not backwards:
        before, after = after, before
    assert train(tiny_config(before)) == 0
    code = train(tiny_config({**after, "train.epochs": 2}), "--resume", "--override")
    assert code in (0, 2)
    if code == 0:
        assert len(rows(tmp_path / "run")) == 2
    else:
        assert capsys.readouterr().err.startswith("error: ")


# Weights of another run


@pytest.mark.parametrize("where", ["", "checkpoints/best.pt"])
def test_another_decoder_starts_from_the_encoder_alone(
    where, finished, tiny_config, train, tmp_path, capsys
):
    _, folder = finished
    other = tmp_path / "other"
    config = tiny_config(
        {
            "run_dir": str(other),
            "train.init_from": str(tmp_path / "run" / where),
            "train.freeze_encoder_epochs": 1,  # keeps what was borrowed
            "train.epochs": 1,
        },
        "other",
    )
    assert train(config) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "started " in line]
    assert f"from {folder / 'best.pt'}" in line
    fresh, left = line.split("; fresh: ")[1].split("; left over there: ")
    assert "decoder." in fresh
    assert "decoder." in left
    assert "encoder." not in fresh + left
    assert line in (other / "train.log").read_text()
    source = torch.load(folder / "best.pt", weights_only=True)["model"]
    taken = torch.load(other / "checkpoints/last.pt", weights_only=True)["model"]
    names = [name for name in taken if name.startswith("encoder.")]
    assert all(torch.equal(taken[name], source[name]) for name in names)
    assert names
    # the one that goes on needs it no longer
    shutil.rmtree(tmp_path / "run")
    assert train(config, "--resume") == 0


def test_nothing_to_borrow_is_a_mistake(finished, tiny_config, train, tmp_path, capsys):
    changes = {"model.encoder.width": 0.25, "model.decoder": {"name": "unpool"}}
    other = {"run_dir": str(tmp_path / "other"), "train.init_from": str(tmp_path / "run")}
    assert train(tiny_config({**changes, **other})) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: train.init_from: no weight of ")
    assert not (tmp_path / "other").exists()
