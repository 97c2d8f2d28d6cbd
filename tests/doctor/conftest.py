"""Drawn scenes of two splits, and their fingerprints."""

import pytest

from segkit.doctor.fingerprint import fingerprint
from segkit.streets import draw_scene


@pytest.fixture(scope="session")
def scenes():
    return [draw_scene(0, "train", index)[0] for index in range(40)]


@pytest.fixture(scope="session")
def prints(scenes):
    return [fingerprint(scene) for scene in scenes]


@pytest.fixture(scope="session")
def other_prints():
    return [fingerprint(draw_scene(0, "val", index)[0]) for index in range(20)]
