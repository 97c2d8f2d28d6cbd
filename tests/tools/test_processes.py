"""Two processes do what one does; what ends one of them ends the run, and leaves it to go on."""

import csv
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from segkit.training.listeners import pictures
from segkit.training.step import Step

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

ROOT = Path(__file__).parents[2]
# torchrun's own agent, but its workers are forks of what has imported all there is: no seconds lost
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["segkit.training.trainer", "pytest", "torch.distributed.run"])

PLAIN = {  # batch norm would see how a batch is cut
    "model.encoder": {"name": "vgg11", "width": 0.125},
    "model.decoder": {"name": "unet", "widths": [8, 8, 8, 8], "norm": "group"},
    "train.samples": 0,
}


def worker(tool, arguments, death, other):
    pictures.draw_curves = lambda *_: None  # most of the time of such a run
    if os.environ["RANK"] == "1":
        arguments = [other.get(argument, argument) for argument in arguments]
    if death and (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0"):
        steps = iter(range(1, death))

        def step(self, parts, original=Step.__call__):
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, parts)

        Step.__call__ = step
    sys.argv = [tool, *arguments, "--device", "cpu"]
    runpy.run_path(str(ROOT / tool), run_name="__main__")


def agent(command, port, restarts, death, other, output, cache):
    os.setsid()
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {"SEGKIT_CACHE": cache, "CUDA_VISIBLE_DEVICES": ""}
    os.chdir(ROOT)
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_backend="static",
        rdzv_configs={"rank": 0, "timeout": 60},
        max_restarts=restarts,
        monitor_interval=0.1,
        start_method="fork",
    )
    try:
        elastic_launch(launch, worker)(*command, death, other)
    except ChildFailedError as error:
        output.with_name("page").write_text(str(error))
        sys.exit(1)


@pytest.fixture
def together(tmp_path, free_port):
    """Run a tool in two processes; gives the exit code and what was said."""

    def run(tool, *arguments, restarts=0, death=0, other=None):
        output = tmp_path / "output"
        others = {str(key): str(value) for key, value in (other or {}).items()}
        values = (free_port, restarts, death, others, output, os.environ["SEGKIT_CACHE"])
        process = FORKS.Process(target=agent, args=((tool, [*map(str, arguments)]), *values))
        process.start()
        process.join(60)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"does not end:\n{output.read_text()}")
        return process.exitcode, output.read_text()

    return run


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr(pictures, "draw_curves", lambda *_: None)


@pytest.fixture
def five(tiny_set):
    """Leave five images to train on: the second step of 4 is one process' alone."""
    for kind in ("images", "masks"):
        (tiny_set.root / "train" / kind / "train_5.png").unlink()


def rows(run):
    return list(csv.DictReader((run / "metrics.csv").open()))


def numbers(run, name):
    return [float(row[name]) for row in rows(run)]


def checkpoint(run, name="last.pt"):
    return torch.load(run / "checkpoints" / name, weights_only=True)


def test_two_processes_count_what_one_counts(
    tiny_config, tiny_set, train, evaluate, together, tmp_path
):
    card = yaml.safe_load(tiny_set.card.read_text())
    images = sorted(tiny_set.root.glob("*/images/*.png"))
    for split, count in (("five", 5), ("seven", 7)):
        card["splits"][split] = {kind: f"{split}/{kind}" for kind in ("images", "masks")}
        for kind in ("images", "masks"):
            (tiny_set.root / split / kind).mkdir(parents=True)
            for image in images[:count]:
                source = image.parents[1] / kind / image.name
                shutil.copy(source, tiny_set.root / split / kind)
    tiny_set.card.write_text(yaml.safe_dump(card))
    assert train(tiny_config({"train.epochs": 3, "train.samples": 0})) == 0
    for split, count in (("five", 5), ("seven", 7)):
        arguments = [tmp_path / "run", "--split", split, "--json"]
        assert evaluate(*arguments, tmp_path / "alone.json") == 0
        code, said = together("tools/eval.py", *arguments, tmp_path / "two.json")
        assert code == 0, said
        assert said.count(" images/s") == 1  # one process talks
        alone, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("alone", "two"))
        assert two == alone
        assert two["images"] == count
        assert np.count_nonzero(two["confusion_matrix"]) > 3


