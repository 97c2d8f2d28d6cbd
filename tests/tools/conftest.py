"""The command line tools, called in this process or started as a user would."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from segkit.commands import main

ROOT = Path(__file__).parents[2]


def _command(name: str, *fixed: str) -> Callable[..., int]:
    return lambda *arguments: main([name, *map(str, arguments), *fixed])


@pytest.fixture
def train() -> Callable[..., int]:
    """Run `segkit train` on the CPU; gives its exit code."""
    return _command("train", "--device", "cpu")


@pytest.fixture
def evaluate() -> Callable[..., int]:
    """Run `segkit eval` on the CPU; gives its exit code."""
    return _command("eval", "--device", "cpu")


@pytest.fixture
def compare() -> Callable[..., int]:
    """Run `segkit compare` on the CPU; gives its exit code."""
    return _command("compare", "--device", "cpu")


@pytest.fixture
def predict() -> Callable[..., int]:
    """Run `segkit predict` on the CPU; gives its exit code."""
    return _command("predict", "--device", "cpu")


@pytest.fixture
def check() -> Callable[..., int]:
    """Run `segkit check-data`; gives its exit code."""
    return _command("check-data")


@pytest.fixture
def browse() -> Callable[..., int]:
    """Run `segkit browse`; gives its exit code."""
    return _command("browse")


@pytest.fixture
def tool() -> Callable[..., int]:
    """Run a command by its name; gives its exit code."""
    return lambda name, *arguments: main([name, *map(str, arguments)])


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
