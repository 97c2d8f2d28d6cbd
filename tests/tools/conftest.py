"""The command line tools, called in this process or started as a user would."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train() -> Callable[..., int]:
    """Run tools/train.py on the CPU; gives its exit code."""
    main = _load("train").main
    return lambda *arguments: main([*map(str, arguments), "--device", "cpu"])


@pytest.fixture
def evaluate() -> Callable[..., int]:
    """Run tools/eval.py on the CPU; gives its exit code."""
    main = _load("eval").main
    return lambda *arguments: main([*map(str, arguments), "--device", "cpu"])


@pytest.fixture
def compare() -> Callable[..., int]:
    """Run tools/compare.py on the CPU; gives its exit code."""
    main = _load("compare").main
    return lambda *arguments: main([*map(str, arguments), "--device", "cpu"])


@pytest.fixture
def predict() -> Callable[..., int]:
    """Run tools/predict.py on the CPU; gives its exit code."""
    main = _load("predict").main
    return lambda *arguments: main([*map(str, arguments), "--device", "cpu"])


@pytest.fixture
def check() -> Callable[..., int]:
    """Run tools/check_data.py; gives its exit code."""
    main = _load("check_data").main
    return lambda *arguments: main([*map(str, arguments)])


@pytest.fixture
def browse() -> Callable[..., int]:
    """Run tools/browse.py; gives its exit code."""
    main = _load("browse").main
    return lambda *arguments: main([*map(str, arguments)])


@pytest.fixture
def tool() -> Callable[..., int]:
    """Run a tool by its name; gives its exit code."""
    return lambda name, *arguments: _load(name).main([*map(str, arguments)])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let child processes receive SIGINT, which a shell makes background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(interruptible: None) -> Callable[..., subprocess.Popen]:
    """Start a tool in a process of its own, with CUDA hidden."""

    def run(tool: str, *arguments: Sequence[object]) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, ROOT / "tools" / tool, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )

    return run
