"""Changed checkpoints, run folders, hub models, videos and exported files, in all commands."""

import contextlib
import pickle
import random
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from corpus_json import mutate as mutate_json
from corpus_tensors import save_mutated
from corpus_text import mutate as mutate_yaml
from memory import peak_kb

from segkit.commands import main
from segkit.config import load_config
from segkit.experiment import Experiment
from segkit.training.trainer import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
UNWRITABLE = (RuntimeError, pickle.PicklingError, ValueError, RecursionError, TypeError)
TINY = {
    "train.epochs": 1,
    "train.samples": 0,
    "model.encoder": {"name": "vgg11", "width": 0.03},
    "model.decoder": {"name": "unet", "widths": [4, 4, 4, 4]},
}


@pytest.fixture
def config(tiny_config):
    return tiny_config(TINY)


@pytest.fixture
def run(config, tmp_path):
    Trainer(Experiment.from_config(load_config(config)), tmp_path / "run").fit()
    return tmp_path / "run"


@pytest.fixture
def no_costs(monkeypatch):
    """Measuring a training step takes ten seconds, and no file from outside has a part in it."""
    monkeypatch.setattr(
        "segkit.comparison.results.measure_costs",
        lambda experiments: dict.fromkeys(experiments, (0.1, None)),
    )


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a command, which may write below `out` alone and ends in bounded words and memory."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    before = peak_kb()

    def run_command(*words):
        out.mkdir()
        known = set(tmp_path.rglob("*"))
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert code in (0, 1, 2), words
        assert len(said.err) < 20_000, words
        assert "\x1b[31m" not in said.out + said.err, words
        new = set(tmp_path.rglob("*")) - known
        assert all(path.is_relative_to(out) for path in new), (words, new)
        assert peak_kb() - before < 1_500_000, words  # kB
        shutil.rmtree(out)
        return code

    return run_command


def uses(model, other, image, config):
    """All that is done with a trained model."""
    return (
        ("eval", model, "--device", "cpu"),
        ("eval", model, "--report", "out/report", "--json", "out/a.json", "--device", "cpu"),
        ("predict", model, image, "--out", "out/masks", "--device", "cpu"),
        ("push", model, "user/model", "--dry-run", "out/folder", "--device", "cpu"),
        ("compare", model, other, "--out", "out/compare", "--device", "cpu"),
        ("train", config, "--set", f"train.init_from={model}", "run_dir=out/r", "--device", "cpu"),
    )


@pytest.mark.usefixtures("no_costs")
def test_changed_checkpoints_in_all_commands(run, config, tiny_set, call, tmp_path, rounds, count):
    best = run / "checkpoints" / "best.pt"
    content = torch.load(best, weights_only=True)
    other = shutil.copytree(run, tmp_path / "other")
    image = tiny_set.root / "val" / "images" / "val_0.png"
    commands = uses(run, other, image, config)
    exports = ("export", run, "--to", "torchscript", "--out", "out/files", "--images", "1")
    codes = [call(*words) for words in (*commands, exports)]
    assert codes == [0] * len(codes)
    done = 0
    for case in range(150 * rounds):
        try:
            save_mutated(content, 20_000 + case, best)
        except UNWRITABLE:
            continue
        call(*(exports if case % 15 == 0 else random.Random(case).choice(commands)))
        done += 1
    count("checkpoints in all commands", done)


