"""Drawn scenes of two splits, and their fingerprints."""

import pytest

from segkit.doctor.fingerprint import fingerprint
from segkit.streets import draw_scene


@pytest.fixture(scope="session")
def drawn():
    """Images and their masks."""
    return [draw_scene(0, "train", index) for index in range(40)]


@pytest.fixture(scope="session")
def scenes(drawn):
    return [image for image, _ in drawn]


@pytest.fixture(scope="session")
def prints(scenes):
    return [fingerprint(scene) for scene in scenes]


@pytest.fixture(scope="session")
def other_prints():
    return [fingerprint(draw_scene(0, "val", index)[0]) for index in range(20)]
