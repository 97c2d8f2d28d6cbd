"""What all processes agree on after each step, in one reduction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.distributed import Processes
from segkit.hardware import Hardware


class Agreed(NamedTuple):
    """Whether any process said so of a step."""

    unsound: bool = False  # its loss or gradient are not finite
    stop: bool = False  # a signal has asked the run to stop
    save: bool = False  # it is time for a checkpoint


class Agreement:
    """Sums what the processes have to say of a step.

    Args:
        late: learn of a step after the next one, so that nothing waits for the device.
    """

    def __init__(self, processes: Processes, hardware: Hardware, late: bool) -> None:
        self.processes = processes
        self.hardware = hardware
        self.late = late
        self.stop = self.save = False  # what this process asks for
        self.pending: deque[Callable[[], Tensor]] = deque()

    def reduce(self, unsound: Tensor) -> tuple[Tensor, Agreed]:
        """Sum what all say of this step.

        Args:
            unsound: on the device, more than zero if loss or gradient are not finite here.

        Returns:
            1 if it is so in any process, else 0, on the device; and what is known by now: of this
            step, or with `late` of the one before, if it was not told yet.
        """
        asked = [torch.full_like(unsound, flag) for flag in (self.stop, self.save)]
        votes = self.processes.all_reduce(torch.stack([unsound, *asked]))
        self.save = False
        self.pending.append(self.hardware.fetch(votes))
        agreed = self.read() if len(self.pending) > self.late else Agreed()
        return (votes[0] > 0).float(), agreed

    def read(self) -> Agreed:
        """Wait for the oldest step that was not told yet."""
        if not self.pending:
            return Agreed()
        return Agreed(*(vote > 0 for vote in self.pending.popleft()().tolist()))
