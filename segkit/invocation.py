"""How this process was started, so that a hint can say what to type next."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from segkit.registry import imported


def started_as(command: str) -> list[str]:
    """Return the words that start a command in the way this process was started.

    >>> started_as("eval")  # from Python
    ['segkit', 'eval']
    """
    script = Path(sys.argv[0])
    if script.parent.name == "tools" and script.suffix == ".py":
        return ["python", str(script.with_name(f"{command.replace('-', '_')}.py"))]
    if script.name == "__main__.py" and script.parent.name == "segkit":
        return ["python", "-m", "segkit", command]
    return ["segkit", command]


def again(command: str, *words: str) -> str:
    """Return a command line, with the imports of this process and, for training, its processes.

    >>> again("eval", "runs/unet", "--split", "test")
    'segkit eval runs/unet --split test'
    """
    start = started_as(command)
    here = os.environ.get("LOCAL_WORLD_SIZE")
    if command == "train" and here and os.environ.get("GROUP_WORLD_SIZE") == "1":  # one machine
        script = start[1:] if start[0] == "python" else ["-m", *start]
        start = ["torchrun", f"--nproc_per_node={here}", *script]
    return _joined([*start, *words, *_import_options(imported())])


def repeat() -> str:
    """Return the command line of this process."""
    script, *words = sys.argv
    start = started_as(Path(script).stem)
    is_tool = start[-1].endswith(".py")
    return _joined([*(start if is_tool else start[:-1]), *words])


def import_hint(recorded: Sequence[str]) -> str:
    """Return a line that names the imports of a run which this process lacks; "" if none."""
    options = _import_options([name for name in recorded if name not in imported()])
    return f"\nit was trained with parts of your own: add {_joined(options)}" if options else ""


def _joined(words: Sequence[str]) -> str:
    """Quote words for the shell of the system."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def _import_options(modules: Sequence[str]) -> list[str]:
    return [word for name in modules for word in ("--import", name)]
