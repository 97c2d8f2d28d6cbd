"""Commands of segkit in processes forked from one that has imported everything: quick, and real."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from segkit.commands import main

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["segkit.commands", "segkit.training.trainer", "forked"])
HANGS = 90  # seconds after which a command is taken to hang
LINGERS = 10  # seconds that a command's other processes have to end after it


class Done(NamedTuple):
    """How a command ended: its exit code, negative for a signal, and all that it said."""

    code: int
    said: str


class Command:
    """A command in a session of its own, with `prepare` called in it first."""

    def __init__(
        self,
        words: list[object],
        output: Path,
        environment: dict[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        told = {"SEGKIT_CACHE": os.environ["SEGKIT_CACHE"], **(environment or {})}
        self.output = output
        self.process = FORKS.Process(
            target=_run, args=(list(map(str, words)), output, told, prepare)
        )
        self.process.start()

    def members(self) -> list[int]:
        """Return the processes of the session that are alive, the first one's included."""
        return [pid for pid, session, state in _processes() if session == self.pid and state != "Z"]

    @property
    def pid(self) -> int:
        """The first process, which names the session."""
        assert self.process.pid
        return self.process.pid

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the first process or to all; one that has ended takes none."""
        for pid in self.members() if group else [self.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def wait(self) -> Done:
        """Wait for the end.

        Raises:
            AssertionError: it hangs, leaves a process behind, or shows a traceback.
        """
        self.process.join(HANGS)
        hangs = self.process.is_alive()
        deadline = time.monotonic() + LINGERS
        while not hangs and self.members() and time.monotonic() < deadline:
            time.sleep(0.02)
        left = self.members()
        self.signal(9, group=True)
        self.process.join(LINGERS)
        said = self.output.read_text("utf-8", "replace") if self.output.exists() else ""
        assert not hangs, f"it hangs; it said: {said}"
        assert not left, f"processes {left} stay; it said: {said}"
        assert "Traceback" not in said, said
        return Done(self.process.exitcode, said)


def _run(words: list[str], output: Path, told: dict[str, str], prepare: Callable | None) -> None:
    os.setsid()
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", **told}
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for loading; a fork's own is its server
    if prepare:
        prepare()
    sys.exit(main(words))


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield number, session and state of each process there is."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            yield int(folder.name), int(fields[3]), fields[0]
