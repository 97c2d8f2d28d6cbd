"""Fixtures for every test: a tiny data set and an experiment on it, written as files."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

torch.set_num_threads(1)  # tiny networks gain nothing by more, and lose much on a busy machine

# for PYTHONPATH alone, and parts that only some tests may know
collect_ignore = ["elsewhere", "tools/my_parts.py"]
collect_ignore_glob = ["*conftest.py"]  # no doctests there; modules of one name would clash
COLORS = ((90, 160, 90), (220, 40, 40), (40, 60, 220))  # ground, box, bar
RAW_VALUES = (0, 10, 20)  # not the class indices, so that a forgotten label map shows
RAW_VOID = 99
SIZE = (40, 48)  # H, W


class TinySet(NamedTuple):
    """A data set of easy rectangles: `card` is its YAML file, `root` its folder."""

    root: Path
    card: Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = {}
    if not torch.cuda.is_available():
        lacking["gpu"] = pytest.mark.skip(reason="needs a CUDA device")
    if not hasattr(os, "fork"):
        lacking["fork"] = pytest.mark.skip(reason="needs fork")
    for item in items:
        # keywords also hold the names of folders
        for mark in {own.name for own in item.iter_markers()} & lacking.keys():
            item.add_marker(lacking[mark])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test remember what another has computed, or write to the user's cache."""
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tiny_set(tmp_path: Path) -> TinySet:
    """Six train and three val images of 40x48 in three classes, with a void frame at the right."""
    root = tmp_path / "tiny"
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            image, mask = _draw(rng)
            Image.fromarray(image).save(root / split / "images" / f"{split}_{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{split}_{index}.png")
    card = tmp_path / "tiny.yaml"
    card.write_text(yaml.safe_dump(tiny_card(), sort_keys=False), encoding="utf-8")
    return TinySet(root, card)


def tiny_card() -> dict[str, Any]:
    names = ("ground", "box", "bar")
    return {
        "name": "tiny",
        "root": "tiny",
        "splits": {s: {"images": f"{s}/images", "masks": f"{s}/masks"} for s in ("train", "val")},
        "classes": [{"name": n, "color": list(c)} for n, c in zip(names, COLORS, strict=True)],
        "label_map": {**dict(zip(RAW_VALUES, names, strict=True)), RAW_VOID: "ignore"},
        "source": "drawn by the tests",
    }


def _draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    _, width = SIZE
    classes = np.zeros(SIZE, np.uint8)
    top, left = rng.integers(2, 14), rng.integers(2, 20)
    classes[top : top + 14, left : left + 16] = 1
    top = rng.integers(28, 33)
    classes[top : top + 6, 4 : width - 6] = 2
    image = np.array(COLORS, np.int16)[classes] + rng.integers(-12, 13, (*SIZE, 3))
    mask = np.array(RAW_VALUES, np.uint8)[classes]
    mask[:, -3:] = RAW_VOID
    return image.clip(0, 255).astype(np.uint8), mask


@pytest.fixture
def tiny_config(tmp_path: Path, tiny_set: TinySet) -> Callable[..., Path]:
    """Write an experiment on the tiny set; call it with overrides by dotted key."""

    def write(overrides: dict[str, Any] | None = None, name: str = "tiny_run") -> Path:
        config: dict[str, Any] = {
            "run_dir": str(tmp_path / "run"),
            "precision": "fp32",
            "data": {"card": str(tiny_set.card), "batch_size": 2, "workers": 0},
            "model": {
                "encoder": {"name": "vgg11_bn", "width": 0.125},
                "decoder": {"name": "unet", "widths": [8, 8, 8, 8]},
            },
            "train": {"epochs": 2, "optimizer": {"name": "adamw", "lr": 3e-3}, "samples": 1},
        }
        for key, value in (overrides or {}).items():
            *sections, last = key.split(".")
            place = config
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run_dir(tiny_config: Callable[..., Path], tmp_path: Path) -> Path:
    """Train the tiny network a little, so that it predicts more than one class."""
    from segkit.config import load_config
    from segkit.experiment import Experiment
    from segkit.training.trainer import Trainer

    config = load_config(tiny_config({"train.epochs": 8}))
    Trainer(Experiment.from_config(config), tmp_path / "run").fit()
    return tmp_path / "run"


@pytest.fixture
def deterministic_algorithms() -> Iterator[None]:
    """Make torch refuse what differs from run to run, for one test."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def shared() -> Path:
    """Real data sets and weights, where they lie beside the checkout."""
    path = Path(__file__).parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is not there")
    return path
