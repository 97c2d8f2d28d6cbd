"""Loading processes that die or hang, reported where batches are fetched and nowhere else.

Torch's handler of SIGCHLD raises RuntimeError wherever the main thread happens to be. A handler
around it lets the error pass during a fetch alone; each fetch looks for dead workers first.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from segkit.errors import UserError

_fetching = False  # whether the main thread waits for a batch
_ours: Callable[..., Any] | None = None  # the handler around torch's


@contextmanager
def raised_as_user_errors(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Fetch within this context: a `UserError` says that a worker died or produced nothing."""
    global _fetching
    outer, _fetching = _fetching, True
    try:
        for worker in workers:
            if worker.exitcode is not None:
                raise RuntimeError(f"DataLoader worker (pid {worker.pid}) exited unexpectedly")
        yield
    except (ConnectionError, EOFError) as error:  # it died while we fetched what it had made
        raise _sentence("DataLoader worker ended before its batch was fetched") from error
    except RuntimeError as error:
        reason = str(error)
        # what a dataset raised in a worker is "Caught ... in DataLoader worker process 0"
        if "DataLoader" not in reason or reason.startswith("Caught"):
            raise
        raise _sentence(reason.partition("\n")[0].rstrip(". ")) from error
    finally:
        _fetching = outer
        if workers:
            _wrap_handler()


def _sentence(reason: str) -> UserError:
    return UserError(
        f"loading stopped: {reason}; if memory ran out, lower data.workers or use "
        "data.workers=0; if the disk is slow, data.cache=ram reads each file once"
    )


def _wrap_handler() -> None:
    """Put a handler around torch's, once it is there; signals reach the main thread alone."""
    global _ours
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() != threading.main_thread():
        return
    torchs = signal.getsignal(signal.SIGCHLD)
    if not callable(torchs) or torchs is _ours:
        return

    def handle(number: int, frame: Any) -> None:
        try:
            torchs(number, frame)
        except RuntimeError as error:
            if _fetching or "DataLoader" not in str(error):
                raise

    _ours = handle
    signal.signal(signal.SIGCHLD, handle)
