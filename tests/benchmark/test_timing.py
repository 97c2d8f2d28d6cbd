"""Seconds of a call, on a device with a clock of its own."""

from types import SimpleNamespace

import pytest
import torch

from segkit.benchmark import timing


@pytest.mark.parametrize(("device", "most_waits"), [("cpu", 10**5), ("cuda", 40)])
def test_waiting_for_a_gpu_is_not_counted_with_short_calls(device, most_waits, monkeypatch):
    """A call takes 1 ms on the device; a wait takes as long, but a CPU has done all by then."""
    now, waits = [0.0], []

    def work():
        now[0] += 1e-3

    def synchronize():
        waits.append(now[0])
        if device != "cpu":
            now[0] += 1e-3

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    hardware = SimpleNamespace(device=torch.device(device), synchronize=synchronize)
    assert timing.measure_seconds(work, hardware) == pytest.approx(1e-3, rel=0.02)
    assert len(waits) <= most_waits
