"""The run folder: what a run leaves behind, and refusing to overwrite another."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from segkit.checkpoint import BEST, LAST, PREVIOUS, load_checkpoint
from segkit.config import Config, dump_config
from segkit.errors import UserError
from segkit.hardware import Hardware
from segkit.processes import ALONE, Processes

Row = dict[str, Any]
TIMINGS = (
    "seconds_per_step",
    "images_per_second",
    "waiting_share",
)  # differ between equal runs, so metrics.csv has none


class RunFolder:
    """Paths below `run_dir`, and the small files there.

    Args:
        config: of the run.
        resume: whether the folder should hold a run already.

    Raises:
        UserError: the folder holds a run that is not to be resumed, holds none that could be, or
            cannot be written to.
    """

    def __init__(self, config: Config, resume: bool) -> None:
        self.path = Path(config.run_dir)
        self.last = self.path / "checkpoints" / LAST
        self.previous = self.path / "checkpoints" / PREVIOUS
        self.best = self.path / "checkpoints" / BEST
        self.samples = self.path / "samples"
        exists = holds_run(config)
        if exists and not resume:
            raise UserError(
                f"{self.path} already holds a run; add --resume to go on with it, or start another "
                "with --set run_dir=DIR"
            )
        if resume and not exists:
            raise UserError(f"nothing to resume: there is no {self.last}; leave out --resume")
        existing = next(p for p in [self.path, *self.path.resolve().parents] if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise self._unwritable(f"{existing} is not a folder one may write to")

    def find_last(self, notes: list[str]) -> Path:
        """Give the last checkpoint that is whole; a note says where that is the one before.

        Raises:
            UserError: neither can be read.
        """
        try:
            load_checkpoint(self.last)
        except UserError as error:
            if not self.previous.exists():
                raise
            notes.append(f"WARNING: {error}; going on from {self.previous} instead")
            return self.previous
        return self.last

    def create(self, config: Config, hardware: Hardware, processes: Processes = ALONE) -> None:
        """Make the folder and write the resolved config and the environment into it.

        Raises:
            UserError: the folder cannot be written to.
        """
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            self.last.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise self._unwritable(str(error)) from error
        self._write("config.yaml", dump_config(config))
        self._write("env.json", json.dumps(environment(hardware, processes), indent=2) + "\n")

    def _unwritable(self, reason: str) -> UserError:
        return UserError(
            f"cannot make the run folder {self.path}: {reason}; name another with --set run_dir=DIR"
        )

    def write_history(self, history: Sequence[Row]) -> None:
        """Write one row an epoch, whole each time, so that a resumed run leaves no double rows."""
        self._write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
        table = io.StringIO()
        columns = [key for key in history[-1] if key not in TIMINGS]
        writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        self._write("metrics.csv", table.getvalue())

    def _write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        temporary = self.path / f".{name}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.path / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(f"cannot write {self.path / name}: {error}") from error


def holds_run(config: Config) -> bool:
    """Tell whether the run folder has a checkpoint to go on from."""
    folder = Path(config.run_dir) / "checkpoints"
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def environment(hardware: Hardware, processes: Processes = ALONE) -> dict[str, Any]:
    """Describe what a run's outcome may depend on besides its config."""
    packages = ("segkit", "torch", "torchvision", "albumentations", "numpy", "torchmetrics")
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "device": str(hardware),
        "threads": torch.get_num_threads(),
        "processes": processes.count,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Give the commit of segkit's own checkout, with + for uncommitted changes."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+"]
        done = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