def test_two_processes_train_as_one_does_and_take_over_from_it(
    five, tiny_config, train, together, tmp_path
):
    def config(name, batch_size):
        changes = {"run_dir": str(tmp_path / name), "data.batch_size": batch_size}
        return tiny_config({**PLAIN, **changes, "train.epochs": 2}, name)

    longer = ["--resume", "--override", "--set", "train.epochs=3"]
    alone, two = config("alone", 4), config("two", 2)
    assert train(alone) == 0
    shutil.copytree(tmp_path / "alone", tmp_path / "then_two")
    shutil.copytree(tmp_path / "alone", tmp_path / "straight")
    code, said = together("tools/train.py", config("then_two", 2), *longer)
    assert code == 0, said
    code, said = together("tools/train.py", two)
    assert code == 0, said
    shutil.copytree(tmp_path / "two", tmp_path / "then_alone")
    assert train(config("straight", 4), *longer) == 0
    assert train(config("then_alone", 4), *longer) == 0

    expected = numbers(tmp_path / "straight", "loss")
    assert numbers(tmp_path / "two", "loss") == pytest.approx(expected[:2], rel=1e-4)
    for run in ("two", "then_two", "then_alone"):
        count = len(rows(tmp_path / run))
        assert count == (2 if run == "two" else 3)
        assert numbers(tmp_path / run, "loss") == pytest.approx(expected[:count], rel=1e-3)
        # unlike its loss, a decision may flip at the border of two classes
        scores = numbers(tmp_path / "straight", "miou")[:count]
        assert numbers(tmp_path / run, "miou") == pytest.approx(scores, abs=0.02)
    names = checkpoint(tmp_path / "alone")["model"].keys()
    for name in ("last.pt", "best.pt"):
        assert checkpoint(tmp_path / "two", name)["model"].keys() == names

    # one process writes, and what one alone would
    log = (tmp_path / "two/train.log").read_text().splitlines()
    for start in ("model ", "device ", "epoch 1/2", "epoch 2/2", "done "):
        assert sum(line.startswith(start) for line in log) == 1
        assert sum(line.startswith(start) for line in said.splitlines()) <= 2
    assert said.count("epoch 1/2") == 1
    files = [
        {path.relative_to(tmp_path / run) for path in (tmp_path / run).rglob("*")}
        for run in ("alone", "two")
    ]
    assert files[0] == files[1]


def test_a_process_that_dies_ends_the_run(five, tiny_config, train, together, tmp_path):
    start = time.monotonic()
    config = tiny_config({**PLAIN, "train.epochs": 9})
    code, said = together("tools/train.py", config, death=6)
    assert code == 1, said
    assert time.monotonic() - start < 60
    assert len(rows(tmp_path / "run")) == 2
    others = ["train.epochs=3", "data.batch_size=4"]
    assert train(config, "--resume", "--override", "--set", *others) == 0
    assert len(rows(tmp_path / "run")) == 3


@pytest.mark.parametrize("death", [1, 6], ids=["at once", "in the third epoch"])
def test_started_anew_the_run_goes_on_from_its_last_checkpoint(
    death, five, tiny_config, train, together, tmp_path
):
    settings = {**PLAIN, "train.epochs": 4}
    code, said = together("tools/train.py", tiny_config(settings), restarts=1, death=death)
    assert code == 0, said
    log = (tmp_path / "run/train.log").read_text()
    done = [line.split(", ")[1] for line in log.splitlines() if line.startswith("run ")]
    again = "0 of 4 epochs done" if death == 1 else "2 of 4 epochs done"
    assert done == ["0 of 4 epochs done", again]
    straight = str(tmp_path / "straight")
    assert train(tiny_config({**settings, "run_dir": straight, "data.batch_size": 4})) == 0
    expected = numbers(tmp_path / "straight", "loss")
    assert numbers(tmp_path / "run", "loss") == pytest.approx(expected, rel=1e-3)


