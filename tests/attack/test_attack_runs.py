"""Trainings that are killed, starved, or lose their folders, at random moments."""

import hashlib
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from outcomes import SETTINGS, assert_equal, outcome
from PIL import Image
from ranks import as_rank
from torch.distributed import TCPStore

from segkit.checkpoint import load_checkpoint
from segkit.commands import main

if sys.platform != "linux":
    pytest.skip("looks into /proc", allow_module_level=True)
from forked import Command

pytestmark = [pytest.mark.slow, pytest.mark.fork]
EPOCHS = 12
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOPPED = {128 + number for number in SIGNALS}


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def config_of(tiny_config, run):
    """Write a training that is quick and whose checkpoints are many."""

    def write(workers, **others):
        settings = {**SETTINGS, "train.epochs": EPOCHS, "data.workers": workers}
        return tiny_config({**settings, "run_dir": str(run), **others})

    return write


@pytest.fixture
def expected(tiny_config, tmp_path):
    """What a run that nothing happens to ends with."""
    place = tmp_path / "straight"
    settings = {**SETTINGS, "train.epochs": EPOCHS, "run_dir": str(place)}
    config = tiny_config({**settings, "checkpoint.every": {"epochs": 1}}, "straight")
    assert main(["train", str(config), "--device", "cpu"]) == 0
    return outcome(place)


def train(config, run, tmp_path, said="said", **how):
    resume = ["--resume"] if any(run.glob("checkpoints/*.pt")) else []
    return Command(["train", config, *resume, "--device", "cpu"], tmp_path / said, **how)


def saved_at(run):
    """When the last checkpoint was written; None if there is none."""
    try:
        return (run / "checkpoints/last.pt").stat().st_mtime_ns
    except OSError:
        return None


def in_training(command, run, chance):
    """Wait until the run has been written to, and a random time more."""
    before = saved_at(run)
    deadline = time.monotonic() + 30
    while command.process.is_alive() and time.monotonic() < deadline:
        if saved_at(run) not in (before, None):  # between two renames there is none
            break
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.15))


