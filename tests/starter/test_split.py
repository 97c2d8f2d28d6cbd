"""Setting images aside for validation."""

import pytest

from segkit.starter.split import share_out


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_about_a_fifth_at_random_and_never_none(count):
    names = [f"{i:03}" for i in range(count)]
    found = share_out(names, None)
    assert sorted(found["train"] + found["val"]) == names
    assert len(found["val"]) == max(1, round(count / 5))
    assert found == share_out(names, None)
    assert found["train"] == sorted(found["train"])
    assert count < 10 or found != share_out(names, None, seed=1)


def test_videos_stay_whole():
    names = [f"{video}_{frame:02}" for video in "abcdefgh" for frame in range(10)]
    found = share_out(names, r"^(.*?)\d+$")
    sides = [{name[0] for name in found[kind]} for kind in ("train", "val")]
    assert not sides[0] & sides[1]
    assert len(found["val"]) in (20, 30)


def test_of_few_videos_the_last_frames_are_set_aside():
    names = [f"{video}_{frame:02}" for video in "ab" for frame in range(10)]
    found = share_out(names, r"^(.*?)\d+$")
    assert found["val"] == ["a_08", "a_09", "b_08", "b_09"]
