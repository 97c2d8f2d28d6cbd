"""Loading processes that die or hang, reported where batches are fetched and nowhere else.

Torch's handler of SIGCHLD raises RuntimeError wherever the main thread happens to be. In a
finalizer or a hook of fork, Python prints a traceback and goes on. So the handler is silenced: each
fetch looks for dead workers first, and now and then while it waits.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from segkit.data.parallel import how_ended
from segkit.errors import UserError

T = TypeVar("T")

_silent: Callable[..., Any] | None = None  # the handler around torch's


def fetch(batches: Iterator[T], workers: Sequence[BaseProcess], patience_s: float) -> T | None:
    """Return the next batch of a `DataLoader` with a short timeout; None after the last.

    Raises:
        UserError: a worker died, or there was no batch for so many seconds.
    """
    until = time.monotonic() + patience_s
    while True:
        with raised_as_user_errors(workers):
            try:
                return next(batches, None)
            except RuntimeError as error:
                if "DataLoader timed out" not in str(error):
                    raise
        if time.monotonic() >= until:
            raise _sentence(f"no batch came for {patience_s:g} s")


@contextmanager
def raised_as_user_errors(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Fetch within this context: a `UserError` says how a worker died."""
    try:
        if end := how_ended(workers):
            raise _sentence(f"a loading process {end}")
        yield
    except (ConnectionError, EOFError, RuntimeError) as error:
        reason = str(error)
        # what a dataset raised in a worker is "Caught ... in DataLoader worker process 0"
        if isinstance(error, RuntimeError) and (
            "DataLoader" not in reason or reason.startswith("Caught")
        ):
            raise
        dying = wait([worker.sentinel for worker in workers], timeout=1 if workers else 0)
        for worker in workers:
            if worker.sentinel in dying:
                worker.join()
        end = how_ended(workers) or "ended before its batch was fetched"
        raise _sentence(f"a loading process {end}") from error


def _sentence(reason: str) -> UserError:
    return UserError(
        f"loading stopped: {reason}; if memory ran out, lower data.workers or use "
        "data.workers=0; if the disk is slow, data.cache=ram reads each file once"
    )


def silence_handler() -> None:
    """Put a handler around torch's, which is there since the first worker was started."""
    global _silent
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() != threading.main_thread():
        return
    torchs = signal.getsignal(signal.SIGCHLD)
    if not callable(torchs) or torchs is _silent:
        return

    def handle(number: int, frame: Any) -> None:
        try:
            torchs(number, frame)
        except RuntimeError as error:
            if "DataLoader" not in str(error):
                raise

    _silent = handle
    signal.signal(signal.SIGCHLD, handle)
