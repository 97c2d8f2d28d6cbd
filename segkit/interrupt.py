"""Ctrl-C in a command is quiet whenever it comes: exit code 130, no traceback, no torn file."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

PATIENCE_S = 2.0  # another interrupt within this time says nothing new: torchrun passes them on
INTERRUPTED = 130

unfinished: set[Path] = set()  # temporary files that are being written


class Interrupts:
    """Handles SIGINT for the length of a command.

    Before the work, and while modules are imported, it ends the process at once. During the work
    it raises `KeyboardInterrupt`, so that what was begun is undone; once, as the next one would
    come in the midst of that.
    """

    def __init__(self) -> None:
        self.working = False
        self.raised: float | None = None  # when, by the monotonic clock

    def install(self) -> None:
        """Take SIGINT over, unless it is ignored, as in a background job."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.handle)
            sys.unraisablehook = _leave_if_interrupted(sys.unraisablehook)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise `KeyboardInterrupt`, or end the process."""
        if not self.working or (self.raised is None and _is_importing(frame)):
            leave()
        if self.raised is None:
            self.raised = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self.raised > PATIENCE_S:
            leave()


def leave() -> NoReturn:
    """End the process at once, but leave no temporary file and no hidden cursor."""
    for path in list(unfinished):
        with suppress(OSError):
            path.unlink()
    with suppress(Exception):  # whatever it is doing may be that which was interrupted
        sys.stdout.flush()
    with suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h")
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of torchrun's processes here
            os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether an import is going on: its callbacks and C code lose or print exceptions."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _leave_if_interrupted(before: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a hook for exceptions that nobody can catch, as in a destructor."""

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            leave()
        before(unraisable)

    return hook
