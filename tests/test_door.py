"""`import segkit`: light, complete, and worth a look by help()."""

import subprocess
import sys

import pytest

import segkit

OFFERED = [
    "Experiment", "Listener", "Predictor", "Trainer", "create_model", "describe", "evaluate",
    "load_config", "metrics", "register",
]  # fmt: skip


def test_what_is_offered_is_there_and_listed():
    for name in OFFERED:
        assert getattr(segkit, name) is not None
        assert name in dir(segkit)
        assert name in segkit.__doc__
    assert segkit.metrics.mean_iou([[0, 1]], [[0, 1]], num_classes=2) == 1
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        segkit.evaluat  # noqa: B018


def test_importing_it_loads_nothing():
    code = "import sys; before = set(sys.modules); import segkit; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = [name for name in done.stdout.split() if name.partition(".")[0] != "segkit"]
    assert not {"torch", "numpy", "pydantic", "rich", "cv2"} & {n.partition(".")[0] for n in others}