def files_of(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_signals_at_any_moment(config_of, expected, run, tmp_path, rounds, count):
    """To one process, to all, to a loading process; at the start, in a step, in a save."""
    chance, sent = random.Random(0), 0
    while sent < 24 * rounds:
        shutil.rmtree(run, ignore_errors=True)
        config = config_of(chance.choice([0, 2]))
        for _ in range(8):
            command = train(config, run, tmp_path)
            if chance.random() < 0.3:
                time.sleep(chance.uniform(0, 0.5))
            else:
                in_training(command, run, chance)
            number = chance.choice(SIGNALS)
            others = [pid for pid in command.members() if pid != command.pid]
            if others and chance.random() < 0.2:  # one that loads
                os.kill(chance.choice(others), signal.SIGKILL)
                number, allowed = None, {0, 1, 2}
            else:
                command.signal(number, group=chance.random() < 0.5)
                allowed = {0, -number} | STOPPED
                if chance.random() < 0.2:
                    command.signal(number)
            sent += 1
            if number == signal.SIGKILL:
                command.signal(number, group=True)  # as a scheduler does, and a console cannot
            code, said = command.wait()
            assert code in allowed, (number, code, said)
            if (run / "checkpoints/last.pt").exists():
                load_checkpoint(run / "checkpoints/last.pt")
            if code == 0 and f"epoch {EPOCHS}/{EPOCHS}" in said:
                break
        code, said = train(config, run, tmp_path).wait()
        assert code in (0, 2), said  # 2: it was done, and there is nothing to resume
        assert_equal(outcome(run), expected)
        assert not list(run.rglob("*.tmp"))
    count("signals", sent)


# Ranks

TOGETHER = {  # batch norm would see how a batch is cut
    **SETTINGS,
    "model.encoder": {"name": "vgg11", "width": 0.125},
    "model.decoder": {"name": "unet", "widths": [8, 8, 8, 8], "norm": "group"},
    "train.epochs": EPOCHS,
    "train.timeout": 3,
}


@pytest.fixture
def together(tmp_path):
    """Start two processes of one training as torchrun does, whose store outlives them."""
    stores = []

    def start(config, run):
        stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        told = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
        return [
            train(
                config,
                run,
                tmp_path,
                said=f"said{rank}",
                environment={**told, **as_rank(rank, stores[-1].port)},
            )
            for rank in range(2)
        ]

    return start


def test_ranks_that_are_lost(tiny_config, together, run, tmp_path, rounds, count):
    """One is killed, stopped, or asked to stop: the other ends, too, and says why."""
    straight = tmp_path / "straight"
    config = tiny_config({**TOGETHER, "run_dir": str(straight)}, "straight")
    assert [command.wait().code for command in together(config, straight)] == [0, 0]
    expected, chance = outcome(straight), random.Random(6)
    for number in range(3 * rounds):
        shutil.rmtree(run, ignore_errors=True)
        workers = chance.choice([0, 2])
        config = tiny_config({**TOGETHER, "run_dir": str(run), "data.workers": workers})
        commands = together(config, run)
        in_training(commands[0], run, chance)
        lost = chance.randrange(2)
        how = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)[number % 3]
        commands[lost].signal(how)
        code, said = commands[1 - lost].wait()
        what = (how, lost, code, said)
        if how == signal.SIGSTOP:
            commands[lost].signal(signal.SIGKILL)
        if how == signal.SIGTERM:
            assert code in {0, *STOPPED}, what  # one that took no signal does not know which
            assert commands[lost].wait().code == (code and 128 + how), what
        elif code != 0:  # it had been done before that
            assert code == 2, what
            assert f"process {lost} " in said, what
            assert said.count("error:") == 1, what
            assert commands[lost].wait().code == -signal.SIGKILL, what
        if code != 0:
            assert [command.wait().code for command in together(config, run)] == [0, 0], what
        assert_equal(outcome(run), expected)
    count("ranks", 3 * rounds)


# Folders


def remove(path):
    shutil.rmtree(path, ignore_errors=True)


def move(path):
    path.rename(path.with_name(path.name + " elsewhere"))


def replace_by_file(path):
    remove(path)
    path.write_bytes(b"")


def replace_by_folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def empty(path):
    path.write_bytes(b"")


