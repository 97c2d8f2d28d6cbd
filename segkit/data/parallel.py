"""One function for many samples, on all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2

from segkit.errors import UserError

AT_ONCE = 64  # calls handed out together; a split may have 100,000 samples
T = TypeVar("T")
_function: Callable[[int], Any]  # of the pool at work; its processes inherit it


def in_parallel(function: Callable[[int], T], count: int) -> Iterator[T]:
    """Call a function with 0 to count - 1, several at a time, and give the results in order.

    By processes where they can be forked, as reading small files keeps Python itself busy.

    Raises:
        UserError: a process was killed.
    """
    global _function
    _function = function
    if count <= AT_ONCE:
        yield from map(function, range(count))
        return
    spans = [range(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
    pool = _pool()
    try:
        for results in pool.map(_call, spans):
            yield from results
    except BrokenProcessPool as error:
        raise UserError(
            "a process that reads the data was killed; if memory ran out, close other programs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _pool() -> ProcessPoolExecutor | ThreadPoolExecutor:
    if "fork" not in multiprocessing.get_all_start_methods():
        return ThreadPoolExecutor(os.cpu_count())
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(os.cpu_count(), context, initializer=_begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)


def _call(span: range) -> list[Any]:
    return [_function(index) for index in span]
