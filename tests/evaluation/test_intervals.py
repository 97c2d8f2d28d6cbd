"""Bootstrap intervals: how images are drawn, and how often the interval holds the truth."""

import re
from itertools import product

import numpy as np
import pytest

from segkit.errors import UserError
from segkit.evaluation import patterns
from segkit.evaluation.intervals import MIN_BLOCKS, Resampling, group_sequences, resample

NAMES = [f"a_{i:03}" for i in range(7)] + [f"b_{i:03}" for i in range(5)]


@pytest.mark.parametrize("block", [1, 3, 5])
def test_each_sample_has_as_many_images(block):
    drawn = resample(NAMES, None, block)
    assert np.array_equal(drawn.draws.sum(1), np.full(len(drawn.draws), len(NAMES)))
    # every image is drawn as often as any other
    np.testing.assert_allclose(drawn.draws.mean(0), 1, atol=0.12)


def test_blocks_are_of_consecutive_frames_of_one_sequence():
    possible = three_blocks()
    for sample in resample(NAMES, "^(.)_", block=4).draws[:200]:
        assert tuple(sample) in possible


def three_blocks():
    """How often each of the 12 frames is drawn, for any three whole blocks of four."""
    blocks = []
    for start in range(12):
        first, length = (0, 7) if start < 7 else (7, 5)
        counts = [0] * 12
        for k in range(4):
            counts[first + (start - first + k) % length] += 1
        blocks.append(counts)
    return {
        tuple(map(sum, zip(*chosen, strict=True))) for chosen in product(blocks, blocks, blocks)
    }


def test_sequences_are_told_by_their_names():
    groups = group_sequences(["x_1", "y_1", "x_2", "lonely"], "^(.)_")
    assert [list(group) for group in groups] == [[0, 2], [1], [3]]
    assert [list(group) for group in group_sequences(NAMES, None)] == [list(range(12))]


def test_names_are_grouped_as_re_would():
    names = ["a_1", "b", "\udcff_2", "é_3", "a_4"]
    for pattern in ("^(.)_", "(x)?", "(.*)", "([^_]+)$"):
        captured = [(match := re.search(pattern, name)) and match[1] for name in names]
        matched = [re.search(pattern, name) is not None for name in names]
        keys = [c if m else n for c, m, n in zip(captured, matched, names, strict=True)]
        expected = [[i for i, k in enumerate(keys) if k == key] for key in dict.fromkeys(keys)]
        assert [list(group) for group in group_sequences(names, pattern)] == expected


def test_a_pattern_that_never_ends_is_told(monkeypatch):
    monkeypatch.setattr(patterns, "LIMIT_S", 0.5)
    with pytest.raises(
        UserError, match=r"sequences: the card's pattern '\(a\+\)\+\$' takes longer"
    ):
        group_sequences(["a" * 40 + "b"], "(a+)+$")


def test_videos_are_drawn_in_blocks_unless_the_user_says_otherwise():
    assert resample(NAMES, None).block == 1
    assert resample(NAMES, "^(.)_").block == 10
    assert resample(NAMES, "^(.)_", 3).block == 3


def test_the_same_seed_gives_the_same_draws():
    one, same, other = (resample(NAMES, None, seed=seed).draws for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def interval_of_mean(values, block=1):
    drawn = resample(NAMES[: len(values)], None, block)
    return drawn.interval(drawn.of_means(np.array(values)))


def test_too_few_images_have_no_interval():
    assert interval_of_mean([0.5] * 9) is None
    assert interval_of_mean([0.5] * 10) == (0.5, 0.5)
    assert interval_of_mean([0.5] * 12, block=2) is None


def test_blocks_are_counted_that_do_not_overlap():
    assert resample(NAMES).blocks == 12
    assert resample(NAMES, block=4).blocks == 3
    assert resample(NAMES, "^(.)_").blocks == 2  # both shorter than a block
    assert resample(NAMES, "^(.)_", block=2).blocks == 3 + 2


def test_images_without_a_value_are_left_out():
    assert interval_of_mean([0.25, np.nan] * 6) == (0.25, 0.25)  # of 12 images
    assert np.isnan(interval_of_mean([np.nan] * 12)).all()


def test_sums_of_counts_are_drawn_before_the_statistic():
    counts = np.array([[1, 2], [30, 40], [5, 10]])
    drawn = Resampling(np.array([[3.0, 0, 0], [1, 1, 1], [0, 0, 3]]), block=1, blocks=3)
    assert drawn.of_sums(counts, lambda sums: sums).tolist() == [[3, 6], [36, 52], [15, 30]]


def coverage_of_mean(images, trials=2000):
    """How often the interval of the mean of normal values holds the true mean."""
    drawn = resample([f"{i:04}" for i in range(images)]).draws / images
    values = np.random.default_rng(0).normal(size=(images, trials))
    low, high = np.percentile(drawn @ values, [2.5, 97.5], axis=0)
    return ((low <= 0) & (high >= 0)).mean()


def test_the_fewest_blocks_hold_the_truth_90_percent_of_the_time():
    assert coverage_of_mean(MIN_BLOCKS) == pytest.approx(0.9, abs=0.02)
    assert coverage_of_mean(MIN_BLOCKS // 2) < 0.86


def coverage(block, memory, images=80, trials=300):
    """How often the interval of a ratio of sums holds the true ratio; frames resemble the last."""
    rng = np.random.default_rng(0)
    names = [f"{i:04}" for i in range(images)]
    held = 0
    drawn = resample(names, None, block)
    for _ in range(trials):
        noise = rng.normal(size=images)
        for i in range(1, images):
            noise[i] = memory * noise[i - 1] + np.sqrt(1 - memory**2) * noise[i]
        share = 1 / (1 + np.exp(-noise))  # its mean is a half
        truth = rng.integers(50, 150, images)
        counts = np.stack([rng.binomial(truth, share), truth], 1)
        low, high = drawn.interval(drawn.of_sums(counts, lambda sums: sums[:, 0] / sums[:, 1]))
        held += low <= 0.5 <= high
    return held / trials


def test_95_percent_of_the_intervals_hold_the_truth():
    assert 0.92 <= coverage(block=1, memory=0) <= 0.975


def test_frames_of_a_video_need_blocks():
    assert coverage(block=1, memory=0.8) < 0.65
    assert coverage(block=10, memory=0.8, images=160) > 0.8