def test_a_mistake_is_told_without_a_traceback(five, tiny_config, together, tmp_path):
    code, said = together("tools/train.py", tiny_config({**PLAIN, "data.batch_size": 3}))
    assert code == 1
    [told] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "'train' has 5 images, but a step takes 6" in told
    assert "x 2 processes" in told
    assert "in train\n" not in said  # a line of the tool's own traceback
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["--set", "train.epocs=3"], ["--resume"]])
def test_a_mistake_that_all_make_is_told_once(arguments, tiny_config, together, tmp_path):
    code, said = together("tools/train.py", tiny_config(PLAIN), *arguments)
    assert code == 1
    assert said.count("error: ") == 1, said
    assert "\nTraceback" not in said


def test_a_mistake_that_the_second_process_alone_meets_is_told(
    tiny_config, tiny_set, together, tmp_path
):
    config = tiny_config({**PLAIN, "train.epochs": 2})
    code, said = together("tools/train.py", config, "--set", "train.epochs=1")
    assert code == 0, said
    cut = tiny_set.root / "val/images/val_1.png"  # the second process evaluates it
    before = cut.stat()
    data = bytearray(cut.read_bytes())
    data[len(data) // 2] ^= 255
    cut.write_bytes(data)
    os.utime(cut, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, said = together("tools/eval.py", tmp_path / "run")
    assert code == 1
    assert said.count(f"error: {cut}") == 1, said
    _, cause = (tmp_path / "page").read_text().split("Root Cause")  # torchrun's last words
    assert "rank      : 1 " in cause
    assert f"error: {cut}" in cause


ODD = """
import os
import segkit
import torch

@segkit.register("loss", "odd")
class Odd(torch.nn.Module):
    \"\"\"Fails in process 1.\"\"\"

    def forward(self, logits, target):
        loss = torch.nn.functional.cross_entropy(logits, target, ignore_index=255)
        if os.environ["RANK"] == "1":
            {fault}
        return loss
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said", "told"),
    [
        ("loss = loss * float('nan')", "not finite in epoch 1 at step 1 in process 1: ", 1),
        ("raise MemoryError", "process 1: memory is full (", 1),
        ("raise torch.cuda.OutOfMemoryError", "process 1: CPU with 1 thread has too little ", 1),
        ("raise KeyError('of mine')", "KeyError: 'of mine'", 0),
    ],
    ids=("nan", "memory", "device memory", "fault"),
)
def test_what_happens_to_one_process_alone_is_told_with_its_number(
    fault, said, told, tiny_config, together, tmp_path
):
    (tmp_path / "odd.py").write_text(ODD.format(fault=fault))
    config = tiny_config({**PLAIN, "train.epochs": 1, "train.loss": {"name": "odd"}})
    code, output = together("tools/train.py", config, "--import", tmp_path / "odd.py")
    assert code == 1
    # the other process may see the end of this one before torchrun stops it
    errors = output.replace("error: process 1 ended before the others; see what it said", "")
    assert errors.count("error: ") == told, output
    assert said in errors
    _, cause = (tmp_path / "page").read_text().split("Root Cause")  # torchrun's last words
    assert said in cause


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"train.clip_norm=1": "train.clip_norm=2"}, "train.clip_norm: 2.0 instead of 1.0"),
        ({"data": "less"}, "the number of images in 'train': 5 instead of 6"),
        ({"data": "changed"}, "the files in 'train': "),
    ],
    ids=str,
)
def test_processes_that_do_not_agree_do_not_start(
    other, said, tiny_config, tiny_set, together, tmp_path
):
    roots = {"data": tiny_set.root}
    for name in ("less", "changed"):
        roots[name] = shutil.copytree(tiny_set.root, tiny_set.root.with_name(name))
    for kind in ("images", "masks"):
        sorted((roots["less"] / "train" / kind).iterdir())[-1].unlink()
    image = roots["changed"] / "train/images/train_0.png"
    image.write_bytes(image.read_bytes()[:-1] + b"?")
    arguments = ["--data-root", tiny_set.root, "--set", "train.clip_norm=1"]
    swapped = {roots.get(one, one): roots.get(two, two) for one, two in other.items()}
    code, told = together("tools/train.py", tiny_config(PLAIN), *arguments, other=swapped)
    assert code == 1, told
    assert told.count(f"error: process 1 differs from process 0 in {said}") == 1, told
    assert "\nTraceback" not in told
    assert not (tmp_path / "run").exists()


@pytest.fixture
def torchrun(free_port, tmp_path):
    """Start a training under torchrun, and wait for its first checkpoint."""
    processes = []

    def start(config):
        run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
        process = subprocess.Popen(
            [*run, f"--master-port={free_port}", "tools/train.py", config, "--device", "cpu"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        processes.append(process)
        last = tmp_path / "run/checkpoints/last.pt"
        deadline = time.monotonic() + 60
        while not last.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def below(pid):
    """List the processes that a process has started, and those that they have, by their PIDs."""
    children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [pid for child in children for pid in below(child)]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["one rank", "group", "everyone"])
def test_stopped_by_a_signal_to_any_process_it_goes_on_to_the_same_bits(
    target, tiny_config, together, torchrun, tmp_path
):
    """With loading processes, which a job's end reaches too, and in mid-epoch."""
    settings = {
        **PLAIN,
        "data.batch_size": 1,
        "data.workers": 2,
        "data.repeat": 20,
        "train.schedule": {"name": "constant"},
        "train.epochs": 9999,
    }
    often = {"checkpoint.every": {"minutes": 1e-9}}
    straight = {"run_dir": str(tmp_path / "straight"), "data.workers": 0}
    process = torchrun(tiny_config({**settings, **often}))
    ranks = below(process.pid)[:2]
    workers = {pid for rank in ranks for pid in below(rank)}
    assert len(workers) >= 4
    if target == "group":
        os.killpg(process.pid, signal.SIGTERM)
    everyone = [*workers, *ranks, process.pid]
    for pid in {"one rank": ranks[1:], "group": [], "everyone": everyone}[target]:
        os.kill(pid, signal.SIGTERM)
    out, err = process.communicate(timeout=90)
    last = tmp_path / "run/checkpoints/last.pt"
    assert process.returncode != 0
    assert out.count(f"stopped and saved to {last}") == 1, out + err
    position = checkpoint(tmp_path / "run")["training"]["position"]
    assert 0 < position["step"] < 60
    longer = {**settings, "train.epochs": position["epoch"] + 2}
    for config, how in (
        (tiny_config(longer), ["--resume", "--override"]),
        (tiny_config({**longer, **straight}, "other"), []),
    ):
        code, said = together("tools/train.py", config, *how)
        assert code == 0, said
    assert numbers(tmp_path / "run", "loss") == numbers(tmp_path / "straight", "loss")
    weights, expected = (checkpoint(tmp_path / name)["model"] for name in ("run", "straight"))
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


@pytest.mark.slow
def test_a_stopped_process_ends_the_run_and_is_named(tiny_config, torchrun, tmp_path):
    settings = {**PLAIN, "data.batch_size": 1, "train.epochs": 9999, "train.timeout": 5}
    process = torchrun(tiny_config(settings))
    os.kill(below(process.pid)[1], signal.SIGSTOP)
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    [told] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told.startswith("error: process 1 did not answer for 5 s"), out + err


@pytest.mark.slow
def test_torchrun_ends_by_a_signal_with_all_saved(tiny_config, train, torchrun, tmp_path):
    config = tiny_config({**PLAIN, "train.epochs": 9999, "data.batch_size": 1})
    process = torchrun(config)
    last = tmp_path / "run/checkpoints/last.pt"
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out.count(f"stopped and saved to {last}") == 1, out + err
    assert f"torchrun --nproc_per_node=2 tools/train.py {tmp_path / 'run'} --resume" in out
    assert "Traceback" not in err.split("SignalException")[0].replace("Traceback", "", 1)
    saved = checkpoint(tmp_path / "run")["training"]
    position = saved["position"]
    steps = 3 * position["epoch"] + position["step"]
    assert saved["schedule"]["last_epoch"] == steps
    assert len(saved["random_states"]) == 2
    epochs = position["epoch"] + 1
    alone = ["--set", f"train.epochs={epochs}", "data.batch_size=2", "--resume", "--override"]
    assert train(config, *alone) == 0
    assert len(rows(tmp_path / "run")) == epochs