def halve(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def enlarge(path):
    with Image.open(path) as image:
        larger = image.resize((image.width * 2, image.height))
    larger.save(path)


def relabel(path):
    with Image.open(path) as mask:
        other = mask.point(lambda _: 77)
    other.save(path)


RUN_ACTIONS = [
    (remove, ""),
    (move, ""),
    (replace_by_file, ""),
    (remove, "checkpoints"),
    (move, "checkpoints"),
    (replace_by_file, "checkpoints"),
    (remove, "samples"),
    (replace_by_file, "samples"),
    (replace_by_folder, "curves.png"),
    (replace_by_folder, "metrics.csv"),
    (replace_by_folder, "metrics.jsonl"),
    (replace_by_folder, "checkpoints/last.pt"),
]
DATA_ACTIONS = [
    (remove, "."),
    (move, "."),
    (move, "train/images"),
    (replace_by_file, "val/masks"),
    *((action, "train/images/*") for action in (empty, halve, enlarge, Path.unlink)),
    *((action, "train/masks/*") for action in (empty, halve, enlarge, relabel, Path.unlink)),
    *((action, "val/images/*") for action in (empty, Path.unlink)),
    *((action, "val/masks/*") for action in (halve, relabel)),
]


def act(action, root, name):
    """Do something to what a pattern names, unless the training has just made or moved it."""
    paths = sorted(root.glob(name)) if "*" in name else [root / name if name != "." else root]
    for path in paths:
        try:
            action(path)
        except OSError:
            continue


def test_run_folders_that_become_something_else(config_of, run, tiny_set, tmp_path, rounds, count):
    chance = random.Random(1)
    data = files_of(tiny_set.root)
    for _ in range(rounds):
        for action, name in RUN_ACTIONS:
            for path in tmp_path.glob("run*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            config = config_of(chance.choice([0, 2]), **{"train.samples": 1})
            command = train(config, run, tmp_path)
            in_training(command, run, chance)
            act(action, run, name)
            code, said = command.wait()
            what = (action.__name__, name, code, said)
            assert code in (0, 2), what
            assert code == 0 or said.count("error:") == 1, what
            if code == 0 and (run / "checkpoints/last.pt").is_file():
                assert load_checkpoint(run / "checkpoints/last.pt")["epoch"] == EPOCHS, what
            assert files_of(tiny_set.root) == data, what
    count("run folders", rounds * len(RUN_ACTIONS))


def test_data_that_changes_in_training(config_of, expected, run, tiny_set, tmp_path, rounds, count):
    chance = random.Random(2)
    kept = tmp_path / "kept"
    shutil.copytree(tiny_set.root, kept)
    for number in range(rounds):
        for action, name in DATA_ACTIONS:
            remove(run)
            for path in tmp_path.glob("tiny*"):
                if path.is_dir():
                    remove(path)
            shutil.copytree(kept, tiny_set.root)
            config = config_of(chance.choice([0, 2]))
            command = train(config, run, tmp_path)
            in_training(command, run, chance)
            act(action, tiny_set.root, name)
            code, said = command.wait()
            what = (number, action.__name__, name, code, said)
            assert code in (0, 2), what
            assert code == 0 or said.count("error:") == 1, what
            if code == 2 and chance.random() < 0.3:
                remove(tiny_set.root)
                shutil.copytree(kept, tiny_set.root)
                assert train(config, run, tmp_path).wait().code == 0
                assert_equal(outcome(run), expected)
    count("data", rounds * len(DATA_ACTIONS))


# Limits


def limit(name, value):
    import resource

    resource.setrlimit(getattr(resource, name), (value, value))


def shared_memory(size):
    """Give this process a /dev/shm of its own; None: one that nobody writes to."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
    options = f"size={size or 65536}".encode()
    assert libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0 if size else 1, options) == 0


def starved(config_of, run, tmp_path, expected, chance, prepares, allowed):
    for prepare in prepares:
        remove(run)
        config = config_of(chance.choice([0, 2]))
        code, said = train(config, run, tmp_path, prepare=prepare).wait()
        assert code in allowed, (prepare, code, said)
        assert code == 0 or said.count("error:") == 1, (prepare, said)
        if code != 0:
            assert train(config, run, tmp_path).wait().code == 0, prepare
        assert_equal(outcome(run), expected)


def test_full_disks(config_of, run, tmp_path, expected, rounds, count):
    """A file that may not grow is a disk without room, but for the error's number."""
    chance = random.Random(3)
    sizes = [int(10 ** chance.uniform(2.0, 6.3)) for _ in range(5 * rounds)]
    prepares = [partial(limit, "RLIMIT_FSIZE", size) for size in sizes]
    starved(config_of, run, tmp_path, expected, chance, prepares, (0, 2))
    count("full disks", len(sizes))


def test_few_open_files(config_of, run, tmp_path, expected, rounds, count):
    chance = random.Random(4)
    numbers = [chance.randint(18, 64) for _ in range(5 * rounds)]
    prepares = [partial(limit, "RLIMIT_NOFILE", number) for number in numbers]
    starved(config_of, run, tmp_path, expected, chance, prepares, (0, 2))
    count("few open files", len(numbers))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may mount")
def test_small_shared_memory(config_of, run, tmp_path, expected, rounds, count):
    chance = random.Random(5)
    sizes = [None, 65536, *(int(10 ** chance.uniform(4.8, 6.3)) for _ in range(4 * rounds))]
    prepares = [partial(shared_memory, size) for size in sizes]
    starved(config_of, run, tmp_path, expected, chance, prepares, (0, 2))
    count("small shared memory", len(sizes))
