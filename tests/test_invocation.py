"""Hints name the command in the way that this process was started."""

import sys

import pytest

from segkit import invocation
from segkit.invocation import again, repeat, started_as

STARTS = {
    "/usr/bin/segkit": "segkit check-data card.yaml",
    "tools/train.py": "python tools/check_data.py card.yaml",
    "/home/me/segkit/tools/eval.py": "python /home/me/segkit/tools/check_data.py card.yaml",
    "/site-packages/segkit/__main__.py": "python -m segkit check-data card.yaml",
    "/site-packages/pytest/__main__.py": "segkit check-data card.yaml",
    "notebook.py": "segkit check-data card.yaml",
    "": "segkit check-data card.yaml",
}


@pytest.mark.parametrize("script", STARTS)
def test_as_the_user_called_it(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "train", "x"])
    assert again("check-data", "card.yaml") == STARTS[script]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/bin/segkit", "compare", "a b", "c"], "segkit compare 'a b' c"),
        (["tools/compare.py", "a b"], "python tools/compare.py 'a b'"),
        (["/lib/segkit/__main__.py", "compare", "a"], "python -m segkit compare a"),
    ],
)
def test_the_command_line_of_this_process(argv, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    assert repeat() == line


def test_training_goes_on_with_as_many_processes(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    monkeypatch.setattr(sys, "argv", ["tools/train.py"])
    assert again("train", "r").startswith("torchrun --nproc_per_node=2 tools/train.py r")
    assert again("eval", "r").startswith("python tools/eval.py r")
    monkeypatch.setattr(sys, "argv", ["/lib/segkit/__main__.py"])
    assert again("train", "r").startswith("torchrun --nproc_per_node=2 -m segkit train r")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "4")  # what else there was, is not known here
    assert again("train", "r").startswith("python -m segkit train r")


def test_imports_are_repeated(monkeypatch):
    monkeypatch.setattr(invocation, "imported", lambda: ("my parts.py",))
    assert again("eval", "r") == " ".join([*started_as("eval"), "r --import 'my parts.py'"])
