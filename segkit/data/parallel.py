"""A map over many samples on all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import cv2

from segkit.errors import UserError
from segkit.limits import cpu_count

# Ctrl-C, the end of a job, and the warning that SLURM sends before it, each perhaps to all
# processes; Windows has no SIGUSR1
STOP = {getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n)}
AT_ONCE = 64  # calls handed out together; a split may have 100,000 samples
T = TypeVar("T")


def parallel_map(function: Callable[[int], T], count: int) -> Iterator[T]:
    """Call a function with 0 to count - 1 on all cores, and yield the results in order.

    Processes do it where they can be forked, as reading small files keeps Python itself busy.
    Under macOS they can, but torch's and OpenCV's threads may end in it.
    """
    if count <= AT_ONCE:
        yield from map(function, range(count))
        return
    spans = [range(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
    pool: Executor
    if hasattr(os, "fork") and sys.platform != "darwin":
        context = multiprocessing.get_context("fork")
        # forked processes inherit the function, which need not be picklable
        pool = ProcessPoolExecutor(cpu_count(), context, _begin, (function,))
        with signals_held():
            results = pool.map(_call, spans)
    else:
        pool = ThreadPoolExecutor(cpu_count())
        results = pool.map(lambda span: [function(index) for index in span], spans)
    try:
        for part in results:
            yield from part
    except BrokenProcessPool as error:
        raise UserError(
            "a process that reads the data was killed; if memory ran out, close other programs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(calls: Iterable[Callable[[], T]], threads: int) -> Iterator[T]:
    """Do calls beside each other, and beside what produces them; yield the results in order.

    Args:
        calls: a few are taken ahead of the results.
        threads: number of calls at once; 0 does one after the other in this thread.
    """
    if threads == 0:
        yield from (call() for call in calls)
        return
    pending: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for call in calls:
            pending.append(pool.submit(call))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_function: Callable[[int], Any]  # of a process of the pool


def _begin(function: Callable[[int], Any]) -> None:
    global _function
    _function = function
    init_worker()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # how the pool ends us where another one died


@contextmanager
def signals_held() -> Iterator[None]:
    """Start processes within: signals to stop wait until `init_worker` has them ignored."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def init_worker(*_: object) -> None:
    """Leave signals to the parent, which may have a step to finish, and use one thread."""
    end_with_parent()
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    cv2.setNumThreads(0)


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(span: range) -> list[Any]:
    return [_function(index) for index in span]
