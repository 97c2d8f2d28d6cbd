"""Every command and snippet in the documentation, checked or run."""

import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import segkit
from segkit import shipped, streets
from segkit.commands import COMMANDS, build_parser, load, main
from segkit.comparison import results
from segkit.config import load_config
from segkit.config.explain import list_keys
from segkit.hub import is_address
from segkit.registry import unregister
from segkit.testing import check_decoder, check_loss

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "configs/*.md", "datasets/*.md", "tools/*.md", "segkit/**/*.md")
    for path in ROOT.glob(pattern)
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")


def blocks(page, language):
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def commands(page):
    """List the lines of shell, without comments."""
    lines = [line for code in blocks(page, "sh") for line in code.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


SHELL = [(page, line) for page in PAGES for line in commands(page)]
PYTHON = [(page, code) for page in PAGES for code in blocks(page, "python")]


def as_ids(value):
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else value[:50].strip()


@pytest.mark.parametrize(("page", "line"), SHELL, ids=as_ids)
def test_every_command_is_valid(page, line):
    words = shlex.split(line, comments=True)
    if words[0] == "torchrun":
        words = words[words.index("segkit") :]
    if words[0] != "segkit":
        assert words[0] in ("pip", "python", "make"), line
        return
    arguments = build_parser().parse_args(words[1:])
    assert arguments.command in COMMANDS


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=as_ids)
def test_every_snippet_compiles(page, code):
    compile(code, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=as_ids)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if anchor:
            text = file.read_text("utf-8")
            titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles]
            assert anchor[1:] in slugs, anchor


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


def test_the_page_of_keys_is_up_to_date(capsys):
    load("config").run(build_parser().parse_args(["config", "--keys"]))
    listed = blocks(ROOT / "configs/README.md", "text")[-1]
    assert listed == capsys.readouterr().out
    assert len(list_keys()) > 50


def test_every_command_has_its_part_of_the_page():
    titles = re.findall(r"^## (\S+)$", (ROOT / "tools/README.md").read_text("utf-8"), re.M)
    assert sorted(titles) == sorted(COMMANDS)


# What runs


class Discs(Dataset):
    """Bright discs of class 1 on dark noise, as bytes."""

    def __init__(self, count, size=32, seed=0):
        generator = np.random.default_rng(seed)
        y, x = np.mgrid[:size, :size]
        centres = generator.uniform(8, size - 8, (count, 2))
        self.masks = [(np.hypot(y - cy, x - cx) < 8).astype(np.uint8) for cy, cx in centres]
        noise = generator.integers(0, 60, (count, size, size, 3))
        self.images = [
            (n + 150 * m[..., None]).astype(np.uint8)
            for n, m in zip(noise, self.masks, strict=True)
        ]

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        return self.images[index], self.masks[index]


def snippet(page, start):
    """Find the one snippet of a page that starts so."""
    [code] = [code for code in blocks(ROOT / page, "python") if code.startswith(start)]
    return code


