"""Ctrl-C in a training that has loading processes, in quick succession."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["env.json", "checkpoints/last.pt", "metrics.csv"])
def test_twice_quickly_it_is_quiet_and_tears_nothing(begun, tiny_config, interruptible, tmp_path):
    settings = {"data.workers": 2, "train.epochs": 9999, "checkpoint.every": {"minutes": 1e-9}}
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/train.py", tiny_config(settings), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    run, chance = tmp_path / "run", random.Random(begun)
    while not (run / begun).exists() and process.poll() is None:
        time.sleep(0.002)
    for _ in range(2):
        time.sleep(chance.uniform(0, 0.02))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err in ("", "interrupted\n")  # nothing if the first one had been obeyed by then
    for path in run.glob("checkpoints/*.pt"):
        torch.load(path, weights_only=True)
    assert not list(run.rglob("*segkit-tmp*"))