@pytest.mark.usefixtures("no_costs")
def test_changed_runs_of_a_comparison(config, call, tmp_path, rounds, count):
    words = ["compare", config, "--seeds", 1, "--out", tmp_path / "compared", "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    (last,) = (tmp_path / "compared").rglob("last.pt")
    content = torch.load(last, weights_only=True)
    done = 0
    for case in range(80 * rounds):
        with contextlib.suppress(*UNWRITABLE):
            save_mutated(content, 30_000 + case, last)
            done += 1
        call(*words)
    count("runs of a comparison", done)


def test_changed_experiments_are_looked_at(config, tiny_set, call, rounds, count):
    """The other commands that read an experiment and its card."""
    files = {path: path.read_text("utf-8") for path in (config, tiny_set.card)}
    commands = (
        ("browse", config, "--count", 2, "--out", "out/a.png"),
        ("browse", config, "--count", 2, "--raw", "--split", "val", "--out", "out/a.png"),
        ("check-data", tiny_set.card, "--html", "out/page"),
        ("check-data", config),
        ("find-lr", config, "--steps", 3, "--out", "out/lr.png", "--device", "cpu"),
        ("summary", config, "--size", 32, 32),
    )
    for case in range(250 * rounds):
        rng = random.Random(case)
        for path, text in files.items():
            path.write_text(text, "utf-8")
        path = rng.choice([*files])
        changed = mutate_yaml(files[path], case)
        assert "builtin" not in changed  # a drawn data set would be drawn
        path.write_bytes(changed.encode("utf-8", "surrogatepass"))
        call(*rng.choice(commands))
    count("experiments and cards in other commands", 250 * rounds)


def test_changed_run_folders(run, call, rounds, count):
    files = {name: (run / name).read_text("utf-8") for name in ("env.json", "metrics.jsonl")}
    files["config.yaml"] = (run / "config.yaml").read_text("utf-8")
    settings = run / "config.yaml"
    commands = (
        ("runs", run.parent, "--json", "out/runs.json"),
        ("runs", run),
        ("train", run, "--resume", "--device", "cpu"),
        ("config", settings),
        ("browse", settings, "--count", 2, "--out", "out/a.png"),
        ("summary", settings, "--size", 32, 32),
    )
    for case in range(300 * rounds):
        rng = random.Random(case)
        for name, text in files.items():
            (run / name).write_text(text, "utf-8")
        words = rng.choice(commands)
        names = [*files] if words[0] in ("runs", "train") else ["config.yaml"]
        name = rng.choice(names)
        change = mutate_yaml if name == "config.yaml" else mutate_json
        (run / name).write_bytes(change(files[name], case).encode("utf-8", "surrogatepass"))
        call(*words)
    count("run folders in all commands", 300 * rounds)


@pytest.mark.usefixtures("no_costs")
def test_changed_models_of_the_hub(run, config, tiny_set, call, tmp_path, rounds, count):
    words = ["push", run, "user/model", "--dry-run", tmp_path / "model", "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    description = tmp_path / "model" / "config.json"
    text = description.read_text("utf-8")
    image = tiny_set.root / "val" / "images" / "val_0.png"
    commands = [
        (*words, *(("--data-root", tiny_set.root) if words[0] in ("eval", "push") else ()))
        for words in uses(description.parent, run, image, config)
    ]
    for case in range(150 * rounds):
        changed = mutate_json(text, case)
        description.write_bytes(changed.encode("utf-8", "surrogatepass"))
        call(*random.Random(case).choice(commands))
    count("models of the hub", 150 * rounds)


def damaged(data, rng):
    """Change single bytes, often of the head, and cut the rest off now and then."""
    torn = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        torn[rng.randrange(rng.choice((600, len(torn))))] = rng.randrange(256)
    return torn[: rng.choice((len(torn), len(torn), rng.randrange(len(torn))))]


def test_changed_videos(run, call, tmp_path, rounds, count):
    videos = {}
    for suffix, codec in ((".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "mp4v")):
        path = tmp_path / f"video{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (32, 24))
        for frame in np.random.default_rng(0).integers(0, 255, (4, 24, 32, 3), np.uint8):
            writer.write(frame)
        writer.release()
        videos[path] = path.read_bytes()
    for case in range(150 * rounds):
        rng = random.Random(case)
        path, whole = rng.choice([*videos.items()])
        path.write_bytes(damaged(whole, rng))
        call("predict", run, path, "--out", "out/masks", "--overlay", "--device", "cpu")
    count("videos", 150 * rounds)


def test_changed_exported_files(run, tiny_set, call, tmp_path, rounds, count):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    words = ["export", run, "--to", "onnx", "openvino", "--out", tmp_path / "files", "--images", 1]
    assert main([str(word) for word in words]) == 0
    file, graph = tmp_path / "files" / "model.onnx", tmp_path / "files" / "model.xml"
    model, graph_text = onnx.load(file), graph.read_text("utf-8")
    (entry,) = (entry for entry in model.metadata_props if entry.key == "segkit")
    text, held = entry.value, re.search(r"\{&quot;segkit[^\"]*", graph_text)[0]
    whole = file.read_bytes()
    image = tiny_set.root / "val" / "images" / "val_0.png"
    for case in range(300 * rounds):
        rng = random.Random(case)
        path = rng.choice((file, graph))
        if case % 4 == 0:  # bytes of the graph
            path.write_bytes(damaged(whole if path is file else graph_text.encode(), rng))
        elif path is file:
            with contextlib.suppress(ValueError):  # text that protobuf does not hold
                entry.value = mutate_json(text, case)
            onnx.save(model, file)
        else:
            new = mutate_json(text, case).replace("&", "&amp;").replace('"', "&quot;")
            changed = graph_text.replace(held, new)
            graph.write_bytes(changed.encode("utf-8", "surrogatepass"))
        call(
            *rng.choice(
                (
                    ("summary", path),
                    ("predict", path, image, "--out", "out/masks"),
                    ("eval", path),
                )
            )
        )
    count("exported files", 300 * rounds)
