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
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import cv2

from segkit.errors import UserError
from segkit.limits import cpu_count

# Ctrl-C, the end of a job, and the warning that SLURM sends before it, each perhaps to all
# processes; Windows has no SIGUSR1
STOP = {getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n)}
HELD = STOP | ({signal.SIGCHLD} if hasattr(signal, "SIGCHLD") else set())
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
    others = multiprocessing.active_children()
    pool: Executor
    try:
        if sys.platform == "darwin" or not hasattr(os, "fork"):
            raise OSError("processes cannot be forked safely")
        pool, results = _in_processes(function, spans)
    except OSError:  # or there are no semaphores, files or processes to be had
        for process in set(multiprocessing.active_children()) - set(others):
            process.kill()
            process.join()
        pool = ThreadPoolExecutor(cpu_count())
        results = pool.map(lambda span: [function(index) for index in span], spans)
    processes = [p for p in multiprocessing.active_children() if p not in others]
    try:
        for part in results:
            yield from part
    except BrokenProcessPool as error:
        pool.shutdown()  # waits for the processes
        raise UserError(
            f"a process that reads the data {how_ended(processes)}; if memory ran out, close "
            "other programs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_processes(
    function: Callable[[int], T], spans: list[range]
) -> tuple[Executor, Iterator[list[T]]]:
    context = multiprocessing.get_context("fork")
    # forked processes inherit the function, which need not be picklable
    pool = ProcessPoolExecutor(cpu_count(), context, _begin, (function,))
    with signals_held():
        return pool, pool.map(_call, spans)


def how_ended(processes: Iterable[BaseProcess]) -> str | None:
    """Say how one of some processes ended, after "a process"; None if all are there."""
    codes = [process.exitcode for process in processes if process.exitcode is not None]
    if not codes:
        return None
    code = min(codes, key=lambda code: code == -signal.SIGTERM)  # by which a pool ends the others
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with code {code}"


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
    """Start processes within: signals to stop wait until `init_worker` has them ignored.

    So does that of a process's end, of which torch's handler makes an error.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_room(processes: int) -> None:
    """See whether so many processes could be started and heard of, with what queues need.

    Raises:
        OSError: too few open files are allowed, or `/dev/shm`, where semaphores lie, is full or
            cannot be written.
    """
    queues: list[Any] = []
    try:
        for _ in range(2 * processes + 4):
            queues.append(multiprocessing.Queue())
    finally:
        for queue in queues:
            queue.close()


def init_worker(*_: object) -> None:
    """Leave signals to the parent, which may have a step to finish, and use one thread."""
    end_with_parent()
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
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
