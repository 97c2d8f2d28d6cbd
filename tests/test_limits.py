"""CPUs and memory of a process within affinity and control groups, of both versions."""

import os

import pytest

from segkit import limits

GROUP = "/slurm/job_7/step_0"


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups of a machine with 64 CPUs and 100 GB free; returns a writer of files."""
    monkeypatch.setattr(limits, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(limits, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(limits, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "meminfo").write_text("MemTotal: 200000000 kB\nMemAvailable: 100000000 kB\n")

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("_O_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_without_limits_all_counts(groups):
    groups(f"0::{GROUP}\n", cpu_O_max="max 100000\n", memory_O_max="max\n")
    assert limits.cpu_count() == 64
    assert limits.free_ram() == 102_400_000_000


@pytest.mark.parametrize("place", ["", "slurm__", "slurm__job_7__step_0__"])
def test_each_group_above_counts(place, groups):
    """In a container the group's own files are at the top, in a job somewhere above it."""
    files = {
        "cpu_O_max": "350000 100000\n",
        "memory_O_max": "1000000\n",
        "memory_O_current": "700000\n",
        "memory_O_stat": "anon 500000\ninactive_file 150000\n",
    }
    groups(f"0::{GROUP}\n", **{place + name: text for name, text in files.items()})
    assert limits.cpu_count() == 4
    assert limits.free_ram() == 450_000


def test_groups_of_version_1(groups):
    groups(
        f"4:memory:{GROUP}\n3:cpu,cpuacct:/other\n2:cpuset:{GROUP}\n1:name=systemd:/\n",
        cpu__other__cpu_O_cfs_quota_us="200000\n",
        cpu__other__cpu_O_cfs_period_us="100000\n",
        cpu__cpu_O_cfs_quota_us="-1\n",
        memory__slurm__job_7__memory_O_limit_in_bytes="9000000\n",
        memory__slurm__job_7__memory_O_usage_in_bytes="8000000\n",
        memory__slurm__job_7__memory_O_stat="total_inactive_file 300000\n",
    )
    assert limits.cpu_count() == 2
    assert limits.free_ram() == 1_300_000


def test_affinity_counts(groups, monkeypatch):
    groups("0::/\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 9, 11}, raising=False)
    assert limits.cpu_count() == 3


def test_less_than_nothing_is_nothing(groups):
    groups(
        "0::/\n",
        cpu_O_max="1000 100000\n",
        memory_O_max="100\n",
        memory_O_current="900\n",
        memory_O_stat="inactive_file 0\n",
    )
    assert limits.cpu_count() == 1
    assert limits.free_ram() == 0


def test_other_systems_have_neither(tmp_path, monkeypatch):
    for name in ("GROUPS", "OWN_GROUPS", "MEMINFO"):
        monkeypatch.setattr(limits, name, tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert limits.cpu_count() == 8
    assert limits.free_ram() is None
