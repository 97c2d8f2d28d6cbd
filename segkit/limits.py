"""The CPUs, the memory and the open files that this process may use, in a job or elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def cpu_count() -> int:
    """Return the number of CPUs that affinity and control groups leave to the process."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        count = len(os.sched_getaffinity(0))
    shares = [math.ceil(share) for share in _cpu_shares()]
    return max(1, min([count, *shares]))


def free_ram() -> int | None:
    """Return the bytes of memory that the process can still take; None where nothing tells."""
    if not MEMINFO.exists():  # not Linux
        return None
    free = [1024 * _numbers(MEMINFO)["MemAvailable:"], *_free_in_groups()]
    return max(0, min(free))


def open_files() -> float:
    """Return how many files the process may have open; infinity where that has no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _cpu_shares() -> Iterator[float]:
    """Yield the CPU time that each control group of the process allows, in CPUs."""
    for group in _groups("cpu"):
        with suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text().split()
            if quota != "max":
                yield int(quota) / int(period)
        with suppress(OSError):
            microseconds = int((group / "cpu.cfs_quota_us").read_text())
            if microseconds > 0:
                yield microseconds / int((group / "cpu.cfs_period_us").read_text())


def _free_in_groups() -> Iterator[int]:
    """Yield the bytes that each control group of the process has left."""
    for group in _groups("memory"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError):  # "max" is no number
                left = int((group / limit).read_text()) - int((group / used).read_text())
                # what is cached of files is given up when needed
                yield left + _numbers(group / "memory.stat")[cache]


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the process's control groups, its own first; both versions of them."""
    with suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = GROUPS / controller if controllers else GROUPS
            own = root / path.lstrip("/")
            # in a container, the path may be that outside of it, and the root its own group
            yield from (group for group in (own, *own.parents) if group.is_relative_to(root))


def _numbers(file: Path) -> dict[str, int]:
    """Read a file with a name and a number on each line."""
    return {line.split()[0]: int(line.split()[1]) for line in file.read_text().splitlines()}
