"""Stopping a run by a signal: after the step at the first one, at once at the second."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

from segkit.data.parallel import STOP


class StopSignals:
    """Notes that a signal has asked the run to stop, while it is entered.

    Outside the main thread, as in some notebooks and services, signals are left alone.
    """

    def __init__(self, shared: bool) -> None:
        self.shared = shared
        self.requested, self.asked = False, 0.0  # asked when, by the monotonic clock
        self.number = signal.SIGINT  # which one; not known where it came to another process

    def __enter__(self) -> StopSignals:
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            for number in STOP:
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # torchrun passes a terminal's Ctrl-C on to processes that have had it already
        again = self.requested and time.monotonic() - self.asked > 2
        if again or (self.requested and not self.shared):
            outer = self.before[signal.SIGINT]
            if not callable(outer):  # as in a background job
                raise KeyboardInterrupt
            outer(number, frame)
        if not self.requested:
            self.requested, self.asked = True, time.monotonic()
            self.number = signal.Signals(number)