def test_the_python_door(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    discs = Discs(8)
    normalised = [
        (torch.rand(1, 3, 32, 32), torch.from_numpy(mask)[None].long()) for mask in discs.masks
    ]
    names = ["a", "b", "c", "d", "e"]
    given = {
        "train_set": discs,
        "val_set": Discs(2, seed=1),
        "my_loss": lambda logits, target: torch.nn.functional.cross_entropy(logits, target),
        "loader": normalised,
        "class_names": names,
        "image": discs.images[0],
    }
    code = snippet("README.md", "import segkit\n\nmodel").replace(
        'weights="imagenet"', "weights=None"
    )
    exec(code, given)
    assert given["mask"].shape == (32, 32)
    out = capsys.readouterr().out
    assert "epoch 3/3" in out
    assert all(name in out for name in names)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_your_own(tmp_path, monkeypatch):
    for file, page in (("my_parts", 0), ("my_decoder", 1)):
        start = f"# {file}.py"
        (tmp_path / f"{file}.py").write_text(snippet("segkit/decoders/README.md", start))
        monkeypatch.syspath_prepend(tmp_path)
        module = importlib.import_module(file)
        kind, name = (("loss", "brier"), ("decoder", "sum"))[page]
        part = module.Brier if kind == "loss" else module.SumDecoder
        try:
            (check_loss if kind == "loss" else check_decoder)(part)
        finally:
            unregister(kind, name)


def test_a_decoder_on_another_backbone():
    pytest.importorskip("timm")
    code = snippet("segkit/decoders/README.md", "import timm")
    given = {}
    exec(code.replace("pretrained=True", "pretrained=False"), given)
    assert given["logits"].shape == (1, 19, 181, 221)


def test_the_smallest_experiment(tmp_path):
    [code] = [c for c in blocks(ROOT / "configs/README.md", "yaml") if c.startswith("# mine.yaml")]
    (tmp_path / "mine.yaml").write_text(code)
    assert load_config(tmp_path / "mine.yaml").train.epochs == 10


@pytest.mark.slow
def test_a_decoder_in_another_trainer(capsys):
    torch.manual_seed(0)
    code = snippet("segkit/decoders/your_trainer.md", "import torch\n")
    assert len([line for line in code.splitlines() if line]) < 40
    given = {}
    exec(code, given)
    assert given["scores"].miou > 0.8
    assert "red" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", ["datasets/own_photos.md", "datasets/grey_slices.md"])
def test_guides_walk_from_nothing_to_a_picture(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "INSTALLED", tmp_path / "package")  # data lies where the user is
    monkeypatch.setattr(streets, "SPLITS", {"train": 48, "val": 8, "test": 24})
    shutil.copytree(
        ROOT / "datasets", tmp_path / "package/datasets", ignore=lambda f, _: ["streets"]
    )
    small = ["train.epochs=1", "data.repeat=1", "data.workers=0", "model.encoder.weights=null"]
    small += ["model.encoder.width=0.125", "model.decoder.widths=[8,8,8,8]"]
    for line in commands(ROOT / page):
        words = shlex.split(line, comments=True)
        if words[0] == "python":
            exec(snippet(page, f"# {words[1]}"), {})
        else:
            assert words[0] == "segkit"
            extra = ["--set", *small] if words[1] == "train" else []
            assert main([*words[1:], *extra]) in ((0, 1) if words[1] == "check-data" else (0,)), (
                line
            )
    assert Path("report/report.html").is_file()
    overlays = sorted(Path("predicted").glob("*_overlay.png"))
    assert len(overlays) > 20
    assert np.array(Image.open(overlays[0])).std() > 5


class FakeMLflow(ModuleType):
    """Records what it is called with."""

    def __init__(self):
        super().__init__("mlflow")
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


def test_a_listener_of_your_own(monkeypatch):
    mlflow = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    given = {"__name__": "watch"}
    exec(snippet("segkit/training/listeners/README.md", "# watch.py"), given)
    model = torch.nn.Conv2d(3, 2, 3, padding=1)
    experiment = segkit.Experiment(
        model, Discs(8), Discs(2), optimizer={"name": "sgd", "lr": 0.1}, epochs=2
    )
    history = segkit.Trainer(experiment, listeners=[given["ToMLflow"]()]).fit()
    names = [name for name, _, _ in mlflow.calls]
    assert names == ["start_run", "log_params", "log_metrics", "log_metrics", "end_run"]
    _, (logged,), options = mlflow.calls[3]
    assert options == {"step": 2}
    assert logged["miou"] == history[1]["miou"]
    assert logged["iou_1"] == history[1]["iou/1"]
    assert mlflow.calls[-1][1] == ("FINISHED",)


def runs_elsewhere(words):
    """Return whether a command needs the network, another package or minutes: tested elsewhere."""
    uploads = words[0] == "push" and "--dry-run" not in words
    exports = words[0] == "export" or any("exported/" in word for word in words)
    elsewhere = words[0] in ("fetch-data", "benchmark", "similar")
    return uploads or exports or elsewhere or any(map(is_address, words))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Lay out all that the pages speak of, with tiny experiments under the shipped names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(shipped, "INSTALLED", tmp_path / "package")
    monkeypatch.setattr(streets, "SPLITS", {"train": 8, "val": 10, "test": 10})
    # measuring takes most of a comparison's time, and tests/tools/test_compare.py sees to it
    monkeypatch.setattr(results, "measure_costs", lambda tried: dict.fromkeys(tried, (0.1, 1000)))
    shutil.copytree(ROOT / "datasets", "package/datasets", ignore=lambda f, _: ["streets"])
    Path("package/configs").mkdir()
    for path in (ROOT / "configs").glob("*.yaml"):
        text = re.sub(r"^  epochs: .*$", "  epochs: 1", path.read_text(), flags=re.M)
        text = re.sub(r"^    name: (vgg\w+)$", r"    name: \1\n    width: 0.0625", text, flags=re.M)
        text = re.sub(r"widths: \[[\d, ]+\]", lambda m: re.sub(r"\d+", "4", m[0]), text)
        (Path("package/configs") / path.name).write_text(text.replace("workers: 2", "workers: 0"))
    discs = Discs(12, size=48)
    folders = ("photos", "new_photos", "more/below", "cells/images", "masks", "cells/masks")
    for folder in folders:
        Path(folder).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(discs.images, discs.masks, strict=True)):
            pixels = 255 * mask if "masks" in folder else image
            pixels = image[..., 0] if folder == "cells/images" else pixels
            suffix = "jpg" if folder == "more/below" else "png"
            Image.fromarray(pixels).save(f"{folder}/{number}.{suffix}")
    video = cv2.VideoWriter("drive.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 5, (48, 48))
    for image in discs.images[:3]:
        video.write(image)
    video.release()
    for name in ("my_parts", "my_decoder"):
        Path(f"{name}.py").write_text(snippet("segkit/decoders/README.md", f"# {name}.py"))
    [mine] = [c for c in blocks(ROOT / "configs/README.md", "yaml") if c.startswith("# mine.yaml")]
    mine = mine.replace("vgg16_bn", "vgg16_bn, width: 0.0625").replace("epochs: 10", "epochs: 1")
    Path("mine.yaml").write_text(mine)
    yield tmp_path
    unregister("loss", "brier")
    unregister("decoder", "sum")


@pytest.mark.slow
def test_every_command_runs(world):
    pages = ["README.md", "tools/README.md", "configs/README.md"]
    pages += ["segkit/decoders/README.md", "segkit/export/README.md"]
    ran = 0
    for line in [line for page in pages for line in commands(ROOT / page)]:
        words = shlex.split(line, comments=True)
        if words[0] != "segkit" or runs_elsewhere(words[1:]) or "--overfit" in words:
            continue
        words = [w for word in words[1:] for w in expanded(word)]
        if words[0] == "train" and "--resume" not in words:  # a second run into a folder is refused
            named = [word.removeprefix("run_dir=") for word in words if word.startswith("run_dir=")]
            shutil.rmtree(*named or [f"runs/{Path(words[1]).stem}"], ignore_errors=True)
        if words[1:2] in (["leaves/leaves.yaml"], ["membranes/membranes.yaml"]):
            shrink(Path(words[1]))
        if words[:2] == ["compare", "runs/mine"]:
            for name in ("mine", "yours"):
                shutil.copytree("runs/compare/unet_vgg16-seed0", f"runs/{name}", dirs_exist_ok=True)
        if words[0] in ("eval", "predict", "push") and not Path(words[1]).is_dir():
            assert main(["train", Path(words[1]).name]) == 0
        assert main(words) in ((0, 1) if words[0] in ("check-data", "find-lr") else (0,)), line
        ran += 1
    assert ran > 25


def expanded(word):
    """Expand braces as a shell does; two words, two encoders and one epoch are enough."""
    word = re.sub(r"^train\.epochs=\d+$", "train.epochs=1", word)
    word = re.sub(r"^(model\.encoder=\w+,\w+),.*", r"\1", word)
    found = re.fullmatch(r"\{(.*)\}(\w+)", word)
    return [f"{each}{found[2]}" for each in found[1].split(",")[:2]] if found else [word]


def shrink(config):
    """Make the experiment that `segkit new` wrote a tiny one."""
    text = config.read_text().replace("name: vgg16_bn", "name: vgg16_bn\n    width: 0.0625")
    text = re.sub(r"^  epochs: \d+", "  epochs: 1", text, flags=re.M)
    if "width: 0.0625\n    width" not in text:
        config.write_text(text)
